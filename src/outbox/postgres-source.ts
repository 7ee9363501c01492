/**
 * The outbox table as the relay reads it: with page.ts the one place that has SQL about events, and the narrow
 * interface behind which the log has its source. It only ever selects (promise R7).
 *
 * `position` orders everything; `id` only names an event (see migrations/). A row without a position is not committed as
 * far as the relay is concerned.
 */
import { sql, type Kysely } from 'kysely';
import { LRUCache } from 'lru-cache';
import { NO_EVENTS, type Batch } from './frame-batch.js';
import type { ChannelFilter } from '../event/channel-filter.js';
import { abortable, type Tables } from '../postgres/pool.js';
import { createEncodable } from './encodable-names.js';
import type { Cursor, FreshEvent } from '../event/event.js';
import {
  CREATED,
  FEW,
  fewRowsAfter,
  firstAfter,
  firstMatchAfter,
  FLOOR_HIGHEST_ID,
  FLOOR_ID,
  FLOOR_POSITION,
  framesAfter,
  ROW_BYTES,
  rowsAfter,
  type FramedPage,
  type FramedQuery,
  type Row,
} from './page.js';
import { stepSince, type Search } from './since.js';
import { changesSince, type Changes } from './redaction.js';
import { encodeEvent } from '../event/sse.js';
import { refuseStandby } from '../postgres/standby.js';
import { createUndeliverable, MAX_EVENT_BYTES, type ReadAround, type Undeliverable } from './undeliverable.js';

/** Where the cursor that a client brings stands. */
export type CursorLookup =
  | { readonly kind: 'found'; readonly position: bigint }
  /** What followed it may have been deleted: the newest deleted event is at `floor`. */
  | { readonly kind: 'expired'; readonly floor: Cursor }
  /** It was never handed out here. */
  | { readonly kind: 'unknown' };

const UNKNOWN: CursorLookup = { kind: 'unknown' };

/** What one read for a replay found. */
export interface TablePage {
  /** The matching events. */
  readonly events: Batch;
  /** Position up to which everything that matches is in `events`. */
  readonly position: bigint;
  /** Position of the newest event that was deleted: what came before it can't be told any more. */
  readonly floor: bigint;
  /** Bytes of the first event where that alone is larger than was asked for: then there is none here. */
  readonly needs?: number | undefined;
}

/**
 * What the log is fed from and history is read from.
 *
 * All reject with what the database throws, and those by whose answer a client could skip something, with `standby` of OperatorError
 * where it is a standby: one may lag behind what was committed.
 */
export interface Source {
  /** The newest committed event; where all were pruned, the last that was. */
  head(): Promise<Cursor>;
  /** A cursor about `events` events, but no more than `bytes` of payload, before the head; never below the floor. */
  nearHead(limit: { events: number; bytes: number }): Promise<Cursor>;
  /**
   * The events that follow `after`, ascending: at most `PAGE_EVENTS`, or fewer that have about `PAGE_BYTES`; and the floor,
   * above which they are complete.
   */
  eventsAfter(after: bigint): Promise<{ events: FreshEvent[]; more: boolean; floor: Cursor }>;
  /**
   * What has been redacted and deleted: of the events above `above`, since the state that an earlier answer gave; undefined: ever.
   * Together with all answers between, it misses nothing.
   */
  changesSince(state: string | undefined, above: bigint): Promise<Changes>;
  /**
   * Whether the table is the one that was read up to `read`. It is another when it was restored to an earlier point, or when a
   * replica took over that lacked the latest commits.
   *
   * @param createdAt that of the event at `read`, where it is known: restored, the table may give the same id out again.
   */
  holds(read: Cursor, createdAt: number | undefined): Promise<boolean>;
  /**
   * Matching events that follow `after`, up to `head`, a position known to be committed: at most `bytes` of them, or one that is larger
   * by itself where `needs` of an earlier page was asked for. Every page moves on, as long as `after < head`, or says what it needs.
   *
   * @param signal ends the read, here and in the server: nobody waits for it any more. It rejects, then. So for the others.
   */
  page(filter: ChannelFilter, after: bigint, head: bigint, bytes: number, signal?: AbortSignal): Promise<TablePage>;
  /** Looks up event ids: an answer for each, in their order. */
  lookUpCursors(ids: readonly string[], signal?: AbortSignal): Promise<CursorLookup[]>;
  /** One step of the search for a time: see `stepSince`. */
  since(search: Search, signal?: AbortSignal): Promise<Search | Cursor>;
}

