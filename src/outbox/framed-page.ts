/**
 * Framed pages: the SQL of history. A page has its events in position order, bounded in number and
 * in bytes, framed by the database, with the floor of the same snapshot.
 */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import type { EventFilter } from '../event/event-filter.js';
import type { Cursor } from '../event/event.js';
import type { Tables } from '../postgres/pool.js';
import { refuseStandby, type StandbyRule } from '../postgres/standby.js';
import { FLOOR_ID, FLOOR_POSITION, floorIn, type FirstRow, type FloorRow } from './floor.js';
import { batchOfText, NO_EVENTS, type Batch } from './frame-batch.js';
import type { Format } from './formats.js';
import { cut, sized } from './sized-rows.js';

/**
 * How many positions one read for a prefix may look at, matching or not: bounds the work of a read
 * that finds little.
 */
const SLICE = 20_000n;

/** A page of history, framed. */
export interface FramedPage {
  readonly events: Batch;
  /** Position up to which everything that matches is in `events`. */
  readonly through: bigint;
  /**
   * Size of the first event, in bytes, where that alone is larger than the page may be: then there
   * is no event.
   */
  readonly needs: number | undefined;
  /** How many rows were candidates. What was cut off is on the next page. */
  readonly candidates: number;
  readonly isCut: boolean;
  readonly floor: Cursor;
  /** Those of the page that are too large for any, and so not in `events`. */
  readonly undeliverable: readonly { readonly id: string; readonly bytes: number }[];
  /**
   * Of each event its channel, by its place among those that were asked for; only for many
   * channels.
   */
  readonly channels: readonly number[] | undefined;
}

export interface FramedQuery {
  readonly filter: EventFilter;
  readonly after: bigint;
  /** What is above it is not looked at. */
  readonly head: bigint;
  /** Most events. */
  readonly limit: number;
  /**
   * Most bytes of frames, or one event that has no more: what a page is counted as is what is sent.
   */
  readonly bytes: number;
  /** For many channels: how many keys of each are looked at. */
  readonly keys: readonly number[];
}

/**
 * For so few channels each is read as if there were no other: it costs no more than so many times
 * what is delivered.
 */
const FEW_CHANNELS = 4;

