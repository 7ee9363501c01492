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
import type { FreshEvent } from '../event/event.js';
import type { FeedReader, HeldBack } from '../outbox/feed.js';
import { createRetry, type Trouble } from '../postgres/retry.js';
import { createChangeCheck } from './change-check.js';
import { createCommitsUnderWay, type Held } from './commits-under-way.js';
import { createHistoryCheck } from './history-check.js';
import { createLooks, type Look } from './looks.js';
import type { TailLog } from './tail-log.js';

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
  /** Lets go of all events in memory: whoever has yet to get them gets them from the table. */
  forget(): void;
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

export interface TailOptions {
  readonly feed: FeedReader;
  readonly log: TailLog;
  readonly logger: Logger;
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1000;

/** Reads nothing until it is woken. */
export function startTail({ feed, log, logger }: TailOptions): Tail {
  let state: 'idle' | 'reading' | 'failed' | 'stopped' = 'idle';
  let wakeRequested = false;
  /** How many rechecks were requested, and how many of them were answered. */
  let rechecks = 0;
  let rechecked = 0;
  let behindSince: Date | undefined;
  let onDelivered: (events: readonly FreshEvent[]) => void = () => undefined;
  let retryTimer: NodeJS.Timeout | undefined;
  let lookAgainTimer: NodeJS.Timeout | undefined;
  const underWay = createCommitsUnderWay(logger);
  const history = createHistoryCheck({ feed, log, logger, onRestart: underWay.forget });
  const changes = createChangeCheck({ feed, log, logger });
  const looks = createLooks();
  /** Whether to look again until nobody is committing: not where somebody looks by himself. */
  let mustSettle = false;
  /** Position up to which all is read that will ever be visible; the newest event may be lower. */
  let settledThrough = 0n;
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
    changes.request();
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
      await log.ready?.();
      if (!isRunning()) return;
      const requested = rechecks;
      const mustVerify = requested !== rechecked;
      const isSameFeed = () => requested === rechecks;
      if (mustVerify) {
        wakeRequested = true;
        changes.request();
      }
      if (wakeRequested || more) behindSince ??= new Date();
      if (mustVerify) {
        changes.forget();
        if (!(await history.verify(isRunning))) continue;
      }
      rechecked = requested;
      // What was deleted above the head is for the next read to find out.
      if (changes.isDue && (await changes.find(isSameFeed))) wakeRequested = true;
      if (!isRunning()) return;
      if (!isSameFeed() || !(wakeRequested || more)) continue;
      // Cleared before the read: a wake-up that comes during it asks for another.
      wakeRequested = false;
      looks.begin();
      const page = await feed.readNew(log.head.position);
      if (!isRunning()) return;
      if (!isSameFeed()) {
        wakeRequested = true;
        continue;
      }
      if (page.floor.position > log.head.position) {
        await history.expire(page.floor);
        wakeRequested = true;
        continue;
      }
      if ((await log.append(page.events)) === false) {
        wakeRequested = true;
        continue;
      }
      history.appended(page.events);
      onDelivered(page.events);
      retry.succeeded();
      ({ more } = page);
      looks.found(page.events.length);
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
    looks.answer(by !== undefined);
  }

  function isRequested(): boolean {
    return wakeRequested || changes.isDue;
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
    changes.refuse(error);
    looks.refuse(error);
  }

  return {
    wake,
    check,
    glance,
    look() {
      const found = looks.ask();
      // Whoever looks by himself asks for himself who commits.
      mustSettle = false;
      lookNow();
      return found;
    },
    recheck() {
      rechecks += 1;
      settledThrough = 0n;
    },
    upToDate() {
      const found = changes.wait();
      if (state === 'idle') reading = read();
      return found;
    },
    forget() {
      if (log.floor < log.head.position) void log.redact([], log.head.position);
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
      return changes.floorMissingSince;
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
