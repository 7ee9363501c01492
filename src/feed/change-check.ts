/**
 * The check for changes: what was redacted or deleted, asked of the feed and dropped from the log,
 * and who waits for that (promise R8).
 *
 * The feed keeps account of changes under a state, which each answer brings: the next question is
 * for what came after it. Without one, as after another history, the answer is all that there ever
 * was. Nothing here depends on notifications, so none that is forged evicts anything.
 */
import type { Logger } from 'pino';
import { commandLine } from '../command-name.js';
import type { FeedReader } from '../outbox/feed.js';
import type { TailLog } from './tail-log.js';

export interface ChangeCheck {
  /** Somebody asked for a check, or waits for one. */
  readonly isDue: boolean;
  /** Since when the row that keeps the floor is known to be gone; undefined: it is there. */
  readonly floorMissingSince: Date | undefined;
  request(): void;
  /**
   * Resolves once all that was redacted or deleted before the call is gone from the log. One check
   * answers all who wait; who asks during one waits for the next.
   */
  wait(): Promise<void>;
  /** The next answer is to be all that there ever was. */
  forget(): void;
  /**
   * Asks the feed, and drops from the log what it says.
   *
   * @param isSameFeed whether the answer is of the feed that was verified; otherwise it is not used.
   * @returns whether events were deleted beyond the log's head.
   * @throws what the feed and the log throw; whoever waits is told the same.
   */
  find(isSameFeed: () => boolean): Promise<boolean>;
  /** Refuses all who wait. */
  refuse(error: unknown): void;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export interface ChangeCheckParts {
  readonly feed: Pick<FeedReader, 'changesSince'>;
  readonly log: TailLog;
  readonly logger: Logger;
}

export function createChangeCheck({ feed, log, logger }: ChangeCheckParts): ChangeCheck {
  let isRequested = false;
  /** Who waits for the next check. */
  let waiting: Waiter[] = [];
  /** That of the latest answer; undefined: there is none of this history. */
  let state: string | undefined;
  let floorMissingSince: Date | undefined;

  function setFloorMissing(isMissing: boolean): void {
    if (isMissing && !floorMissingSince) {
      logger.error(
        'outbox_floor has lost its row: events are delivered, but who returns after a deletion may not be told of it. ' +
          `As the owner of the outbox, run: ${commandLine('migrate')}`,
      );
    }
    floorMissingSince = isMissing ? (floorMissingSince ?? new Date()) : undefined;
  }

  return {
    get isDue() {
      return isRequested || waiting.length > 0;
    },
    get floorMissingSince() {
      return floorMissingSince;
    },
    request() {
      isRequested = true;
    },
    wait: () => new Promise((resolve, reject) => waiting.push({ resolve, reject })),
    forget() {
      state = undefined;
    },
    async find(isSameFeed) {
      const waiters = waiting;
      waiting = [];
      isRequested = false;
      try {
        const { state: now, ...changes } = await feed.changesSince(state, log.floor);
        if (!isSameFeed()) {
          waiting = [...waiters, ...waiting];
          return false;
        }
        // Of what there has ever been part may be new.
        if (changes.hasRedacted || state === undefined) await log.redact(changes.redacted, changes.redactedThrough);
        await log.evictThrough(changes.floor.position);
        state = now;
        setFloorMissing(changes.isFloorMissing);
        for (const { resolve } of waiters) resolve();
        return changes.floor.position > log.head.position;
      } catch (error) {
        for (const { reject } of waiters) reject(error);
        throw error;
      }
    },
    refuse(error) {
      for (const { reject } of waiting.splice(0)) reject(error);
    },
  };
}
