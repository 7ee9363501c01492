/**
 * Pages of the outbox: its events in position order, bounded in number and in bytes, with the floor of the same snapshot:
 * the SQL of reads that may be large.
 */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import { batchOfText, NO_EVENTS, type Batch } from './batch.js';
import type { Interest } from './channels.js';
import type { Tables } from './database.js';
import type { Cursor } from './log.js';
import { refuseStandby } from './standby.js';

/** A row as the tail needs it. */
export interface Row {
  id: string;
  position: string;
  channel: string;
  event: string;
  data: string;
  /** When it was inserted, in milliseconds since 1970. */
  created: number;
}

interface Bounds {
  /** Events were cut off, so that the page has no more bytes than were asked for. */
  readonly isCut: boolean;
  readonly floor: Cursor;
}

/** Bytes that a row is taken to cost beside its payload: the frame's fields. */
export const ROW_BYTES = 100;

/** How many positions one read for a prefix may look at, matching or not: bounds the work of a read that finds little. */
export const SLICE = 20_000n;

/** When a row was inserted, in milliseconds since 1970. */
export const CREATED = sql`(extract(epoch FROM created_at) * 1000)::double precision`;

/** An event's data as it is delivered. */
const TEXT = sql`coalesce(data #>> '{}', 'null')`;

/** The same as it stands in a frame: each line break begins a line of its own. Plain replacing is quick, by patterns it takes minutes. */
const LINES = sql`replace(replace(replace(text, E'\\r\\n', E'\\n'), E'\\r', E'\\n'), E'\\n', E'\\ndata: ')`;

/**
 * An event's frame, byte for byte as `encodeEvent` makes it but for the chunk, which a test holds it to. Replays are framed in the database because
 * a page is then one value: rows would each be parsed, and made objects of, for four times the work of the relay.
 *
 * Names have no control characters, by the table's checks, and only a JSON string has line breaks in its text.
 */
const FRAME = sql`'id: ' || id || CASE event WHEN 'message' THEN E'\\ndata: ' ELSE E'\\nevent: ' || event || E'\\ndata: ' END
  || CASE jsonb_typeof(data) WHEN 'string' THEN ${LINES} ELSE text END || E'\\n\\n'`;

/** How many rows a read for few may find, less one; and what each may have stored. */
export const FEW = 16;
const FEW_BYTES = 2000;

/**
 * What follows `after`, of all channels, where that is few and small rows, as it is mostly when the tail is rung. Otherwise undefined:
 * `rowsAfter` is for any number of any size, and takes a quarter more time.
 */
export async function fewRowsAfter(
  db: Kysely<Tables>,
  after: bigint,
): Promise<{ readonly rows: readonly Row[]; readonly floor: Cursor } | undefined> {
  const { rows } = await sql<Omit<Row, 'data'> & { data: string | null; floorId: string } & FloorRow>`
    SELECT id, position, channel::text, event::text, ${CREATED} AS created,
      CASE WHEN pg_column_size(data) > ${FEW_BYTES} THEN NULL ELSE ${TEXT} END AS data,
      (SELECT id FROM here.outbox_floor LIMIT 1) AS "floorId", (SELECT position FROM here.outbox_floor LIMIT 1) AS floor,
      pg_is_in_recovery() AS standby
    FROM here.outbox WHERE position > ${after} ORDER BY position LIMIT ${FEW}`.execute(db);
  const [first] = rows;
  refuseStandby(first);
  if (first === undefined || rows.length === FEW || !rows.every(isWhole)) return undefined;
  return { rows, floor: floorIn({ ...first, id: first.floorId }) };
}

function isWhole<T extends { readonly data: string | null }>(row: T): row is T & { readonly data: string } {
  return row.data !== null;
}

/** What follows `after`, of all channels. */
export async function rowsAfter(
  db: Kysely<Tables>,
  after: bigint,
  limit: number,
  bytes: number,
): Promise<Bounds & { readonly rows: readonly Row[] }> {
  const query = sql`
    SELECT id, position, channel, event, data, created_at FROM here.outbox
    WHERE position > ${after} ORDER BY position LIMIT ${limit}`;
  const { rows } = await sql<Row & { isCut: true | null } & FloorRow>`
    WITH page AS MATERIALIZED (${sized(query, sql`id, position, channel, event, created_at, data`)})
    SELECT * FROM (
      SELECT position, id, channel::text, event::text, text AS data, ${CREATED} AS created,
        CASE WHEN through >= ${bytes} THEN true END AS "isCut", NULL AS floor, NULL AS standby
      FROM (${cut(bytes)}) cut
      UNION ALL
      SELECT -1, id, NULL, NULL, NULL, NULL, NULL, position, pg_is_in_recovery() FROM (${FLOOR}) floor
    ) page ORDER BY position`.execute(db);
  const floor: FloorRow | undefined = rows.shift();
  refuseStandby(floor);
  return { rows, isCut: rows.at(-1)?.isCut === true, floor: floorIn(floor) };
}

