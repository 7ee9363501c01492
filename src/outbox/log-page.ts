/**
 * The log of events, as the table has it: the newest first, in pages, with filters. What is above
 * the relay's head is left out: something may yet be placed before it, and whoever follows the log
 * from page to page would miss that.
 *
 * | filter             | is found by                                          |
 * |--------------------|------------------------------------------------------|
 * | none, or a channel | an index: a page takes as long as it is long         |
 * | id                 | an index                                             |
 * | anything else      | looking at one event after the other, up to a bound  |
 *
 * Where the bound is met the answer says how far it has come, and its cursor goes on from there.
 */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import { LARGEST_ID } from '../event/event.js';
import type { Tables } from '../postgres/pool.js';
import { readData, type ReadData } from './log-data.js';

export interface LogFilter {
  /** A channel, or a prefix as in `user:*`. */
  readonly channel: string | undefined;
  readonly event: string | undefined;
  readonly id: string | undefined;
  /** Bounds of created_at, both included. */
  readonly since: Date | undefined;
  readonly until: Date | undefined;
}

/** From where: what is older than a cursor, what is newer, or from the head on. */
export type LogPlace = { readonly before: bigint } | { readonly after: bigint } | undefined;

export interface LogRow {
  readonly id: string;
  readonly position: string;
  readonly channel: string;
  readonly event: string;
  readonly createdAt: string;
  /** Bytes that its data takes in the table. */
  readonly stored: number;
}

export interface LogPage {
  /** The newest first. */
  readonly events: readonly (LogRow & ReadData)[];
  /** Cursor of what is older; null: there is nothing. */
  readonly before: string | null;
  /** Cursor of what is newer, also of what is yet to come. */
  readonly after: string;
  /** `all`, or `until ID`: what has been looked at. */
  readonly scanned: string;
}

/** Events that one look has, where they are filtered without an index. */
const BLOCK_EVENTS = 5000;
/** Bounds of a page: events that are looked at, and time, in ms. */
const MOST_LOOKED = 200_000;
const MOST_MS = 1500;

const TIME = sql`'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`;

/**
 * @param head position up to which all is settled.
 * @throws what the database throws, or that it was too slow.
 */
export async function readLogPage(
  db: Kysely<Tables>,
  head: bigint,
  filter: LogFilter,
  { place, limit }: { readonly place: LogPlace; readonly limit: number },
): Promise<LogPage> {
  const isForward = place !== undefined && 'after' in place;
  const start = place === undefined ? head + 1n : isForward ? place.after : place.before;
  const began = performance.now();
  const { seek, test } = conditionsOf(filter);
  const blockEvents = test.length === 0 ? limit + 1 : BLOCK_EVENTS;
  const rows: LogRow[] = [];
  let from = start;
  let looked = 0;
  let edge: Edge | undefined;
  let isDone = false;
  while (!isDone && rows.length <= limit && looked < MOST_LOOKED && performance.now() - began < MOST_MS) {
    const block = await readBlock(db, {
      from,
      head,
      isForward,
      seek,
      test,
      blockEvents,
      most: limit + 1 - rows.length,
    });
    rows.push(...block.rows);
    edge = block.edge ?? edge;
    looked += block.looked;
    isDone = block.looked < blockEvents;
    from = edge?.position ?? from;
  }
  const isFull = rows.length > limit;
  const shown = rows.slice(0, limit);
  // One more than is shown tells that there is more.
  const last = isFull ? BigInt(shown.at(-1)?.position ?? start) : isDone ? undefined : from;
  const scanned = isFull || isDone || edge === undefined ? 'all' : `until ${edge.id}`;
  const events = await readData(db, isForward ? shown.reverse() : shown, began + 2 * MOST_MS);
  if (isForward) {
    const after = last ?? (head > start ? head : start);
    return { events, before: cursorAt(start + 1n), after: String(after), scanned };
  }
  return { events, before: last === undefined ? null : String(last), after: cursorAt(start - 1n), scanned };
}

