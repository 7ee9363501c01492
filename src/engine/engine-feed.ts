/**
 * The feed from an engine's log: live as entries are appended, from the log itself where one was
 * missed, and from the archive what the log does not have. What was redacted, and whether the history
 * is the same, is asked of feeders, who ask PostgreSQL; so no reader starts while none answers.
 *
 * | what is heard                        | who reads is told                                |
 * |--------------------------------------|--------------------------------------------------|
 * | an entry                             | see log-follower.ts                              |
 * | a beat beyond all that was heard,    | wake: the next read begins with the log          |
 * | and the rest does not arrive soon    |                                                  |
 * | a new connection, or the first beat  | recheck and changed: much may have been missed   |
 * | after a silence                      |                                                  |
 * | silence: no feeder says that it      | that wake-ups do not arrive, so that it polls    |
 * | feeds                                |                                                  |
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { RunArchive } from '../outbox/archive.js';
import type { Feed, Watch } from '../outbox/feed.js';
import type { Beat, EngineReader } from './engine-log.js';
import { through } from './entry.js';
import { watchFeeders, type FeederWatch } from './feeder-watch.js';
import type { Learning } from './learning.js';
import { createLogFollower, type EngineStats } from './log-follower.js';

export interface EngineFeedParts {
  readonly reader: EngineReader;
  readonly archive: RunArchive;
  readonly learning: Learning;
  readonly logger: Record<'warn' | 'info', (fields: object, message: string) => void>;
}

export interface EngineFeed extends Feed {
  readonly stats: EngineStats;
  /** Age of the newest beat of a feeder that listens, in seconds; undefined: there was none. */
  readonly beatAgeSeconds: number | undefined;
}

/** How long what a beat tells of may be on its way: another feeder may have appended it. */
const ON_ITS_WAY_MS = 300;

export function createEngineFeed({ reader, archive, learning, logger }: EngineFeedParts): EngineFeed {
  const follower = createLogFollower({ reader, archive, learning, logger });
  let feeders: FeederWatch | undefined;
  /** The server of the latest answer: by another the state of `changesSince` means nothing. */
  let answeredBy = '';
  let losses = 0;

  async function changesSince(state: string | undefined, above: bigint) {
    const answer = await reader.feeders.changesSince(state, above);
    learning.answer(answer);
    const server = `${answer.system} ${answer.timeline}`;
    if (state !== undefined && server !== answeredBy) {
      answeredBy = server;
      return changesSince(undefined, above);
    }
    answeredBy = server;
    follower.outdate(answer, answer.sequence);
    return answer;
  }

  return {
    stats: follower.stats,
    get beatAgeSeconds() {
      return feeders?.beatAgeSeconds;
    },

    head: async () => through(await follower.newest()),

    async nearHead(limit) {
      const head = through(await follower.newest());
      return head.position === 0n ? head : archive.nearHead(head.position, limit);
    },

    readNew: follower.readNew,

    settled: () => {
      const { position } = follower;
      return Promise.resolve({ through: position, drawn: position, isQuiet: true, process: undefined });
    },

    changesSince,

    async isSameHistory(read) {
      // In this order: the answer is of what the log goes on with by now, or of what came later.
      await follower.newest(true);
      const answer = await reader.feeders.isSameHistory(read);
      learning.answer(answer);
      return answer.isSame;
    },

    watch(watcher) {
      const stopping = new AbortController();
      const { signal } = stopping;
      const lookAnew = () => {
        follower.miss();
        watcher.recheck();
        watcher.changed();
      };

      async function beatHeard({ sequence }: Beat): Promise<void> {
        if (sequence <= follower.sequence) return;
        await delay(ON_ITS_WAY_MS, undefined, { signal });
        if (sequence <= follower.sequence) return;
        follower.miss();
        watcher.wake();
      }

      const beats = (feeders = watchFeeders({
        reader,
        onBeat: (beat) => void beatHeard(beat).catch(() => undefined),
        onHeard(isHeard) {
          if (isHeard) logger.info({}, 'a feeder is heard');
          else
            logger.warn(
              {},
              'no feeder is heard that reads the outbox: nothing new is delivered, and memory is emptied',
            );
          watcher.notificationsWork(isHeard);
          if (isHeard) lookAnew();
        },
        onSilence: () => watcher.unattended?.(),
      }));
      const unsubscribe = reader.onConnect(() => {
        losses += 1;
        lookAnew();
      });
      follower.listener = watcher;
      lookAnew();
      const watch: Watch = {
        get trouble() {
          return reader.trouble;
        },
        get notificationsWork() {
          return beats.isHeard;
        },
        get losses() {
          return losses;
        },
        get noFeederSince() {
          return beats.silentSince;
        },
        awakeLock: undefined,
        stop() {
          stopping.abort();
          follower.listener = undefined;
          unsubscribe();
          beats.stop();
          return Promise.resolve();
        },
      };
      return Promise.resolve(watch);
    },
  };
}
