/**
 * The archive in PostgreSQL: the outbox table as history reads it. It only ever selects (promise
 * R7).
 *
 * `position` orders everything; `id` only names an event (see migrations/). A row without a
 * position is not committed.
 */
import { sql, type Kysely } from 'kysely';
import { LRUCache } from 'lru-cache';
import type { EventFilter } from '../event/event-filter.js';
import { abortable, type Tables } from '../postgres/pool.js';
import { refuseStandby, type StandbyRule } from '../postgres/standby.js';
import type { Archive, CursorLookup } from './archive.js';
import { createEncodable } from './encodable-names.js';
import { cursorIn, FLOOR_HIGHEST_ID, FLOOR_ID, FLOOR_POSITION } from './floor.js';
import { FRAME, type Format } from './formats.js';
import { NO_EVENTS } from './frame-batch.js';
import { firstMatchAfter, framesAfter, lookableThrough, type FramedPage, type FramedQuery } from './framed-page.js';
import { stepSince } from './since.js';
import { createTypicalSize } from './typical-size.js';
import { createUndeliverable, type ReadAround, type Undeliverable } from './undeliverable.js';

const UNKNOWN: CursorLookup = { kind: 'unknown' };

/** Most events of a page of history. */
const HISTORY_EVENTS = 2000;
/** Least keys of a channel that are looked at for a page. */
const LEAST_KEYS = 4;
/** Of how many filters it is kept how much there is on each of their channels. */
const COUNTS_KEPT = 200;
/** Of how many filters it is kept how many rows they can read at a time. */
const READERS_KEPT = 1000;

const LARGEST_ID = 2n ** 63n - 1n;

/**
 * @param db connections that delivery does not wait for.
 * @param undeliverable is told what can't be delivered.
 * @param format what its pages are made of. Default: frames of a stream.
 * @param rule what is made of an answer by a standby. Default: it is refused.
 */
