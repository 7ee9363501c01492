/**
 * The tail: the only judge of what is new. Whenever it is woken it reads what follows the log's
 * head, in position order, and appends it, until nothing follows.
 *
 * | state    | meaning                                               | leaves when                            |
 * |----------|-------------------------------------------------------|----------------------------------------|
 * | idle     | the log has all that was committed at the last wake-up| woken (reading)                        |
 * | held     | as idle, but a commit under way holds back what is    | a moment has passed, or it is woken    |
 * |          | there                                                 |                                        |
 * | reading  | a read is under way                                   | nothing follows (idle or held), it     |
 * |          |                                                       | fails                                  |
 * | failed   | the last read failed; another is due                  | the pause ends or it is woken          |
 * | stopped  | -                                                     | never                                  |
 *
 * Nothing behind the head changes, as long as the feed is the one that was read. After every
 * recheck the tail first verifies the history; where it is another, the log begins anew and all
 * clients are told. The same when rows were deleted before they were read: nobody is to miss them
 * in silence (R4).
 *
 * Events behind the head may be redacted or deleted, and then must not go out to anybody who comes
 * later (promise R8). The feed keeps account of that, and the tail asks it: at each check, after
 * each recheck, and before any reader starts (`upToDate`). So nothing depends on notifications, and
 * none that is forged evicts anything. It asks between its reads and never beside one: what it has
 * read is in the log by then, and what it reads next is as it is now.
 *
 * A wake-up only says "look". It may be lost, doubled or early without harm (promise R6).
 */
import type { Logger } from 'pino';
import type { Cursor, FreshEvent, RestartReason } from '../event/event.js';
import type { FeedReader, HeldBack } from '../outbox/feed.js';
import { createRetry, type Trouble } from '../postgres/retry.js';
import { createCommitsUnderWay, type Held } from './commits-under-way.js';
import type { Log } from './log.js';

export interface Tail {
  /** Looks for new events now, and again until nobody is committing any. */
  wake(): void;
  /** Looks for what has been redacted or deleted, and for new events. */
  check(): void;
  /** Looks for new events where any may be there or on their way, and nobody may have rung. */
  glance(): void;
  /**
   * Looks for new events now, once, and resolves when all that were committed before the call are in
   * the log, but for what is held back.
   *
   * @throws what the feed throws.
   */
  look(): Promise<Look>;
  /**
   * Resolves once all that was redacted or deleted before the call is gone from the log. Costs one
   * query, however many wait.
   *
   * @throws what the feed throws.
   */
  upToDate(): Promise<void>;
  /**
   * The feed may be another: verifies the history before the next read, and throws away a read that
   * is under way.
   */
  recheck(): void;
  /** Calls back after new events have been written to whoever was waiting for them. */
  onDelivered(callback: (events: readonly FreshEvent[]) => void): void;
  /** Whether a read is under way. */
  readonly isReading: boolean;
  /** Undefined when all reads go well, else what went wrong and since when. */
  readonly trouble: Trouble | undefined;
  /** Since when the row that keeps the floor is known to be gone; undefined: it is there. */
  readonly floorMissingSince: Date | undefined;
  /**
   * Since when it has known of events, or had reason to look for some, that it has not read;
   * undefined: it has read all.
   */
  readonly behindSince: Date | undefined;
  /** What holds back events that are there, and since when; undefined: nothing does. */
  readonly held: Held | undefined;
  /** Resolves when no read is under way any more. Safe to call twice. */
  stop(): Promise<void>;
}

/** What a look found. */
export interface Look {
  /** How many events were new since the look before. */
  readonly events: number;
  readonly isHeld: boolean;
}

export interface TailOptions {
  readonly feed: FeedReader;
  readonly log: Log;
  readonly logger: Logger;
}

interface Waiter<T = void> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1000;

