/**
 * The feed from PostgreSQL: the newest rows of the outbox table, and NOTIFY for wake-ups. It only
 * ever selects (promise R7).
 *
 * Rows whose positions follow one another are all that there will ever be. At a gap it asks what is
 * settled, and then reads anew: migrations/1_outbox.sql has why nothing can appear up to there.
 */
import { sql, type Kysely } from 'kysely';
import type { Logger } from 'pino';
import type { Cursor } from '../event/event.js';
import type { Tables } from '../postgres/pool.js';
import { refuseStandby } from '../postgres/standby.js';
import { createAwakeLock } from './awake-lock.js';
import type { Databases } from './databases.js';
import type { Feed, FeedReader, HeldBack, Settled, Watch } from './feed.js';
import { cursorIn, FLOOR_ID, FLOOR_POSITION } from './floor.js';
import { startListener, type Listener } from './listener.js';
import { frameRows, undeliverableOf } from './framed-rows.js';
import { FEW, fewRowsAfter, firstAfter, rowsAfter } from './new-rows.js';
import { nearNewest, newestThrough } from './newest.js';
import { meaningOf, notify, senderOf } from './notifications.js';
import { changesSince } from './redaction.js';
import { readSettled } from './settled.js';
import { CREATED } from './sized-rows.js';
import { createTypicalSize } from './typical-size.js';
import { createUndeliverable, type Undeliverable } from './undeliverable.js';

/** Bounds of one read. What is larger takes more reads. */
const PAGE_EVENTS = 1000;
const PAGE_BYTES = 1024 * 1024;

export interface FeedSettings {
  /** A session for notifications that has not answered for so long is dead. */
  readonly listenTimeoutSeconds: number;
}

export interface FeedParts {
  readonly databases: Databases;
  readonly undeliverable: Undeliverable;
  readonly logger: Logger;
}

export function createPostgresFeed({ listenTimeoutSeconds }: FeedSettings, parts: FeedParts): Feed {
  const { databases, undeliverable, logger } = parts;
  const { live, history, listenUrl } = databases;
  return {
    ...createPostgresReader(live.db, undeliverable),
    async watch(watcher) {
      // Of a new connection nobody knows where it leads.
      const stopRechecks = live.onConnect(watcher.recheck);
      const awake = createAwakeLock(() => listener, live.db);
      const listener: Listener = await startListener({
        url: listenUrl,
        timeoutSeconds: listenTimeoutSeconds,
        logger,
        notify: (payload) => notify(live.db, payload),
        onNotificationsWork: watcher.notificationsWork,
        onListening() {
          watcher.recheck();
          watcher.changed();
        },
        onLost() {
          // What ended the session, a dead machine or a forgetful firewall, has ended these
          // connections, and none would tell.
          live.drop();
          history.drop();
        },
        onNotification(payload) {
          const meaning = meaningOf(payload);
          if (meaning === 'changed') watcher.changed();
          else if (meaning === 'published') watcher.wake();
          else if (!awake.isOwn(payload)) {
            if (meaning === 'awake') watcher.othersAwake(senderOf(payload));
            else if (meaning === 'asleep') watcher.othersAsleep(senderOf(payload));
          }
        },
      });
      const stop = () => {
        stopRechecks();
        return listener.stop();
      };
      return Object.assign(Object.create(listener) as Watch, { stop, awakeLock: awake.lock });
    },
  };
}