/** Bounds of one read by the tail. What is larger takes more reads. */
const PAGE_EVENTS = 1000;
const PAGE_BYTES = 1024 * 1024;

/** Most events of a page of history. */
const HISTORY_EVENTS = 2000;
/** Least keys of a channel that are looked at for a page. */
const LEAST_KEYS = 4;
/** Of how many filters it is kept how much there is on each of their channels. */
const COUNTS_KEPT = 200;
/** Of how many filters it is kept how many rows they can read at a time. */
const READERS_KEPT = 1000;

/** Least rows that are candidates for a page. */
const LEAST_ROWS = 16;

const LARGEST_ID = 2n ** 63n - 1n;

const NO_FRAME = Buffer.alloc(0);

/** @param tail connection for the live path; @param history connections for everything else, so that a crowd of
 * replays never delays live events; @param undeliverable is told what can't be delivered. */
export function createOutbox(
  tail: Kysely<Tables>,
  history: Kysely<Tables>,
  undeliverable: Undeliverable = createUndeliverable(),
): Source {
  /**
   * Bytes of an event on the wire, of late. A page is cut by the sizes that rows have in the table, where what is long is
   * compressed, perhaps to a fraction; with this it asks for no more rows than it will keep.
   */
  let typicalBytes = ROW_BYTES;
  /** The last read of the tail found few rows. */
  let expectsFew = true;
  const readTail = undeliverable.reader();
  /** By filter: who meets a row that can't be read has small pages, and nobody else. */
  const readersOfHistory = new LRUCache<string, ReadAround>({ max: READERS_KEPT });
  const encodable = createEncodable(history);

  /** @param bytes of so many events; on the wire, or as the table counts them where that was more. */
  function learn(events: number, bytes: number): void {
    if (events > 0) typicalBytes = Math.max(ROW_BYTES, (typicalBytes + bytes / events) / 2);
  }

  function rowsFor(bytes: number, most: number): number {
    return Math.max(LEAST_ROWS, Math.min(most, Math.ceil(bytes / typicalBytes)));
  }

  /** How many events the latest page of a filter had of each channel. */
  const counts = new LRUCache<string, readonly number[]>({ max: COUNTS_KEPT });

  /**
   * How many keys of each channel are looked at for so many events: as many as in the page before, in proportion, and what chance
   * may add. One that has more ends the page.
   */
  function keysFor({ key, channels }: ChannelFilter, limit: number): number[] {
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

  async function head(): Promise<Cursor> {
    const { rows } = await sql<{ id: string; position: string; standby: boolean }>`
      SELECT id, position, pg_is_in_recovery() AS standby FROM (
        -- Above the floor only: below it the index may be full of what was deleted.
        (SELECT id, position FROM here.outbox WHERE position > ${FLOOR_POSITION} ORDER BY position DESC LIMIT 1)
        UNION ALL SELECT ${FLOOR_ID}, ${FLOOR_POSITION}
      ) newest ORDER BY position DESC LIMIT 1`.execute(tail);
    refuseStandby(rows[0]);
    return cursorOf(rows[0]);
  }

  /** The position of the first event after `position`, `LARGEST_ID` where there is none; and the floor by then. */
  async function nextPosition(db: Kysely<Tables>, position: bigint): Promise<{ next: bigint; floor: bigint }> {
    const { rows } = await sql<{ next: string | null; floor: string; standby: boolean }>`
      SELECT ${FLOOR_POSITION} AS floor, pg_is_in_recovery() AS standby,
        (SELECT position FROM here.outbox WHERE position > ${position} ORDER BY position LIMIT 1) AS next`.execute(db);
    refuseStandby(rows[0]);
    return { next: BigInt(rows[0]?.next ?? LARGEST_ID), floor: BigInt(rows[0]?.floor ?? 0) };
  }

  function eventOf(row: Row): FreshEvent {
    const { data } = row;
    if (data === null) undeliverable.report(row.id, tooLarge(Number(row.bytes)));
    const frame = data === null ? NO_FRAME : encodeEvent({ ...row, data });
    return { ...cursorOf(row), channel: row.channel, createdAt: row.created, frame };
  }

  function framesAround(db: Kysely<Tables>, asked: FramedQuery): Promise<FramedPage> {
    const { key } = asked.filter;
    const read = readersOfHistory.get(key) ?? undeliverable.reader();
    readersOfHistory.set(key, read);
    return read(
      asked.limit,
      (limit) => framesAfter(db, { ...asked, limit }),
      () => firstMatchAfter(db, asked),
      ({ position, floor, floorId }) => ({
        events: NO_EVENTS,
        through: BigInt(position),
        needs: undefined,
        candidates: 1,
        isCut: true,
        floor: cursorOf({ id: floorId, position: floor }),
        undeliverable: [],
        channels: undefined,
      }),
    );
  }

  return {
    head,

    async nearHead({ events, bytes }) {
      const { rows } = await sql<{ id: string; position: string }>`
        SELECT id, position FROM (
          SELECT id, position, sum(coalesce(pg_column_size(data), 0)) OVER (ORDER BY position DESC) AS bytes
          FROM (SELECT id, position, data FROM here.outbox WHERE position > ${FLOOR_POSITION}
                ORDER BY position DESC LIMIT ${events}) newest
        ) sized WHERE bytes <= ${bytes} ORDER BY position LIMIT 1`.execute(tail);
      return rows[0] ? cursorOf(rows[0]) : head();
    },

    async eventsAfter(after) {
      return readTail(
        rowsFor(PAGE_BYTES, PAGE_EVENTS),
        async (limit) => {
          const few = expectsFew && limit >= FEW ? await fewRowsAfter(tail, after) : undefined;
          const { rows, isCut, floor } = few
            ? { ...few, isCut: false }
            : await rowsAfter(tail, after, limit, PAGE_BYTES);
          // In the midst of many, or of large ones, the next read finds such, too.
          expectsFew = rows.length < FEW && !isCut;
          const events = rows.map(eventOf);
          learn(
            events.length,
            events.reduce((sum, { frame }) => sum + frame.length, 0),
          );
          return { events, more: few === undefined && (isCut || rows.length >= limit), floor };
        },
        () => {
          expectsFew = false;
          return firstAfter(tail, after);
        },
        ({ id, position, channel, created, floor, floorId }) => ({
          events: [{ id, position: BigInt(position), channel, createdAt: created, frame: NO_FRAME }],
          more: true,
          floor: cursorOf({ id: floorId, position: floor }),
        }),
      );
    },

    changesSince: (state, above) => changesSince(tail, state, above),

    async holds(read, createdAt) {
      const { rows } = await sql<{
        floorId: string;
        floor: string;
        id: string | null;
        created: number | null;
        standby: boolean;
      }>`
        SELECT ${FLOOR_ID} AS "floorId", ${FLOOR_POSITION} AS floor, outbox.id, ${CREATED} AS created, pg_is_in_recovery() AS standby
        FROM (VALUES (true)) AS always(present) LEFT JOIN here.outbox ON outbox.position = ${read.position}`.execute(
        tail,
      );
      const [found] = rows;
      refuseStandby(found);
      if (found === undefined) return false;
      const floor = BigInt(found.floor);
      // What the read had passed has been deleted since; that is for `floor` to tell.
      if (floor > read.position || (floor === read.position && found.floorId === read.id)) return true;
      return found.id === read.id && (createdAt === undefined || createdAt === found.created);
    },

    async page(wanted, after, head, bytes, signal) {
      const filter = await encodable.within(wanted, signal);
      if (filter === undefined) return { events: NO_EVENTS, position: head, floor: 0n };
      const limit = rowsFor(bytes, HISTORY_EVENTS);
      const keys = keysFor(filter, limit);
      const db = abortable(history, signal);
      const found = await framesAround(db, { filter, after, head, limit, bytes, keys });
      for (const { id, bytes: size } of found.undeliverable) undeliverable.report(id, tooLarge(size));
      const { events, needs } = found;
      learn(events.length, events.frames.length);
      if (found.channels) counts.set(filter.key, countsOf(found.channels, filter.channels.length));
      let position = found.through;
      let lowest = found.floor.position;
      if (filter.prefixes.length > 0 && found.candidates === 0 && position < head) {
        // Positions may leave a gap of millions where ids were moved on after a restore.
        const jump = await nextPosition(db, position);
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
        abortable(history, signal),
      );
      const [first] = rows;
      refuseStandby(first);
      if (first === undefined) return ids.map(() => UNKNOWN);
      const floor = BigInt(first.floor);
      // Of rows that were deleted the highest id may have had a lower position than that of the floor.
      const newest = max(max(BigInt(first.floorId), BigInt(first.highestId)), BigInt(first.newest ?? 0));
      const found = new Map(rows.map(({ id, position }) => [id, position]));
      return ids.map((id): CursorLookup => {
        if (!isId(id)) return UNKNOWN;
        if (id === first.floorId) return { kind: 'found', position: floor };
        const position = found.get(id);
        if (position !== undefined && BigInt(position) >= floor) return { kind: 'found', position: BigInt(position) };
        // Ids are handed out in ascending order, so one above all that there ever were is none of ours.
        if (position === undefined && BigInt(id) > newest) return UNKNOWN;
        return { kind: 'expired', floor: { position: floor, id: first.floorId } };
      });
    },

    since: (search, signal) => stepSince(abortable(history, signal), search),
  };
}

/**
 * What metrics want to know of the database: the position of the newest committed event, and how full the queue of notifications
 * is, from 0 to 1. Source: PostgreSQL manual, NOTIFY.
 */
export async function databaseFigures(db: Kysely<Tables>): Promise<{ head: bigint; queueUsage: number }> {
  const { rows } = await sql<{ head: string | null; usage: number }>`
    SELECT pg_notification_queue_usage() AS usage, coalesce(
      (SELECT o.position FROM here.outbox o WHERE o.position > f.position ORDER BY o.position DESC LIMIT 1), f.position) AS head
    FROM here.outbox_floor f`.execute(db);
  return { head: BigInt(rows[0]?.head ?? 0), queueUsage: rows[0]?.usage ?? 0 };
}

/** Notifies all who LISTEN, as the migrations' triggers do: shows whether notifications arrive. */
export async function notify(db: Kysely<Tables>, payload: string): Promise<void> {
  await sql`SELECT pg_notify('outbox', ${payload})`.execute(db);
}

function isId(text: string): boolean {
  return /^(0|[1-9]\d{0,18})$/.test(text) && BigInt(text) <= LARGEST_ID;
}

function tooLarge(bytes: number): string {
  return `its data has ${bytes} bytes as sent, and ${MAX_EVENT_BYTES} is the most`;
}

function cursorOf(row: { id: string; position: string } | undefined): Cursor {
  return { id: row?.id ?? '0', position: BigInt(row?.position ?? 0) };
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