/** A page of history, framed. */
export interface FramedPage {
  readonly events: Batch;
  /** Position up to which everything that matches is in `events`. */
  readonly through: bigint;
  /** Size of the first event, in bytes, where that alone is larger than the page may be: then there is no event. */
  readonly needs: number | undefined;
  /** How many rows were candidates. What was cut off is on the next page. */
  readonly candidates: number;
  readonly isCut: boolean;
  readonly floor: Cursor;
  /** Of each event its channel, by its place among those that were asked for; only for many channels. */
  readonly channels: readonly number[] | undefined;
}

export interface FramedQuery {
  readonly interest: Interest;
  readonly after: bigint;
  /** What is above it is not looked at. */
  readonly head: bigint;
  /** Most events. */
  readonly limit: number;
  /** Most bytes of frames, or one event that has no more: what a page is counted as is what is sent. */
  readonly bytes: number;
  /** For many channels: how many keys of each are looked at. */
  readonly keys: readonly number[];
}

/** For so few channels each is read as if there were no other: it costs no more than so many times what is delivered. */
export const FEW_CHANNELS = 4;

/** What matches and follows `after`. For an interest with prefixes, within `SLICE` positions. */
export async function framesAfter(db: Kysely<Tables>, asked: FramedQuery): Promise<FramedPage> {
  const { interest, after, head, bytes } = asked;
  const isWalk = interest.prefixes.length > 0;
  const query = isWalk ? walk(asked) : interest.channels.length > FEW_CHANNELS ? merged(asked) : channelsAfter(asked);
  // The rows reach the aggregates in order: an ORDER BY in each would sort them anew.
  const { rows } = await sql<FramedRow & FloorRow>`
    WITH page AS MATERIALIZED (${sized(query, sql`id, position, event, data, channel, complete`)})
    SELECT framed.*, floor.id, floor.position AS floor, pg_is_in_recovery() AS standby
    FROM (${FLOOR}) floor, (
      SELECT string_agg(${FRAME}, '') FILTER (WHERE fits) AS frames, string_agg(position::text, ' ') FILTER (WHERE fits) AS positions,
        string_agg(channel::text, ' ') FILTER (WHERE fits) AS channels, count(*)::integer AS candidates,
        coalesce(max(through) >= ${bytes}, false) AS "isCut", min(through) FILTER (WHERE n = 1 AND NOT fits)::integer AS needs,
        max(complete) AS complete
      FROM (SELECT *, through <= ${bytes} AS fits FROM (${cut(bytes)}) cut) judged
    ) framed`.execute(db);
  const [page] = rows;
  refuseStandby(page);
  const events =
    page === undefined || page.frames === null ? NO_EVENTS : batchOfText(page.frames, page.positions ?? '');
  const candidates = page?.candidates ?? 0;
  const isCut = page?.isCut === true;
  let through = isWalk ? min(head, after + SLICE) : head;
  // Of many channels, as far as the one goes of which the least is known.
  if (page?.complete != null) through = min(through, BigInt(page.complete));
  if (isCut || candidates >= asked.limit) through = events.last?.position ?? after;
  return {
    events,
    through,
    needs: page?.needs ?? undefined,
    candidates,
    isCut,
    floor: floorIn(page),
    channels: page?.channels?.split(' ').map(Number),
  };
}

interface FramedRow {
  frames: string | null;
  positions: string | null;
  channels: string | null;
  candidates: number;
  isCut: boolean;
  needs: number | null;
  complete: string | null;
}

/** Rows of an index that a query may look at in the order of the index: the planner then has no other way that is as good. */
const IN_ORDER = sql.lit(2000);

/**
 * Each channel's next events by the (channel, position) index, then the first of them all.
 *
 * Said as a row comparison and ordered by both columns, so that no other index can give the order: with `channel = …` and
 * the plain `ORDER BY position` the planner may walk positions, through every event of every channel, for a rare one.
 */
function channelsAfter({ interest, after, head, limit }: FramedQuery): RawBuilder<unknown> {
  return sql`
    SELECT o.id, o.position, o.event, o.data, NULL::integer AS channel, NULL::bigint AS complete
    FROM unnest(${interest.channels}::text[]) AS wanted(channel) CROSS JOIN LATERAL (
      SELECT id, position, event, data FROM here.outbox
      WHERE (outbox.channel, position) > (wanted.channel, ${after}::bigint) AND outbox.channel <= wanted.channel
        AND position IS NOT NULL AND position <= ${head}
      ORDER BY outbox.channel, position LIMIT ${limit}
    ) o ORDER BY o.position LIMIT ${limit}`;
}

