/**
 * Deliveries: when new events were read and written, and to how many streams. It stands around the
 * feed and the log that the tail has, so that without it nothing is on their way.
 */
import type { Cursor, FreshEvent } from '../event/event.js';
import type { Log } from '../feed/log.js';
import type { FeedReader } from '../outbox/feed.js';

/**
 * Events that were read and written together; all times in ms since 1970, by this machine's clock.
 */
export interface DeliveredPage {
  readonly events: number;
  readonly readAt: number;
  readonly foundAt: number;
  /** When the first stream was written to, and when the last had been. */
  readonly writtenFrom: number;
  readonly writtenThrough: number;
}

/** An event without its frame, which may be large. */
export interface Delivered extends Cursor {
  readonly channel: string;
  /** In ms since 1970, by the database's clock; not finite where the row has such a time. */
  readonly createdAt: number;
  /** How many streams were at the head and wanted it. */
  readonly streams: number;
  readonly page: DeliveredPage;
}

export interface NotedFeed {
  readonly feed: FeedReader;
  readonly log: Log;
  /** The events of the last append, once, without those that can't be delivered. */
  take(): readonly Delivered[];
}

/** The same feed and log, of which is noted what they deliver. */
export function noteDeliveries(feed: FeedReader, log: Log): NotedFeed {
  let delivered: readonly Delivered[] = [];
  let read = { readAt: 0, foundAt: 0 };
  const clock = startClock();

  return {
    take() {
      const taken = delivered;
      delivered = [];
      return taken;
    },
    feed: {
      ...feed,
      async readNew(after) {
        clock.set();
        const readAt = clock.now();
        const page = await feed.readNew(after);
        read = { readAt, foundAt: clock.now() };
        return page;
      },
    },
    log: Object.assign(Object.create(log) as Log, {
      append(events: readonly FreshEvent[]) {
        const streams = events.map(log.readersOf);
        const writtenFrom = clock.now();
        log.append(events);
        const page = { ...read, events: events.length, writtenFrom, writtenThrough: clock.now() };
        delivered = events.flatMap(({ position, id, channel, createdAt, frame }, index) =>
          frame.length > 0 ? { position, id, channel, createdAt, streams: streams[index] ?? 0, page } : [],
        );
      },
    }),
  };
}

/** The time of day, in ms with fractions: of a fan-out they are all. It may be set while we run. */
function startClock(): { set(): void; now(): number } {
  let offset = 0;
  return {
    set() {
      offset = Date.now() - performance.now();
    },
    now: () => offset + performance.now(),
  };
}
