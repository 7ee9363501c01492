/**
 * The fence around a log: a database that is not the one to feed it appends nothing.
 *
 * | fence            | meaning                                                    | leaves when         |
 * |------------------|------------------------------------------------------------|---------------------|
 * | none             | nothing speaks against the database, as far as is known    | a check finds that  |
 * | `older_timeline` | the log is fed from a newer timeline of the same system:   | it is lifted, as    |
 * |                  | the database was deposed                                   | that is no longer so|
 * | `other_outbox`   | the log is that of another outbox                          | the same            |
 */
import type { Logger } from 'pino';
import { commandLine } from '../command-name.js';
import type { FeedReader } from '../outbox/feed.js';
import type { Answerer } from './engine-log.js';
import { createdAtEnd, through, type Entry } from './entry.js';

/** Why nothing is fed: another feeder is the one to do it, or none. */
export interface Fence {
  readonly reason: 'older_timeline' | 'other_outbox';
  readonly since: Date;
}

export interface Fencing {
  /** Undefined: there is none. */
  readonly fence: Fence | undefined;
  /**
   * Looks whether a database may feed a log that ends with an entry.
   *
   * @throws FencedError where it may not; what the feed throws.
   */
  check(entry: Entry, now: Answerer): Promise<void>;
  /** The database may feed. */
  lift(): void;
}

export function createFencing(feed: FeedReader, logger: Logger): Fencing {
  let fence: Fence | undefined;

  function fenced(reason: Fence['reason'], message: string): FencedError {
    if (fence?.reason !== reason) logger.error({ reason }, message);
    fence = { reason, since: fence?.reason === reason ? fence.since : new Date() };
    return new FencedError(reason, message);
  }

  return {
    get fence() {
      return fence;
    },
    async check(entry, now) {
      const { system, timeline } = entry;
      if (system === now.system && now.timeline < timeline) {
        throw fenced(
          'older_timeline',
          `This PostgreSQL is on timeline ${now.timeline}, and the stream is fed from timeline ${timeline}: it was deposed. ` +
            `Lead DATABASE_URL to the primary. If this is the primary, restored from a copy, delete the stream and run: ${commandLine('feed --setup')}`,
        );
      }
      if (await isOtherOutbox(feed, entry, now)) {
        throw fenced(
          'other_outbox',
          `The stream is that of another outbox (system ${system}, and this is ${now.system}). ` +
            `Set NATS_STREAM to a name of its own. If that outbox is no more, delete the stream and run: ${commandLine('feed --setup')}`,
        );
      }
    },
    lift() {
      if (fence) logger.info('this database is the one to feed the stream from, again');
      fence = undefined;
    },
  };
}

/**
 * Whether a log that ends with an entry is that of another outbox. A database of another system may
 * have the same outbox, as after an upgrade by dump and restore.
 *
 * @throws what the feed throws.
 */
export async function isOtherOutbox(feed: FeedReader, entry: Entry, { system }: Answerer): Promise<boolean> {
  if (entry.system === system) return false;
  const end = through(entry);
  if (!(await feed.isSameHistory({ ...end, createdAt: createdAtEnd(entry) }))) return true;
  // Below the floor nothing tells whether it is the same.
  const { floor } = await feed.readNew(end.position);
  return floor.position >= end.position && floor.position > 0n;
}

/** Nothing may be fed from here. */
export class FencedError extends Error {
  constructor(
    readonly reason: Fence['reason'],
    message: string,
  ) {
    super(message);
  }
}