/** Within what a position can be: each cursor that is given is one that is taken. */
const cursorAt = (position: bigint): string =>
  String(position < 0n ? 0n : position > LARGEST_ID ? LARGEST_ID : position);

interface Conditions {
  /** What an index finds. */
  readonly seek: readonly RawBuilder<unknown>[];
  /** What is tested of each. */
  readonly test: readonly RawBuilder<unknown>[];
}

function conditionsOf({ channel, event, id, since, until }: LogFilter): Conditions {
  const seek: RawBuilder<unknown>[] = [];
  const test: RawBuilder<unknown>[] = [];
  if (id !== undefined) seek.push(sql`id = ${id}`);
  if (channel?.endsWith(':*')) test.push(sql`starts_with(channel, ${channel.slice(0, -1)})`);
  else if (channel !== undefined && channel !== '*') seek.push(sql`channel = ${channel}`);
  if (event !== undefined) test.push(sql`event = ${event}`);
  if (since !== undefined) test.push(sql`created_at >= ${since}`);
  if (until !== undefined) test.push(sql`created_at <= ${until}`);
  return { seek, test };
}

interface Edge {
  readonly position: bigint;
  readonly id: string;
}

interface BlockRequest extends Conditions {
  readonly from: bigint;
  readonly head: bigint;
  readonly isForward: boolean;
  readonly blockEvents: number;
  readonly most: number;
}

interface BlockRow extends Omit<LogRow, 'id'> {
  readonly id: string | null;
  readonly looked: string;
  readonly edgePosition: string | null;
  readonly edgeId: string | null;
}

/** Looks at the next events, and gives those that pass the test. */
async function readBlock(
  db: Kysely<Tables>,
  { from, head, isForward, seek, test, blockEvents, most }: BlockRequest,
): Promise<{ rows: LogRow[]; looked: number; edge: Edge | undefined }> {
  const way = isForward ? sql`ASC` : sql`DESC`;
  const bounds = isForward ? sql`position > ${from}` : sql`position < ${from}`;
  const where = sql.join([bounds, sql`position <= ${head}`, ...seek], sql` AND `);
  const passes = test.length === 0 ? sql`true` : sql.join([...test], sql` AND `);
  const { rows } = await sql<BlockRow>`
    WITH looked AS MATERIALIZED (
      SELECT id, position, channel, event, created_at FROM here.outbox WHERE ${where}
      ORDER BY position ${way} LIMIT ${blockEvents}::bigint
    ), found AS MATERIALIZED (
      SELECT * FROM looked WHERE ${passes} ORDER BY position ${way} LIMIT ${most}::bigint
    ), edge AS MATERIALIZED (
      SELECT (SELECT count(*) FROM looked) AS looked,
        (SELECT array[position, id] FROM looked ORDER BY position ${isForward ? sql`DESC` : sql`ASC`} LIMIT 1) AS last
    )
    SELECT found.id, found.position, found.channel, found.event,
      to_char(found.created_at AT TIME ZONE 'UTC', ${TIME}) AS "createdAt",
      (SELECT coalesce(pg_column_size(data), 0) FROM here.outbox AS o WHERE o.position = found.position) AS stored,
      edge.looked, edge.last[1] AS "edgePosition", edge.last[2] AS "edgeId"
    FROM edge LEFT JOIN found ON true ORDER BY found.position ${way}`.execute(db);
  const [first] = rows;
  const { edgePosition, edgeId } = first ?? {};
  return {
    rows: rows.flatMap(({ id, position, channel, event, createdAt, stored }) =>
      id === null ? [] : { id, position, channel, event, createdAt, stored },
    ),
    looked: Number(first?.looked ?? 0),
    edge: edgePosition && edgeId ? { position: BigInt(edgePosition), id: edgeId } : undefined,
  };
}
