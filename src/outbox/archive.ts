/**
 * The archive: all events that were not deleted, for readers whose cursors are older than memory.
 *
 * Every method may reject at any time; the caller MUST ask again, after a pause. A signal ends the
 * work, in the server too, and the method rejects.
 */
import type { ChannelFilter } from '../event/channel-filter.js';
import type { Cursor } from '../event/event.js';
import type { Batch } from './frame-batch.js';
import type { Search } from './since.js';

/** Where the cursor that a client brings stands. */
export type CursorLookup =
  | { readonly kind: 'found'; readonly position: bigint }
  /** What followed it may have been deleted: the newest deleted event is at `floor`. */
  | { readonly kind: 'expired'; readonly floor: Cursor }
  /** It was never handed out here. */
  | { readonly kind: 'unknown' };

export interface ArchivePage {
  /** The matching events. */
  readonly events: Batch;
  /** Position up to which every matching event is in `events`. */
  readonly position: bigint;
  /**
   * Position of the newest deleted event. Where it is above `after`, events were missed, and the
   * caller MUST say so.
   */
  readonly floor: bigint;
  /**
   * Size of the first event in bytes, where it alone is larger than asked for: then `events` is
   * empty.
   */
  readonly needs?: number | undefined;
}

export interface Archive {
  /**
   * Matching events that follow `after`, in order: at most `bytes`, or one larger event where
   * `bytes` is the `needs` of the page before. Every page moves on, as long as `after < head`, or
   * says what it needs.
   *
   * @param head a position that the caller MUST know to be committed: what is above it is not read.
   */
  page(filter: ChannelFilter, after: bigint, head: bigint, bytes: number, signal?: AbortSignal): Promise<ArchivePage>;
  /** Looks up event ids: an answer for each, in their order. `0` stands before all events. */
  lookUpCursors(ids: readonly string[], signal?: AbortSignal): Promise<CursorLookup[]>;
  /**
   * One step of the search for a time, which the caller begins with `searchSince` and MUST repeat
   * with what it is given, until that is a cursor: the one before the first event that was created
   * then or later; without such an event, the newest. What is above the search's head is not looked
   * at.
   */
  since(search: Search, signal?: AbortSignal): Promise<Search | Cursor>;
}
