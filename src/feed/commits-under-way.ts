/**
 * Commits under way: which one the tail waits for, since when, and when it looks again.
 *
 * One holds back events that are there, because its own may come before them. One that holds back
 * nothing yet is waited for as well: it may have left ringing to another.
 */
import type { Logger } from 'pino';
import type { HeldBack, Settled } from '../outbox/feed.js';

/** What holds back events that are there. */
export interface Held extends HeldBack {
  readonly since: Date;
}

export interface CommitsUnderWay {
  /** Undefined: nothing is held back. */
  readonly held: Held | undefined;
  /** Time until the next look, in ms; undefined: there is nothing to look at. */
  readonly pauseMs: number | undefined;
  /** A read has found that. */
  read(held: HeldBack | undefined): void;
  /** A question has been answered by that. */
  asked(settled: Pick<Settled, 'isQuiet' | 'process'>): void;
  /** Nothing is known of any. */
  forget(): void;
}

/** A commit takes milliseconds. One that holds back others for so long hangs. */
export const COMMIT_HANGS_MS = 1000;

/**
 * Until a commit is looked at again: at first the time that an ordinary one takes, and later a part
 * of the time for which it has been at it.
 */
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 100;
const PART = 0.1;

export function createCommitsUnderWay(logger: Logger): CommitsUnderWay {
  let held: Held | undefined;
  let other: Held | undefined;
  let isHangReported = false;

  function report(before: Held | undefined): void {
    const isSame = held?.since === before?.since;
    if (isHangReported && !isSame) logger.info('the commit that hung is over');
    isHangReported &&= isSame;
    if (held === undefined || isHangReported || ageOf(held) <= COMMIT_HANGS_MS) return;
    isHangReported = true;
    logger.warn(
      { process: held.by, since: held.since },
      'a commit hangs: events that come after it wait for it. What it waits for is in pg_stat_activity, by its process',
    );
  }

  return {
    get held() {
      return held;
    },
    get pauseMs() {
      const waitedFor = held ?? other;
      return waitedFor && Math.min(Math.max(ageOf(waitedFor) * PART, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
    },
    read(by) {
      const before = held;
      held = by && (before?.by === by.by ? before : { ...by, since: new Date() });
      report(before);
    },
    asked({ isQuiet, process }) {
      if (isQuiet) other = undefined;
      else if (other === undefined || other.by !== process) other = { by: process, since: new Date() };
    },
    forget() {
      held = other = undefined;
    },
  };
}

function ageOf({ since }: Held): number {
  return Date.now() - since.getTime();
}