/** What matches and follows `after`. For a filter with prefixes, within `SLICE` positions. */
export async function framesAfter(
  db: Kysely<Tables>,
  asked: FramedQuery,
  format: Format,
  rule: StandbyRule = refuseStandby,
): Promise<FramedPage> {
  const { filter, after, head, bytes } = asked;
  const isWalk = filter.prefixes.length > 0;
  const query = matching(asked);
  // The rows reach the aggregates in order: an ORDER BY in each would sort them anew.
  const { rows } = await sql<FramedRow & FloorRow>`
    WITH page AS MATERIALIZED (${sized(query, sql`id, position, event, data, channel, name, complete`, format)})
    SELECT string_agg(${format.event}, '') FILTER (WHERE delivered) AS frames,
      string_agg(position::text, ' ') FILTER (WHERE delivered) AS positions,
      string_agg(channel::text, ' ') FILTER (WHERE delivered) AS channels,
      string_agg(id::text || ' ' || size, ',') FILTER (WHERE fits AND NOT delivered) AS undeliverable,
      max(position) FILTER (WHERE fits) AS passed, count(*)::integer AS candidates,
      coalesce(max(through) >= ${bytes} OR bool_or(text IS NULL), false) AS "isCut",
      min(through) FILTER (WHERE n = 1 AND NOT fits)::integer AS needs, max(complete) AS complete,
      -- One that can't be put into our encoding fails here as it does for the tail, which has to know its name.
      count(convert_to(name, 'UTF8')) AS names,
      ${FLOOR_ID} AS id, ${FLOOR_POSITION} AS floor, pg_is_in_recovery() AS standby
    FROM (
      SELECT *, through <= ${bytes} AS fits, through <= ${bytes} AND text IS NOT NULL AS delivered FROM (${cut(bytes, format, sql`through <= ${bytes}`)}) cut
    ) judged`.execute(db);
  const [page] = rows;
  rule(page);
  const events =
    page === undefined || page.frames === null ? NO_EVENTS : batchOfText(page.frames, page.positions ?? '');
  const candidates = page?.candidates ?? 0;
  const isCut = page?.isCut === true;
  let through = isWalk ? min(head, after + SLICE) : head;
  // Of many channels, as far as the one goes of which the least is known.
  if (page?.complete != null) through = min(through, BigInt(page.complete));
  if (isCut || candidates >= asked.limit) through = page?.passed != null ? BigInt(page.passed) : after;
  return {
    events,
    through,
    needs: page?.needs ?? undefined,
    candidates,
    isCut,
    floor: floorIn(page),
    undeliverable: (page?.undeliverable?.split(',') ?? []).map((item) => {
      const [id = '', size = ''] = item.split(' ');
      return { id, bytes: Number(size) };
    }),
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
  undeliverable: string | null;
  passed: string | null;
}

/** The first row that such a page would have. Of its data and its names nothing is touched. */
export async function firstMatchAfter(db: Kysely<Tables>, asked: FramedQuery): Promise<FirstRow | undefined> {
  const { rows } = await sql<FirstRow>`
    SELECT first.id, first.position, ${FLOOR_ID} AS "floorId", ${FLOOR_POSITION} AS floor
    FROM (${matching({ ...asked, limit: 1 })}) first`.execute(db);
  return rows[0];
}

function matching(asked: FramedQuery): RawBuilder<unknown> {
  const { channels, prefixes, events } = asked.filter;
  if (prefixes.length > 0) return walk(asked);
  // Of named events there are few at most: see `lookableThrough`.
  return channels.length > FEW_CHANNELS && events === undefined ? merged(asked) : channelsAfter(asked);
}

function named({ events }: EventFilter): RawBuilder<unknown> {
  return events === undefined ? sql`` : sql`AND event = ANY (${events}::text[])`;
}

/**
 * How many events of channels one read for some names of events may look at beyond a slice: bounds
 * the work of a read that finds little.
 */
const NAMED_LOOKS = 10_000;

/**
 * Up to where a page may look for events of some names, at or below `head`: through a slice, or as
 * far as none of the channels has had more than its share of `NAMED_LOOKS`. What is deleted
 * meanwhile makes them fewer.
 */
export async function lookableThrough(db: Kysely<Tables>, { filter, after, head }: FramedQuery): Promise<bigint> {
  // A walk is bounded by its positions.
  if (filter.events === undefined || filter.prefixes.length > 0) return head;
  const slice = min(head, after + SLICE);
  if (slice === head) return head;
  const most = Math.ceil(NAMED_LOOKS / filter.channels.length);
  const { rows } = await sql<{ position: string | null; standby: boolean }>`
    SELECT min(o.position) AS position, pg_is_in_recovery() AS standby
    FROM unnest(${filter.channels}::text[]) AS wanted(channel) CROSS JOIN LATERAL (
      SELECT position FROM here.outbox
      WHERE (outbox.channel, position) > (wanted.channel, ${after}::bigint)
        AND (outbox.channel, position) <= (wanted.channel, ${head}::bigint) AND position IS NOT NULL
      ORDER BY outbox.channel, position OFFSET ${most - 1} LIMIT 1
    ) o`.execute(db);
  refuseStandby(rows[0]);
  const position = rows[0]?.position == null ? head : BigInt(rows[0].position);
  return position > slice ? position : slice;
}

/**
 * Rows of an index that a query may look at in the order of the index: the planner then has no
 * other way that is as good.
 */
const IN_ORDER = sql.lit(2000);

/**
 * Each channel's next events by the (channel, position) index, then the first of them all.
 *
 * Said as a row comparison and ordered by both columns, so that no other index can give the order:
 * with `channel = …` and the plain `ORDER BY position` the planner may walk positions, through
 * every event of every channel, for a rare one.
 */
function channelsAfter({ filter, after, head, limit }: FramedQuery): RawBuilder<unknown> {
  return sql`
    SELECT o.id, o.position, o.event, o.data, NULL::integer AS channel, NULL::text AS name, NULL::bigint AS complete
    FROM unnest(${filter.channels}::text[]) AS wanted(channel) CROSS JOIN LATERAL (
      SELECT id, position, event, data FROM here.outbox
      WHERE (outbox.channel, position) > (wanted.channel, ${after}::bigint)
        AND (outbox.channel, position) <= (wanted.channel, ${head}::bigint) AND position IS NOT NULL ${named(filter)}
      ORDER BY outbox.channel, position LIMIT ${limit}
    ) o ORDER BY o.position LIMIT ${limit}`;
}

/**
 * The same for many channels. Reading a whole page of each would be a hundred times what is
 * delivered. So of each only some keys are read, from the index alone; up to the least position at
 * which one of them may go on, nothing is missing; and only rows up to there are read.
 */
function merged({ filter, after, head, limit, keys }: FramedQuery): RawBuilder<unknown> {
  return sql`
    SELECT o.id, ahead.position, o.event, o.data, ahead.channel, NULL::text AS name, ahead.complete FROM (
      WITH keys AS MATERIALIZED (
        SELECT wanted.n::integer AS channel, wanted.most, next.position
        FROM unnest(${filter.channels}::text[], ${keys}::integer[]) WITH ORDINALITY AS wanted(channel, most, n) CROSS JOIN LATERAL (
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
 * A prefix may stand for any number of channels: walks positions, a slice at a time, and keeps what
 * matches. Of sorted prefixes that do not cover each other only the last up to a channel can start
 * it, so a hundred cost hardly more than one.
 */
function walk({ filter, after, head, limit }: FramedQuery): RawBuilder<unknown> {
  // In the order of the server's bytes (collation "C"), which is neither that of strings here nor
  // that of UTF-8.
  const prefixes = sql`(SELECT array_agg(prefix ORDER BY prefix COLLATE "C") FROM unnest(${filter.prefixes}::text[]) AS prefix)`;
  return sql`
    SELECT id, position, event, data, NULL::integer AS channel, channel::text AS name, NULL::bigint AS complete FROM here.outbox
    WHERE position > ${after} AND position <= ${min(head, after + SLICE)}
      AND (channel = ANY (${filter.channels}::text[]) OR starts_with(channel::text,
        (${prefixes})[width_bucket(channel::text COLLATE "C", ${prefixes} COLLATE "C")])) ${named(filter)}
    ORDER BY position LIMIT ${limit}`;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
