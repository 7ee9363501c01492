/**
 * The history that the log follows: whether the feed is still the one that was read, and the log's
 * new beginning where it is not, or where events were deleted before they were read. Nobody is to
 * miss either in silence (promise R4).
 */
import type { Logger } from 'pino';
import { commandLine } from '../command-name.js';
import type { Cursor, FreshEvent, RestartReason } from '../event/event.js';
import type { FeedReader } from '../outbox/feed.js';
import type { TailLog } from './tail-log.js';

export interface HistoryCheck {
  /**
   * Whether the feed is the one that was read. Where it is not the log begins anew at its head, or,
   * if nobody wants that any more, stays as it is.
   *
   * @param isWanted asked right before.
   * @throws what the feed and the log throw.
   */
  verify(isWanted: () => boolean): Promise<boolean>;
  /** Events were deleted before they were read: the log begins anew at the floor. */
  expire(floor: Cursor): Promise<void>;
  /** These are at the log's head now. */
  appended(events: readonly FreshEvent[]): void;
}

export interface HistoryCheckParts {
  readonly feed: Pick<FeedReader, 'isSameHistory' | 'head'>;
  readonly log: TailLog;
  readonly logger: Logger;
  /** Called before the log begins anew. */
  readonly onRestart: () => void;
}

export function createHistoryCheck({ feed, log, logger, onRestart }: HistoryCheckParts): HistoryCheck {
  /** When the event at the log's head was inserted; undefined until one has been read. */
  let headCreatedAt: number | undefined;

  async function restart(at: Cursor, reason: RestartReason, message: string): Promise<void> {
    logger[reason === 'unknown' ? 'error' : 'warn']({ from: log.head.id, to: at.id }, message);
    headCreatedAt = undefined;
    onRestart();
    await log.restart(at, reason);
  }

  return {
    async verify(isWanted) {
      if (await feed.isSameHistory({ ...log.head, createdAt: headCreatedAt })) return true;
      const now = await feed.head();
      if (!isWanted()) return false;
      await restart(
        now,
        'unknown',
        'the database is not the one that was read up to here, as after a restore or a failover that lost commits: all clients ' +
          `are reset. Run \`${commandLine('advance-ids')}\` once, so that no id is given to a second event`,
      );
      return false;
    },
    expire: (floor) =>
      restart(floor, 'expired', 'events were deleted before this relay had read them: its clients are reset'),
    appended(events) {
      headCreatedAt = events.at(-1)?.createdAt ?? headCreatedAt;
    },
  };
}
