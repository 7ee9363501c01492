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
 * A ring only says "look". It may be lost, doubled or early without harm: the sweep rings too, so that a lost
 * notification costs latency and never an event (promise R6). Positions are drawn under a lock that is held until commit
 * is visible, so whatever is visible above the head is complete below itself: nothing can appear behind the head later.
 */
import type { Logger } from 'pino';
import type { Cursor, Log, RestartReason } from './log.js';
import type { FreshEvent, Source } from './outbox.js';

export interface Tail {
  /** Looks for new events now. */
  ring(): void;
  /** Drops cached events up to `position`, and a read under way, which may hold what was changed meanwhile. */
  forget(position: bigint): void;
  /** The table may be another than the one that was read: finds out before the next read, and throws away one under way. */
  doubt(): void;
  /** Whether a read is under way. */
  readonly isReading: boolean;
  /** Undefined when all reads go well, else what went wrong and since when. */
  readonly trouble: { readonly error: unknown; readonly since: Date } | undefined;
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

/** How many reads in a row are thrown away because of changes: more, and a busy redaction would stop all delivery. */
const MAX_STALE = 3;

const PAUSE_FIRST = 100;
const PAUSE_LAST = 1000;

export function startTail({ source, log, sweepSeconds, logger, onDelivered }: TailOptions): Tail {
  let state: 'idle' | 'reading' | 'failed' | 'stopped' = 'idle';
  let rung = false;
  /** How often `forget` was called: a read that began before the last call may hold what was changed. */
  let changes = 0;
  /** Up to where events may have been changed. */
  let changed = 0n;
  /** How often there was doubt, and how much of it has been cleared up. */
  let doubts = 0;
  let cleared = 0;
  /** When the event at the log's head was inserted; undefined until we have read one. */
  let headCreatedAt: number | undefined;
  let trouble: Tail['trouble'];
  let pause = PAUSE_FIRST;
  let retry: NodeJS.Timeout | undefined;
  let reading: Promise<void> = Promise.resolve();
  const sweep = setInterval(ring, sweepSeconds * 1000);
  let behindSince: Date | undefined;

  function ring(): void {
    rung = true;
    if (state === 'idle' || state === 'failed') reading = read();
  }

  async function read(): Promise<void> {
    clearTimeout(retry);
    state = 'reading';
    let stale = 0;
    try {
      let more = true;
      while (more && isRunning()) {
        behindSince ??= new Date();
        // Cleared before the read: a ring that comes during it asks for another.
        rung = false;
        const asked = changes;
        const doubted = doubts;
        if (doubted !== cleared && !(await confirm())) continue;
        cleared = doubted;
        const page = await source.eventsAfter(log.head.position);
        if (!isRunning()) return;
        if (doubted !== doubts) continue;
        if (page.floor.position > log.head.position) {
          restart(page.floor, 'expired', 'events were deleted before this relay had read them: its clients are reset');
          continue;
        }
        const isStale = asked !== changes;
        stale = isStale ? stale + 1 : 0;
        if (!isStale || stale > MAX_STALE) {
          log.append(page.events);
          headCreatedAt = page.events.at(-1)?.createdAt ?? headCreatedAt;
          onDelivered?.(page.events);
          // Who was waiting got them as they were a moment ago; nobody else will.
          if (isStale) log.forget(changed);
        }
        recovered();
        if (!page.more && !isStale) behindSince = undefined;
        more = page.more || isStale || wanted();
      }
      if (isRunning()) state = 'idle';
    } catch (error) {
      failed(error);
    }
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
    return rung;
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
    forget(position) {
      changes += 1;
      if (position > changed) changed = position;
      log.forget(position);
    },
    get trouble() {
      return trouble;
    },
    async stop() {
      state = 'stopped';
      clearInterval(sweep);
      clearTimeout(retry);
      await reading;
    },
  };
}

function secondsSince(date: Date): number {
  return Math.round((Date.now() - date.getTime()) / 1000);
}
