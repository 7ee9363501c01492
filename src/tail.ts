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
 * A ring only says "look". It may be lost, doubled or early without harm: the sweep rings too, so that a lost
 * notification costs latency and never an event (promise R6). Positions are drawn under a lock that is held until commit
 * is visible, so whatever is visible above the head is complete below itself: nothing can appear behind the head later.
 */
import type { Logger } from 'pino';
import type { Log } from './log.js';
import type { FreshEvent, Source } from './outbox.js';

export interface Tail {
  /** Looks for new events now. */
  ring(): void;
  /** Drops cached events up to `position`, and a read under way, which may hold what was changed meanwhile. */
  forget(position: bigint): void;
  /** Undefined when all reads go well, else what went wrong and since when. */
  readonly trouble: { readonly error: unknown; readonly since: Date } | undefined;
  /** When it last knew that it had read all there was, in milliseconds since 1970. */
  readonly caughtUpAt: number;
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
const PAUSE_LAST = 2000;

export function startTail({ source, log, sweepSeconds, logger, onDelivered }: TailOptions): Tail {
  let state: 'idle' | 'reading' | 'failed' | 'stopped' = 'idle';
  let rung = false;
  /** How often `forget` was called: a read that began before the last call may hold what was changed. */
  let changes = 0;
  /** Up to where events may have been changed. */
  let changed = 0n;
  /** Up to where events may have been deleted that we have not read. */
  let gone = 0n;
  let trouble: Tail['trouble'];
  let pause = PAUSE_FIRST;
  let retry: NodeJS.Timeout | undefined;
  let reading: Promise<void> = Promise.resolve();
  const sweep = setInterval(ring, sweepSeconds * 1000);
  let caughtUpAt = Date.now();

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
        // Cleared before the read: a ring that comes during it asks for another.
        rung = false;
        const asked = changes;
        // Read first: what stands at or below it and is not in the page after it is gone.
        const end = gone > log.head.position ? await source.head() : undefined;
        const page = await source.eventsAfter(log.head.position);
        if (!isRunning()) return;
        const isStale = asked !== changes;
        stale = isStale ? stale + 1 : 0;
        if (!isStale || stale > MAX_STALE) {
          log.append(page.events);
          onDelivered?.(page.events);
          if (end && !page.more && end.position > log.head.position) log.advance(end);
          // Who was waiting got them as they were a moment ago; nobody else will.
          if (isStale) log.forget(changed);
        }
        more = page.more || wanted() || isStale;
      }
      recovered();
      caughtUpAt = Date.now();
      state = 'idle';
    } catch (error) {
      failed(error);
    }
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
    if (!trouble) logger.warn({ err: error }, 'cannot read the outbox; trying until it works');
    trouble = { error, since: trouble?.since ?? new Date() };
    retry = setTimeout(ring, pause * (0.5 + Math.random() / 2));
    pause = Math.min(pause * 2, PAUSE_LAST);
  }

  return {
    ring,
    get caughtUpAt() {
      return caughtUpAt;
    },
    forget(position) {
      changes += 1;
      if (position > gone) gone = position;
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