/** @param undeliverable is told what can't be delivered. */
export function createPostgresReader(
  db: Kysely<Tables>,
  undeliverable: Undeliverable = createUndeliverable(),
): FeedReader {
  const size = createTypicalSize();
  /** The last read found few rows. */
  let expectsFew = true;
  /** It found positions missing. */
  let expectsGap = true;
  /** It found rows that have to wait. */
  let isHeld = false;
  const readAround = undeliverable.reader();

  /** The newest event that is settled. */
  async function head(): Promise<Cursor> {
    const { through } = await readSettled(db);
    return newestThrough(db, through);
  }

  async function readRows(after: bigint, limit: number) {
    const few = expectsFew && limit >= FEW ? await fewRowsAfter(db, after) : undefined;
    const found = few ? { ...few, isCut: false } : await rowsAfter(db, after, limit, PAGE_BYTES);
    // In the midst of many, or of large ones, the next read finds such, too.
    expectsFew = found.rows.length < FEW && !found.isCut;
    return { ...found, more: few === undefined && (found.isCut || found.rows.length >= limit) };
  }

  /** What `readNew` answers, without `through`. */
  async function read(after: bigint, limit: number) {
    // What is settled has to be known before the rows are read. Without gaps it need not be known.
    let settled = expectsGap ? await readSettled(db) : undefined;
    let found = await readRows(after, limit);
    let whole = countWhole(found.rows, after, settled);
    if (whole < found.rows.length && settled === undefined) {
      settled = await readSettled(db);
      found = await readRows(after, limit);
      whole = countWhole(found.rows, after, settled);
    }
    const { rows, floor, more } = found;
    expectsGap = countWhole(rows, after, undefined) < rows.length;
    const held = whole < rows.length ? { by: settled?.process } : undefined;
    isHeld = held !== undefined;
    const events = await frameRows(isHeld ? rows.slice(0, whole) : rows, undeliverable);
    size.learn(
      events.length,
      events.reduce((sum, { frame }) => sum + frame.length, 0),
    );
    return { events, more: more && !held, floor, held };
  }

  /** Whether a single row is all that there will ever be up to it. */
  async function firstSettled(after: bigint) {
    const settled = await readSettled(db);
    const row = await firstAfter(db, after);
    return row && countWhole([row], after, settled) === 1 ? row : undefined;
  }

  return {
    head,

    async nearHead(limit) {
      const { through } = await readSettled(db);
      return nearNewest(db, through, limit);
    },

    async readNew(after) {
      const page = await readAround(
        isHeld ? FEW : size.rowsFor(PAGE_BYTES, PAGE_EVENTS),
        (limit) => read(after, limit),
        () => {
          expectsFew = false;
          return firstSettled(after);
        },
        ({ floor, floorId, ...row }) => ({
          events: [undeliverableOf(row)],
          more: true,
          floor: cursorIn({ id: floorId, position: floor }),
          held: undefined as HeldBack | undefined,
        }),
      );
      return { ...page, through: page.events.at(-1)?.position ?? after };
    },

    settled: () => readSettled(db),

    changesSince: (state, above) => changesSince(db, state, above),

    async isSameHistory(read) {
      const { rows } = await sql<{
        floorId: string;
        floor: string;
        id: string | null;
        created: number | null;
        standby: boolean;
      }>`
        SELECT ${FLOOR_ID} AS "floorId", ${FLOOR_POSITION} AS floor, outbox.id, ${CREATED} AS created,
          pg_is_in_recovery() AS standby
        FROM (VALUES (true)) AS always(present)
        LEFT JOIN here.outbox ON outbox.position = ${read.position}`.execute(db);
      const [found] = rows;
      refuseStandby(found);
      if (found === undefined) return false;
      const floor = BigInt(found.floor);
      // What was read has been deleted since; `readNew` tells whether anything was missed.
      if (floor > read.position || (floor === read.position && found.floorId === read.id)) return true;
      return found.id === read.id && (read.createdAt === undefined || read.createdAt === found.created);
    },
  };
}

/** How many of the rows have nothing missing before them, now and ever. */
function countWhole(
  rows: readonly { readonly position: string }[],
  after: bigint,
  settled: Settled | undefined,
): number {
  let through = settled && settled.through > after ? settled.through : after;
  for (const [index, row] of rows.entries()) {
    const position = BigInt(row.position);
    if (position > through + 1n) return index;
    if (position > through) through = position;
  }
  return rows.length;
}
