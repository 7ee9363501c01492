/**
 * Wake-ups: when the tail looks.
 *
 * | when                                            | the tail                                                        |
 * |-------------------------------------------------|-----------------------------------------------------------------|
 * | a notification of new events                    | reads what is new                                               |
 * | a notification of a redaction or a deletion     | asks what was changed, and reads what is new                    |
 * | every SWEEP_SECONDS                             | the same                                                        |
 * | every second                                    | asks whether anything is under way, and reads if so             |
 * | every POLL_SECONDS, while notifications do not  | the same, after it has verified the history                     |
 * | arrive                                          |                                                                 |
 * | the feed is watched, for the first time or      | the same, after it has verified the history                     |
 * | again                                           |                                                                 |
 * | another connection has been opened              | verifies the history before its next read                       |
 * | nobody would tell of a redaction                | forgets all that is in memory                                   |
 * | every few milliseconds, while so many publish   | reads what is new                                               |
 * | that they do not ring: see `Awake`              |                                                                 |
 *
 * A wake-up may be lost: the sweep bounds the delay that this costs (promise R6).
 */
import type { Feed, Watch } from '../outbox/feed.js';
import { startAwake, type Awake } from './awake.js';
import type { Tail } from './tail.js';

export interface WakeupSettings {
  /** The longest that an event whose notification was lost stays unnoticed. */
  readonly sweepSeconds: number;
  /** The same while no notification arrives. */
  readonly pollSeconds: number;
  /** Default: a second. The longest that one stays unnoticed whose publisher left ringing to another, which failed. */
  readonly glanceSeconds?: number;
}

const GLANCE_SECONDS = 1;

export interface WakeupParts {
  readonly feed: Pick<Feed, 'watch' | 'settled'>;
  readonly tail: Pick<Tail, 'wake' | 'check' | 'recheck' | 'look' | 'glance' | 'forget' | 'isReading'>;
}

export interface Wakeups {
  readonly watch: Omit<Watch, 'stop'>;
  /** Whether this relay looks by itself; undefined where publishers always ring. */
  readonly awake: Pick<Awake, 'state'> | undefined;
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
  const glancing = setInterval(tail.glance, (settings.glanceSeconds ?? GLANCE_SECONDS) * 1000);

  function poll(): void {
    // A pooler may lead elsewhere without a connection having ended. Not amid a read, which would
    // be thrown away: where one takes longer than a poll's time, none would ever count.
    if (!tail.isReading) tail.recheck();
    tail.check();
  }

  function stopTimers(): void {
    clearInterval(sweeping);
    clearInterval(glancing);
    clearInterval(polling);
  }

  /** What is heard before there is a watch only leads to a look. */
  let awake: Awake | undefined;
  let works = false;

  try {
    const watch = await feed.watch({
      wake() {
        tail.wake();
        awake?.rung();
      },
      changed: tail.check,
      recheck: tail.recheck,
      unattended: tail.forget,
      othersAwake: (relay) => awake?.othersAwake(relay),
      othersAsleep: (relay) => awake?.othersAsleep(relay),
      notificationsWork(work) {
        clearInterval(polling);
        polling = work ? undefined : setInterval(poll, settings.pollSeconds * 1000);
        works = work;
        awake?.notificationsWork(work);
      },
    });
    awake = watch.awakeLock && startAwake({ lock: watch.awakeLock, feed, tail });
    awake?.notificationsWork(works);
    return {
      watch,
      awake,
      async stop() {
        await awake?.stop();
        await watch.stop();
        stopTimers();
      },
    };
  } catch (error) {
    stopTimers();
    throw error;
  }
}