/**
 * The same for many channels. Reading a whole page of each would be a hundred times what is delivered. So of each only some keys are
 * read, from the index alone; up to the least position at which one of them may go on, nothing is missing; and only rows up to
 * there are read.
 */
function merged({ interest, after, head, limit, keys }: FramedQuery): RawBuilder<unknown> {
  return sql`
    SELECT o.id, ahead.position, o.event, o.data, ahead.channel, ahead.complete FROM (
      WITH keys AS MATERIALIZED (
        SELECT wanted.n::integer AS channel, wanted.most, next.position
        FROM unnest(${interest.channels}::text[], ${keys}::integer[]) WITH ORDINALITY AS wanted(channel, most, n) CROSS JOIN LATERAL (
          SELECT position FROM (
            SELECT position FROM here.outbox
            WHERE (outbox.channel, position) > (wanted.channel, ${after}::bigint) AND outbox.channel <= wanted.channel
              AND position IS NOT NULL AND position <= ${head}
            ORDER BY outbox.channel, position LIMIT ${IN_ORDER}
          ) nearest LIMIT wanted.most
        ) next
      ), complete AS MATERIALIZED (
        SELECT min(last) AS position FROM (
          SELECT max(position) AS last FROM keys GROUP BY channel, most HAVING count(*) = most) full_ones
      )
      SELECT keys.position, keys.channel, complete.position AS complete FROM keys, complete
      WHERE complete.position IS NULL OR keys.position <= complete.position
      ORDER BY keys.position LIMIT ${limit}
    ) ahead CROSS JOIN LATERAL (
      SELECT id, event, data FROM here.outbox WHERE outbox.position = ahead.position LIMIT 1
    ) o`;
}

/**
 * A prefix may stand for any number of channels: walks positions, a slice at a time, and keeps what matches. Of sorted prefixes that
 * do not cover each other only the last up to a channel can start it, so a hundred cost hardly more than one.
 */
function walk({ interest, after, head, limit }: FramedQuery): RawBuilder<unknown> {
  // Column and patterns compare by code point (collation "C"), as their bytes in UTF-8 do, and not as strings do here.
  const prefixes = [...interest.prefixes].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return sql`
    SELECT id, position, event, data, NULL::integer AS channel, NULL::bigint AS complete FROM here.outbox
    WHERE position > ${after} AND position <= ${min(head, after + SLICE)}
      AND (channel = ANY (${interest.channels}::text[]) OR starts_with(channel::text,
        (${prefixes}::text[])[width_bucket(channel::text COLLATE "C", ${prefixes}::text[] COLLATE "C")]))
    ORDER BY position LIMIT ${limit}`;
}

/** Texts up to this size are kept from being measured until they are framed; larger ones are made once more. */
const KEPT_BYTES = 16 * 1024;

/**
 * Of a query for rows in position order: each with the bytes that its data has as sent, and those of all rows up to it. With `cut` it
 * makes no text of what comes after the page: texts can be thousands of times the size that is stored. For that the rows have to
 * come in order by themselves. Each ORDER BY here also keeps the planner from making a text wherever it is mentioned.
 */
function sized(query: RawBuilder<unknown>, columns: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`
    SELECT *, row_number() OVER rows AS n, sum(${sql.lit(ROW_BYTES)} + size) OVER rows AS through FROM (
      SELECT ${columns}, CASE WHEN octet_length(text) <= ${sql.lit(KEPT_BYTES)} THEN text END AS kept,
        CASE jsonb_typeof(data) WHEN 'string' THEN octet_length(${LINES}) ELSE octet_length(text) END AS size
      FROM (SELECT *, ${TEXT} AS text FROM (${query}) candidates ORDER BY position) texts ORDER BY position
    ) measured WINDOW rows AS (ORDER BY position ROWS UNBOUNDED PRECEDING)`;
}

/**
 * The rows of a CTE `page`, each with its text, up to the first with which they reach `bytes`. A CTE is read no further than it is asked
 * for (PostgreSQL manual, "Common Table Expression Materialization").
 */
function cut(bytes: number): RawBuilder<unknown> {
  return sql`
    SELECT *, coalesce(kept, ${TEXT}) AS text
    FROM page LIMIT (SELECT n FROM page WHERE through >= ${bytes} LIMIT 1)`;
}

/**
 * The floor, which has to be of the page's snapshot. LIMIT, because the planner takes a table that was never analyzed for
 * thousands of rows, and for what it thinks they cost would compile each read to machine code (jit_above_cost).
 */
const FLOOR = sql`SELECT id, position FROM here.outbox_floor LIMIT 1`;

interface FloorRow {
  readonly id: string;
  readonly floor: string;
  readonly standby: boolean;
}

function floorIn(row: FloorRow | undefined): Cursor {
  return { id: row?.id ?? '0', position: BigInt(row?.floor ?? 0) };
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
