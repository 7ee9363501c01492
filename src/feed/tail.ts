/**
 * The tail: the only judge of what is new. Whenever it is rung it reads what follows the log's head, in position order,
 * and appends it, until nothing follows.
 *
 * | state    | meaning                                             | leaves when                         |
 * |----------|-----------------------------------------------------|-------------------------------------|
 * | idle     | the log has all that was committed at the last ring | rung (reading)                      |
 * | reading  | a read is under way                                 | nothing follows (idle), it fails    |
 * | failed   | the last read failed; another is due                | the pause ends or it is rung        |
 * | stopped  | -                                                   | never                               |
 *
 * Nothing behind the head changes, as long as the table is the one that was read. It may be another after every new
 * connection: restored to an earlier point, or of a replica that lacked the latest commits when it took over. So whenever
 * there is reason for doubt the tail first has the source confirm what it stands on; else the log begins anew, and all
 * clients are told. The same when rows were deleted before they had been read: nobody is to miss them in silence (R4).
 *
 * What is behind the head may be redacted or deleted, and then must not go out to anybody who comes later (promise R8). The
 * table keeps account of that, and the tail asks it: when a notification hints at it, at each sweep and whenever there is doubt, and
 * before any reader starts (`upToDate`), so that nothing depends on notifications, and none that is forged evicts anything. It asks
 * between its reads and never beside one: what it has read is in the log by then, and what it reads next is as it is now.
 *
 * A ring only says "look". It may be lost, doubled or early without harm: the sweep rings too, so that a lost
 * notification costs latency and never an event (promise R6). Positions are drawn under a lock that is held until commit
 * is visible, so whatever is visible above the head is complete below itself: nothing can appear behind the head later.
 */
import type { Logger } from 'pino';
import type { Log } from './log.js';
import type { Cursor, FreshEvent, RestartReason } from '../event/event.js';
import type { Source } from '../outbox/postgres-source.js';

export interface Tail {
  /** Looks for new events now. */
  ring(): void;
  /** Looks for what has been redacted or deleted, and for new events. */
  check(): void;
  /**
   * Resolves once all that was redacted or deleted before the call is gone from the log. Costs one query, however many wait for it.
   *
   * @throws what the source throws.
   */
  upToDate(): Promise<void>;
  /** The table may be another than the one that was read: finds out before the next read, and throws away one under way. */
  doubt(): void;
  /** Whether a read is under way. */
  readonly isReading: boolean;
  /** Undefined when all reads go well, else what went wrong and since when. */
  readonly trouble: { readonly error: unknown; readonly since: Date } | undefined;
  /** Since when the table that keeps account of deletions is known to lack its row; undefined: it has it. */
  readonly floorMissingSince: Date | undefined;
  /** Since when it has known of events, or had reason to think of some, that it has not read; undefined: it has read all. */
  readonly behindSince: Date | undefined;
  /** Resolves when no read is under way any more. */
  stop(): Promise<void>;
}

