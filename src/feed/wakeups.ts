/**
 * Wake-ups: when the tail looks.
 *
 * | when                                            | the tail                                                        |
 * |-------------------------------------------------|-----------------------------------------------------------------|
 * | a notification of new events                    | reads what is new                                               |
 * | a notification of a redaction or a deletion     | asks what was changed, and reads what is new                    |
 * | every SWEEP_SECONDS                             | the same                                                        |
 * | every POLL_SECONDS, while notifications do not  | the same, after it has verified the history                     |
 * | arrive                                          |                                                                 |
 * | the feed is watched, for the first time or      | the same, after it has verified the history                     |
 * | again                                           |                                                                 |
 * | another connection has been opened              | verifies the history before its next read                       |
 *
 * A wake-up may be lost: the sweep bounds the delay that this costs (promise R6).
 */
import type { Feed, Watch } from '../outbox/feed.js';
import type { Tail } from './tail.js';

export interface WakeupSettings {
  /** The longest that an event whose notification was lost stays unnoticed. */
  readonly sweepSeconds: number;
  /** The same while no notification arrives. */
  readonly pollSeconds: number;
}

export interface WakeupParts {
  readonly feed: Pick<Feed, 'watch'>;
  readonly tail: Pick<Tail, 'wake' | 'check' | 'recheck' | 'isReading'>;
}

export interface Wakeups {
  readonly watch: Omit<Watch, 'stop'>;
  /** Resolves when the feed is not watched any more. Safe to call twice. */
  stop(): Promise<void>;
}

/**
 * Wakes the tail until it is stopped.
 *
 * @throws what `feed.watch` throws, as at a first connection that fails.
 */
export async function startWakeups(settings: WakeupSettings, { feed, tail }: WakeupParts): Promise<Wakeups> {
  let polling: NodeJS.Timeout | undefined;
  const sweeping = setInterval(tail.check, settings.sweepSeconds * 1000);

  function poll(): void {
    // A pooler may lead elsewhere without a connection having ended. Not amid a read, which would
    // be thrown away: where one takes longer than a poll's time, none would ever count.
    if (!tail.isReading) tail.recheck();
    tail.check();
  }

  function stopTimers(): void {
    clearInterval(sweeping);
    clearInterval(polling);
  }

  try {
    const watch = await feed.watch({
      wake: tail.wake,
      changed: tail.check,
      recheck: tail.recheck,
      notificationsWork(work) {
        clearInterval(polling);
        polling = work ? undefined : setInterval(poll, settings.pollSeconds * 1000);
      },
    });
    return {
      watch,
      async stop() {
        await watch.stop();
        stopTimers();
      },
    };
  } catch (error) {
    stopTimers();
    throw error;
  }
}
