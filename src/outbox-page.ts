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

/**
 * An event's frame, byte for byte as `encodeEvent` makes it but for the chunk, which a test holds it to. Replays are framed in the database because
 * a page is then one value: rows would each be parsed, and made objects of, for four times the work of the relay.
 *
 * Names have no control characters, by the table's checks, and only a JSON string has line breaks in its text.
 */
const FRAME = sql`'id: ' || id || CASE event WHEN 'message' THEN E'\\ndata: ' ELSE E'\\nevent: ' || event || E'\\ndata: ' END
  || CASE jsonb_typeof(data) WHEN 'string' THEN regexp_replace(data #>> '{}', E'\\r\\n|\\r|\\n', E'\\ndata: ', 'g') ELSE ${TEXT} END
  || E'\\n\\n'`;

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
    SELECT * FROM (
      SELECT position, id, channel::text, event::text, ${TEXT} AS data, ${CREATED} AS created,
        CASE WHEN through >= ${bytes} THEN true END AS "isCut", NULL AS floor, NULL AS standby
      FROM (${sized(query, bytes)}) sized
      UNION ALL
      SELECT -1, id, NULL, NULL, NULL, NULL, NULL, position, pg_is_in_recovery() FROM (${FLOOR}) floor
    ) page ORDER BY position`.execute(db);
  const floor: FloorRow | undefined = rows.shift();
  refuseStandby(floor);
  return { rows, isCut: rows.at(-1)?.isCut === true, floor: floorIn(floor) };
}

/** What matches and follows `after`, framed; for an interest with prefixes, within `SLICE` positions. */
export async function framesAfter(
  db: Kysely<Tables>,
  interest: Interest,
  after: bigint,
  limit: number,
  bytes: number,
): Promise<Bounds & { readonly events: Batch }> {
  const query =
    interest.prefixes.length > 0 ? walk(interest, after, limit) : channelsAfter(interest.channels, after, limit);
  // The rows reach the aggregates in the order that the window function needed: an ORDER BY in each would sort them anew.
  const { rows } = await sql<{ frames: string | null; positions: string; isCut: boolean } & FloorRow>`
    SELECT frames, positions, "isCut", floor.id, floor.position AS floor, pg_is_in_recovery() AS standby
    FROM (${FLOOR}) floor, (
      SELECT string_agg(${FRAME}, '') AS frames, string_agg(position::text, ' ') AS positions,
        max(through) >= ${bytes} AS "isCut"
      FROM (${sized(query, bytes)}) sized
    ) page`.execute(db);
  const [page] = rows;
  refuseStandby(page);
  const events = page === undefined || page.frames === null ? NO_EVENTS : batchOfText(page.frames, page.positions);
  return { events, isCut: page?.isCut === true, floor: floorIn(page) };
}

/**
 * Each channel's next events by the (channel, position) index, then the first of them all.
 *
 * Said as a row comparison and ordered by both columns, so that no other index can give the order: with `channel = …` and
 * the plain `ORDER BY position` the planner may walk positions, through every event of every channel, for a rare one.
 */
function channelsAfter(channels: readonly string[], after: bigint, limit: number): RawBuilder<unknown> {
  return sql`
    SELECT o.id, o.position, o.event, o.data
    FROM unnest(${channels}::text[]) AS wanted(channel) CROSS JOIN LATERAL (
      SELECT id, position, event, data FROM here.outbox
      WHERE (outbox.channel, position) > (wanted.channel, ${after}::bigint) AND outbox.channel <= wanted.channel
        AND position IS NOT NULL
      ORDER BY outbox.channel, position LIMIT ${limit}
    ) o ORDER BY o.position LIMIT ${limit}`;
}

/** A prefix may stand for any number of channels: walks positions, a slice at a time, and keeps what matches. */
function walk(interest: Interest, after: bigint, limit: number): RawBuilder<unknown> {
  // Column and patterns compare by code point (collation "C"), so starts_with needs no locale.
  return sql`
    SELECT id, position, event, data FROM here.outbox
    WHERE position > ${after} AND position <= ${after + SLICE}
      AND (channel = ANY (${interest.channels}::text[]) OR EXISTS (
        SELECT FROM unnest(${interest.prefixes}::text[]) AS wanted(prefix) WHERE starts_with(channel, prefix)))
    ORDER BY position LIMIT ${limit}`;
}

/**
 * Of a query for rows in position order those that begin within `bytes`. The sizes are those stored, so rows that are cut off
 * are never decompressed or sent.
 */
function sized(query: RawBuilder<unknown>, bytes: number): RawBuilder<unknown> {
  return sql`
    SELECT * FROM (
      SELECT *, sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS through FROM (
        SELECT *, ${sql.lit(ROW_BYTES)} + coalesce(pg_column_size(data), 0) AS size FROM (${query}) candidates
      ) measured
    ) summed WHERE through - size < ${bytes}`;
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
