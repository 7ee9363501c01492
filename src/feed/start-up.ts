/**
 * Start-up: the log as it is when the first client is let in, so that clients which a restart cut
 * off resume from memory, and "now" means now.
 */
import type { FeedReader } from '../outbox/feed.js';
import { createLog, type Log } from './log.js';
import type { Tail } from './tail.js';

/** Most events that a window starts with. */
const PRELOADED_EVENTS = 10_000;
/** Most of the window that they fill. */
const PRELOADED_PART = 0.25;

/**
 * An empty log that begins so far before the head that the window starts with the newest events.
 * @throws what the feed throws.
 */
export async function openLog(feed: FeedReader, windowBytes: number): Promise<Log> {
  const bytes = Math.floor(windowBytes * PRELOADED_PART);
  return createLog(await feed.nearHead({ events: PRELOADED_EVENTS, bytes }), { bytes: windowBytes });
}

/**
 * Resolves when the log has all events that were committed before the call. @throws what the feed
 * throws; a timeout, whose cause is what the tail is in trouble with.
 */
export async function caughtUp(
  feed: FeedReader,
  { log, tail }: { readonly log: Log; readonly tail: Pick<Tail, 'trouble'> },
  timeoutSeconds: number,
): Promise<void> {
  const { position } = await feed.head();
  await new Promise<void>((reached, failed) => {
    const timer = setTimeout(() => {
      const cause = tail.trouble?.error;
      const why = cause instanceof Error ? `: ${cause.message}` : '';
      failed(new Error(`the newest events could not be read in ${timeoutSeconds} s${why}`, { cause }));
    }, timeoutSeconds * 1000);
    log.whenReached(position, () => {
      clearTimeout(timer);
      reached();
    });
  });
}