export interface TailOptions {
  readonly source: Source;
  readonly log: Log;
  /** The longest that an event whose notification was lost stays unnoticed. */
  readonly sweepSeconds: number;
  readonly logger: Logger;
  /** Called after events that were published while the relay ran have been written to whoever was waiting for them. */
  readonly onDelivered?: (events: readonly FreshEvent[]) => void;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

const PAUSE_FIRST = 100;
const PAUSE_LAST = 1000;

export function startTail({ source, log, sweepSeconds, logger, onDelivered }: TailOptions): Tail {
  let state: 'idle' | 'reading' | 'failed' | 'stopped' = 'idle';
  let rung = false;
  /** What the table's account of changes was last seen to be; undefined: not of this table. */
  let seen: string | undefined;
  let isCheckDue = false;
  /** Who waits for the next check. */
  let waiting: Waiter[] = [];
  let floorMissingSince: Date | undefined;
  /** How often there was doubt, and how much of it has been cleared up. */
  let doubts = 0;
  let cleared = 0;
  /** When the event at the log's head was inserted; undefined until we have read one. */
  let headCreatedAt: number | undefined;
  let trouble: Tail['trouble'];
  let pause = PAUSE_FIRST;
  let retry: NodeJS.Timeout | undefined;
  let reading: Promise<void> = Promise.resolve();
  const sweep = setInterval(check, sweepSeconds * 1000);
  let behindSince: Date | undefined;

  function ring(): void {
    rung = true;
    if (state === 'idle' || state === 'failed') reading = read();
  }

  function check(): void {
    isCheckDue = true;
    ring();
  }

  async function read(): Promise<void> {
    clearTimeout(retry);
    state = 'reading';
    try {
      let more = rung;
      while ((more || wanted()) && isRunning()) {
        const doubted = doubts;
        const isDoubtful = doubted !== cleared;
        if (isDoubtful) rung = isCheckDue = true;
        if (rung || more) behindSince ??= new Date();
        if (isDoubtful) {
          seen = undefined;
          if (!(await confirm())) continue;
        }
        cleared = doubted;
        if (isCheckDue || waiting.length > 0) await findChanges();
        if (!isRunning()) return;
        if (doubted !== doubts || !(rung || more)) continue;
        // Cleared before the read: a ring that comes during it asks for another.
        rung = false;
        const page = await source.eventsAfter(log.head.position);
        if (!isRunning()) return;
        if (doubted !== doubts) continue;
        if (page.floor.position > log.head.position) {
          restart(page.floor, 'expired', 'events were deleted before this relay had read them: its clients are reset');
          rung = true;
          continue;
        }
        log.append(page.events);
        headCreatedAt = page.events.at(-1)?.createdAt ?? headCreatedAt;
        onDelivered?.(page.events);
        recovered();
        ({ more } = page);
        if (!more) behindSince = undefined;
      }
      if (isRunning()) state = 'idle';
    } catch (error) {
      failed(error);
    }
  }

  /** Drops from the log what the table says has been redacted or deleted. */
  async function findChanges(): Promise<void> {
    const doubted = doubts;
    const waiters = waiting;
    waiting = [];
    isCheckDue = false;
    try {
      const { state: now, ...changes } = await source.changesSince(seen, log.floor);
      // It may have come from another table than the one that was confirmed.
      if (doubted !== doubts) {
        waiting = [...waiters, ...waiting];
        return;
      }
      // Of what there has ever been part may be new.
      if (changes.hasRedacted || seen === undefined) log.redact(changes.redacted, changes.redactedThrough);
      seen = now;
      log.evictThrough(changes.floor.position);
      // What was deleted above the head is for the next read to find out.
      if (changes.floor.position > log.head.position) rung = true;
      floorIsMissing(changes.isFloorMissing);
      for (const { resolve } of waiters) resolve();
    } catch (error) {
      for (const { reject } of waiters) reject(error);
      throw error;
    }
  }

  function floorIsMissing(isMissing: boolean): void {
    if (isMissing && !floorMissingSince) {
      logger.error(
        'outbox_floor has lost its row: events are delivered, but who returns after a deletion may not be told of it. ' +
          'As the owner of the outbox, run: outbox-relay migrate',
      );
    }
    floorMissingSince = isMissing ? (floorMissingSince ?? new Date()) : undefined;
  }

  /** Makes sure that the table is the one that was read; restarts the log if it is not. */
  async function confirm(): Promise<boolean> {
    const read = log.head;
    if (await source.holds(read, headCreatedAt)) return true;
    const now = await source.head();
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
    log.restart(at, reason);
  }

  function wanted(): boolean {
    return rung || isCheckDue || waiting.length > 0;
  }

  function isRunning(): boolean {
    return state !== 'stopped';
  }

  function recovered(): void {
    if (trouble) logger.info({ seconds: secondsSince(trouble.since) }, 'reading the outbox works again');
    trouble = undefined;
    pause = PAUSE_FIRST;
  }

  function failed(error: unknown): void {
    if (!isRunning()) return;
    state = 'failed';
    // Behind a pooler the next read may go to another server, without any connection of ours having ended.
    doubts += 1;
    if (!trouble) logger.warn({ err: error }, 'cannot read the outbox; trying until it works');
    trouble = { error, since: trouble?.since ?? new Date() };
    retry = setTimeout(ring, pause * (0.5 + Math.random() / 2));
    pause = Math.min(pause * 2, PAUSE_LAST);
    refuse(error);
  }

  /** Nobody is kept waiting for a database that is away: who still wants to know asks again. */
  function refuse(error: unknown): void {
    const waiters = waiting;
    waiting = [];
    for (const { reject } of waiters) reject(error);
  }

  return {
    ring,
    doubt() {
      doubts += 1;
    },
    get isReading() {
      return state === 'reading';
    },
    get behindSince() {
      return behindSince;
    },
    check,
    upToDate() {
      const { promise, ...waiter } = deferred();
      waiting.push(waiter);
      if (state === 'idle') reading = read();
      return promise;
    },
    get floorMissingSince() {
      return floorMissingSince;
    },
    get trouble() {
      return trouble;
    },
    async stop() {
      state = 'stopped';
      clearInterval(sweep);
      clearTimeout(retry);
      await reading;
      refuse(new Error('the relay is being stopped'));
    },
  };
}

function secondsSince(date: Date): number {
  return Math.round((Date.now() - date.getTime()) / 1000);
}

function deferred(): Waiter & { readonly promise: Promise<void> } {
  let resolve: Waiter['resolve'] = () => undefined;
  let reject: Waiter['reject'] = () => undefined;
  const promise = new Promise<void>((resolved, rejected) => {
    resolve = resolved;
    reject = rejected;
  });
  return { promise, resolve, reject };
}
