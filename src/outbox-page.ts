/**
 * Pages of the outbox: its rows in position order, bounded in number and in bytes, with the floor of the same snapshot.
 * This file has the SQL of reads that may be large.
 */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import type { Interest } from './channels.js';
import type { Tables } from './database.js';
import type { Cursor } from './log.js';
import { refuseStandby } from './standby.js';

/** A row as a replay needs it. */
export interface Row {
  id: string;
  position: string;
  event: string;
  data: string;
}

/** A row as the tail needs it. */
export interface FreshRow extends Row {
  channel: string;
  /** When it was inserted, in milliseconds since 1970. */
  created: number;
}

export interface RowPage<R extends Row> {
  readonly rows: readonly R[];
  /** Rows were cut off, so that the page has no more bytes than were asked for. */
  readonly isCut: boolean;
  readonly floor: Cursor;
}

/** Bytes that a row is taken to cost beside its payload: the frame's fields. */
export const ROW_BYTES = 100;

/** How many positions one read for a prefix may look at, matching or not: bounds the work of a read that finds little. */
export const SLICE = 20_000n;

/** When a row was inserted, in milliseconds since 1970. */
export const CREATED = sql`(extract(epoch FROM created_at) * 1000)::double precision`;

/** What follows `after`, of all channels. */
export function freshRows(db: Kysely<Tables>, after: bigint, limit: number, bytes: number): Promise<RowPage<FreshRow>> {
  const query = sql`
    SELECT id, position, channel, event, data, created_at FROM outbox
    WHERE position > ${after} ORDER BY position LIMIT ${limit}`;
  return sized(db, query, bytes, {
    columns: sql`, channel::text, ${CREATED} AS created`,
    blanks: sql`, NULL, NULL`,
  });
}

/** What matches and follows `after`; for an interest with prefixes, within `SLICE` positions. */
export function matchingRows(
  db: Kysely<Tables>,
  interest: Interest,
  after: bigint,
  limit: number,
  bytes: number,
): Promise<RowPage<Row>> {
  const query =
    interest.prefixes.length > 0 ? walk(interest, after, limit) : channelsAfter(interest.channels, after, limit);
  return sized(db, query, bytes, { columns: sql``, blanks: sql`` });
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
      SELECT id, position, event, data FROM outbox
      WHERE (outbox.channel, position) > (wanted.channel, ${after}::bigint) AND outbox.channel <= wanted.channel
        AND position IS NOT NULL
      ORDER BY outbox.channel, position LIMIT ${limit}
    ) o ORDER BY o.position LIMIT ${limit}`;
}

/** A prefix may stand for any number of channels: walks positions, a slice at a time, and keeps what matches. */
function walk(interest: Interest, after: bigint, limit: number): RawBuilder<unknown> {
  // Column and patterns compare by code point (collation "C"), so starts_with needs no locale.
  return sql`
    SELECT id, position, event, data FROM outbox
    WHERE position > ${after} AND position <= ${after + SLICE}
      AND (channel = ANY (${interest.channels}::text[]) OR EXISTS (
        SELECT FROM unnest(${interest.prefixes}::text[]) AS wanted(prefix) WHERE starts_with(channel, prefix)))
    ORDER BY position LIMIT ${limit}`;
}

/**
 * Runs a query for rows in position order and keeps those that begin within `bytes`. The sizes are those stored, so rows
 * that are cut off are never decompressed or sent.
 *
 * The floor comes first, in a row of its own, for it must be of the same snapshot; as columns of every row it would be sent and
 * parsed thousands of times. LIMIT, because the planner takes a table that was never analyzed for ten pages of rows, and by the
 * cost of joining those would compile each read to machine code (jit_above_cost).
 */
async function sized<R extends Row>(
  db: Kysely<Tables>,
  query: RawBuilder<unknown>,
  bytes: number,
  more: { readonly columns: RawBuilder<unknown>; readonly blanks: RawBuilder<unknown> },
): Promise<RowPage<R>> {
  type Found = R & { isCut: true | null } & FloorRow;
  const { rows } = await sql<Found>`
    SELECT * FROM (
      SELECT position, id, event::text, coalesce(data #>> '{}', 'null') AS data,
        CASE WHEN through >= ${bytes} THEN true END AS "isCut", NULL AS floor, NULL AS standby${more.columns}
      FROM (
        SELECT *, sum(size) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS through FROM (
          SELECT *, ${sql.lit(ROW_BYTES)} + coalesce(pg_column_size(data), 0) AS size FROM (${query}) candidates
        ) measured
      ) sized
      WHERE through - size < ${bytes}
      UNION ALL
      SELECT -1, id, NULL, NULL, NULL, position, pg_is_in_recovery()${more.blanks}
      FROM (SELECT id, position FROM outbox_floor LIMIT 1) floor
    ) page ORDER BY position`.execute(db);
  const first: FloorRow | undefined = rows.shift();
  refuseStandby(first);
  return {
    rows,
    isCut: rows.at(-1)?.isCut === true,
    floor: { id: first?.id ?? '0', position: BigInt(first?.floor ?? 0) },
  };
}

interface FloorRow {
  readonly id: string;
  readonly floor: string;
  readonly standby: boolean;
}