/** Reads nothing until it is woken. */
export function startTail({ feed, log, logger }: TailOptions): Tail {
  let state: 'idle' | 'reading' | 'failed' | 'stopped' = 'idle';
  let wakeRequested = false;
  let checkRequested = false;
  /** Who waits for the next check. */
  let waiting: Waiter[] = [];
  /** State of the latest answer of `changesSince`; undefined: none of this history. */
  let changesState: string | undefined;
  /** How many rechecks were requested, and how many of them were answered. */
  let rechecks = 0;
  let rechecked = 0;
  /** When the event at the log's head was inserted; undefined until one has been read. */
  let headCreatedAt: number | undefined;
  let floorMissingSince: Date | undefined;
  let behindSince: Date | undefined;
  let onDelivered: (events: readonly FreshEvent[]) => void = () => undefined;
  let retryTimer: NodeJS.Timeout | undefined;
  let lookAgainTimer: NodeJS.Timeout | undefined;
  const underWay = createCommitsUnderWay(logger);
  /** Whether to look again until nobody is committing: not where somebody looks by himself. */
  let mustSettle = false;
  /** Position up to which all is read that will ever be visible; the newest event may be lower. */
  let settledThrough = 0n;
  /** Who waits for the next read, and for the one that is under way. */
  const looking: Waiter<Look>[] = [];
  const answered: Waiter<Look>[] = [];
  /** How many events have been found since a look was answered. */
  let found = 0;
  let reading: Promise<void> = Promise.resolve();
  const retry = createRetry({
    firstPauseMs: FIRST_PAUSE_MS,
    longestPauseMs: LONGEST_PAUSE_MS,
    log: {
      logger,
      onFailure: 'cannot read the outbox; trying until it works',
      onRecovery: 'reading the outbox works again',
    },
  });

  function wake(): void {
    mustSettle = true;
    lookNow();
  }

  function lookNow(): void {
    wakeRequested = true;
    if (state === 'idle' || state === 'failed') reading = read();
  }

  function check(): void {
    checkRequested = true;
    wake();
  }

  async function read(): Promise<void> {
    clearTimeout(retryTimer);
    clearTimeout(lookAgainTimer);
    state = 'reading';
    try {
      for (let isSettled = false; isRunning() && (!isSettled || isRequested());) {
        await readAll();
        isSettled = !mustSettle || underWay.held !== undefined || (await settle());
      }
      if (!isRunning()) return;
      state = 'idle';
      if (mustSettle) lookAgainTimer = setTimeout(wake, underWay.pauseMs);
    } catch (error) {
      failed(error);
    }
  }

  /** Reads until nothing is asked for any more. */
  async function readAll(): Promise<void> {
    let more = wakeRequested;
    while ((more || isRequested()) && isRunning()) {
      const requested = rechecks;
      const mustVerify = requested !== rechecked;
      if (mustVerify) wakeRequested = checkRequested = true;
      if (wakeRequested || more) behindSince ??= new Date();
      if (mustVerify) {
        changesState = undefined;
        if (!(await verifyHistory())) continue;
      }
      rechecked = requested;
      if (checkRequested || waiting.length > 0) await findChanges();
      if (!isRunning()) return;
      if (requested !== rechecks || !(wakeRequested || more)) continue;
      // Cleared before the read: a wake-up that comes during it asks for another.
      wakeRequested = false;
      answered.push(...looking.splice(0));
      const page = await feed.readNew(log.head.position);
      if (!isRunning()) return;
      if (requested !== rechecks) {
        wakeRequested = true;
        continue;
      }
      if (page.floor.position > log.head.position) {
        restart(page.floor, 'expired', 'events were deleted before this relay had read them: its clients are reset');
        wakeRequested = true;
        continue;
      }
      log.append(page.events);
      headCreatedAt = page.events.at(-1)?.createdAt ?? headCreatedAt;
      onDelivered(page.events);
      retry.succeeded();
      ({ more } = page);
      found += page.events.length;
      if (!more) caughtUp(page.held);
    }
  }

  /**
   * Whether all is read, or has to be looked at again later. Who commits may have left ringing to
   * another, and was not to be seen yet, or is there by now.
   */
  async function settle(): Promise<boolean> {
    const requested = rechecks;
    const { drawn, isQuiet, process } = await feed.settled();
    if (isRequested() || requested !== rechecks) return false;
    underWay.asked({ isQuiet, process });
    mustSettle = !isQuiet;
    if (!isQuiet || isRead(drawn)) return true;
    // The next read finds all of it.
    settledThrough = drawn;
    wakeRequested = true;
    return false;
  }

  function isRead(position: bigint): boolean {
    return position <= log.head.position || position <= settledThrough;
  }

  function glance(): void {
    if (state !== 'idle') return;
    feed.settled().then(({ drawn, isQuiet }) => {
      if (!isQuiet || !isRead(drawn)) wake();
    }, ignore);
  }

  /** Nothing follows what was read, but for what is held back. */
  function caughtUp(by: HeldBack | undefined): void {
    behindSince = undefined;
    underWay.read(by);
    if (answered.length === 0) return;
    for (const { resolve } of answered.splice(0)) resolve({ events: found, isHeld: by !== undefined });
    found = 0;
  }

  /** Drops from the log what the feed says has been redacted or deleted. */
  async function findChanges(): Promise<void> {
    const requested = rechecks;
    const waiters = waiting;
    waiting = [];
    checkRequested = false;
    try {
      const { state: now, ...changes } = await feed.changesSince(changesState, log.floor);
      // It may have come from another history than the one that was verified.
      if (requested !== rechecks) {
        waiting = [...waiters, ...waiting];
        return;
      }
      // Of what there has ever been part may be new.
      if (changes.hasRedacted || changesState === undefined) log.redact(changes.redacted, changes.redactedThrough);
      changesState = now;
      log.evictThrough(changes.floor.position);
      // What was deleted above the head is for the next read to find out.
      if (changes.floor.position > log.head.position) wakeRequested = true;
      setFloorMissing(changes.isFloorMissing);
      for (const { resolve } of waiters) resolve();
    } catch (error) {
      for (const { reject } of waiters) reject(error);
      throw error;
    }
  }

  function setFloorMissing(isMissing: boolean): void {
    if (isMissing && !floorMissingSince) {
      logger.error(
        'outbox_floor has lost its row: events are delivered, but who returns after a deletion may not be told of it. ' +
          'As the owner of the outbox, run: outbox-relay migrate',
      );
    }
    floorMissingSince = isMissing ? (floorMissingSince ?? new Date()) : undefined;
  }

  /** Restarts the log unless the feed is the one that was read. Returns whether it is. */
  async function verifyHistory(): Promise<boolean> {
    if (await feed.isSameHistory({ ...log.head, createdAt: headCreatedAt })) return true;
    const now = await feed.head();
    if (!isRunning()) return false;
    restart(
      now,
      'unknown',
      'the database is not the one that was read up to here, as after a restore or a failover that lost commits: all clients ' +
        'are reset. Run `outbox-relay advance-ids` once, so that no id is given to a second event',
    );
    return false;
  }

  function restart(at: Cursor, reason: RestartReason, message: string): void {
    logger[reason === 'unknown' ? 'error' : 'warn']({ from: log.head.id, to: at.id }, message);
    headCreatedAt = undefined;
    underWay.forget();
    log.restart(at, reason);
  }

  function isRequested(): boolean {
    return wakeRequested || checkRequested || waiting.length > 0;
  }

  function isRunning(): boolean {
    return state !== 'stopped';
  }

  function failed(error: unknown): void {
    if (!isRunning()) return;
    state = 'failed';
    // Behind a pooler the next read may go to another server, without any connection of ours having
    // ended.
    rechecks += 1;
    settledThrough = 0n;
    retryTimer = setTimeout(wake, retry.failed(error));
    refuse(error);
  }

  /** Nobody is kept waiting for a database that is away: who still wants to know asks again. */
  function refuse(error: unknown): void {
    for (const { reject } of [...waiting.splice(0), ...answered.splice(0), ...looking.splice(0)]) reject(error);
  }

  return {
    wake,
    check,
    glance,
    look() {
      return new Promise((resolve, reject) => {
        looking.push({ resolve, reject });
        // Whoever looks by himself asks for himself who commits.
        mustSettle = false;
        lookNow();
      });
    },
    recheck() {
      rechecks += 1;
      settledThrough = 0n;
    },
    upToDate() {
      return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        if (state === 'idle') reading = read();
      });
    },
    onDelivered(callback) {
      onDelivered = callback;
    },
    get isReading() {
      return state === 'reading';
    },
    get behindSince() {
      return behindSince;
    },
    get held() {
      return underWay.held;
    },
    get floorMissingSince() {
      return floorMissingSince;
    },
    get trouble() {
      return retry.trouble;
    },
    async stop() {
      state = 'stopped';
      clearTimeout(retryTimer);
      clearTimeout(lookAgainTimer);
      await reading;
      refuse(new Error('the relay is being stopped'));
    },
  };
}

/** Of a glance that fails others will tell. */
function ignore(): void {
  // Nothing was to be read.
}