export function createPostgresArchive(
  db: Kysely<Tables>,
  undeliverable: Undeliverable = createUndeliverable(),
  format: Format = FRAME,
  rule: StandbyRule = refuseStandby,
): Archive {
  const size = createTypicalSize();
  /** By filter: who meets a row that can't be read has small pages, and nobody else. */
  const readers = new LRUCache<string, ReadAround>({ max: READERS_KEPT });
  const encodable = createEncodable(db);

  /** How many events the latest page of a filter had of each channel. */
  const counts = new LRUCache<string, readonly number[]>({ max: COUNTS_KEPT });

  /**
   * How many keys of each channel are looked at for so many events: as many as in the page before,
   * in proportion, and what chance may add. One that has more ends the page.
   */
  function keysFor({ key, channels }: EventFilter, limit: number): number[] {
    const last = counts.get(key);
    const sum = last?.reduce((all, count) => all + count, 0) ?? 0;
    if (last === undefined || sum === 0) {
      return channels.map(() => Math.max(LEAST_KEYS, Math.ceil(limit / channels.length)));
    }
    return last.map((count) => {
      // Who had none may have one.
      const expected = (limit * (count + 1)) / (sum + channels.length);
      return Math.min(HISTORY_EVENTS, LEAST_KEYS + Math.ceil(1.25 * expected + 3 * Math.sqrt(expected)));
    });
  }

  /**
   * The position of the first event after `position`, `LARGEST_ID` where there is none; and the
   * floor by then.
   */
  async function nextPosition(reads: Kysely<Tables>, position: bigint): Promise<{ next: bigint; floor: bigint }> {
    const { rows } = await sql<{ next: string | null; floor: string; standby: boolean }>`
      SELECT ${FLOOR_POSITION} AS floor, pg_is_in_recovery() AS standby,
        (SELECT position FROM here.outbox WHERE position > ${position} ORDER BY position LIMIT 1) AS next`.execute(
      reads,
    );
    rule(rows[0]);
    return { next: BigInt(rows[0]?.next ?? LARGEST_ID), floor: BigInt(rows[0]?.floor ?? 0) };
  }

  function framesAround(reads: Kysely<Tables>, asked: FramedQuery): Promise<FramedPage> {
    const { key } = asked.filter;
    const read = readers.get(key) ?? undeliverable.reader();
    readers.set(key, read);
    return read(
      asked.limit,
      (limit) => framesAfter(reads, { ...asked, limit }, format, rule),
      () => firstMatchAfter(reads, asked),
      ({ position, floor, floorId }) => ({
        events: NO_EVENTS,
        through: BigInt(position),
        needs: undefined,
        candidates: 1,
        isCut: true,
        floor: cursorIn({ id: floorId, position: floor }),
        undeliverable: [],
        channels: undefined,
      }),
    );
  }

  return {
    async page(wanted, after, head, bytes, signal, most = HISTORY_EVENTS) {
      const filter = await encodable.within(wanted, signal);
      if (filter === undefined) return { events: NO_EVENTS, position: head, floor: 0n };
      const limit = Math.min(most, size.rowsFor(bytes, HISTORY_EVENTS));
      const keys = keysFor(filter, limit);
      const reads = abortable(db, signal);
      const whole = { filter, after, head, limit, bytes, keys };
      const asked = { ...whole, head: await lookableThrough(reads, whole) };
      const found = await framesAround(reads, asked);
      for (const large of found.undeliverable) undeliverable.reportTooLarge(large.id, large.bytes);
      const { events, needs } = found;
      size.learn(events.length, events.frames.length);
      if (found.channels) counts.set(filter.key, countsOf(found.channels, filter.channels.length));
      let position = found.through;
      let lowest = found.floor.position;
      if (filter.prefixes.length > 0 && found.candidates === 0 && position < head) {
        // Positions may leave a gap of millions where ids were moved on after a restore.
        const jump = await nextPosition(reads, position);
        position = max(position, min(head, jump.next - 1n));
        // What was deleted since the first read may have matched.
        lowest = max(lowest, jump.floor);
      }
      return { events, position, floor: lowest, needs };
    },

    async lookUpCursors(ids, signal) {
      const asked = ids.filter(isId);
      const { rows } = await sql<{
        floorId: string;
        highestId: string;
        floor: string;
        newest: string | null;
        standby: boolean;
        id: string | null;
        position: string;
      }>`
        SELECT ${FLOOR_ID} AS "floorId", ${FLOOR_POSITION} AS floor, ${FLOOR_HIGHEST_ID} AS "highestId",
               (SELECT max(id) FROM here.outbox) AS newest,
               pg_is_in_recovery() AS standby, outbox.id, outbox.position
        FROM (VALUES (true)) AS always(present)
        LEFT JOIN here.outbox ON outbox.id = ANY (${asked}::bigint[]) AND outbox.position IS NOT NULL`.execute(
        abortable(db, signal),
      );
      const [first] = rows;
      rule(first);
      if (first === undefined) return ids.map(() => UNKNOWN);
      const floor = BigInt(first.floor);
      // Of rows that were deleted the highest id may have had a lower position than that of the
      // floor.
      const newest = max(max(BigInt(first.floorId), BigInt(first.highestId)), BigInt(first.newest ?? 0));
      const found = new Map(rows.map(({ id, position }) => [id, position]));
      return ids.map((id): CursorLookup => {
        if (!isId(id)) return UNKNOWN;
        if (id === first.floorId) return { kind: 'found', position: floor };
        const position = found.get(id);
        if (position !== undefined && BigInt(position) >= floor) return { kind: 'found', position: BigInt(position) };
        // Ids are handed out in ascending order, so one above all that there ever were is none of
        // ours.
        if (position === undefined && BigInt(id) > newest) return UNKNOWN;
        return { kind: 'expired', floor: { position: floor, id: first.floorId } };
      });
    },

    since: (search, signal) => stepSince(abortable(db, signal), search, rule),
  };
}

/** What metrics want to know of the database. */
export interface DatabaseFigures {
  /** Position of the newest committed event. */
  readonly head: bigint;
  /** How full PostgreSQL's notification queue is, from 0 to 1. */
  readonly queueUsage: number;
}

/** Source: PostgreSQL manual, NOTIFY. @throws what the database throws. */
export async function databaseFigures(db: Kysely<Tables>): Promise<DatabaseFigures> {
  const { rows } = await sql<{ head: string | null; usage: number }>`
    SELECT pg_notification_queue_usage() AS usage, coalesce(
      (SELECT o.position FROM here.outbox o WHERE o.position > f.position ORDER BY o.position DESC LIMIT 1), f.position) AS head
    FROM here.outbox_floor f`.execute(db);
  return { head: BigInt(rows[0]?.head ?? 0), queueUsage: rows[0]?.usage ?? 0 };
}

function isId(text: string): boolean {
  return /^(0|[1-9]\d{0,18})$/.test(text) && BigInt(text) <= LARGEST_ID;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function countsOf(channels: readonly number[], length: number): number[] {
  const counts = Array.from({ length }, () => 0);
  for (const channel of channels) counts[channel - 1] = (counts[channel - 1] ?? 0) + 1;
  return counts;
}
