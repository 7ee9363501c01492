/**
 * The archive: all events that were not deleted, for readers whose cursors are older than memory.
 *
 * Every method may reject at any time; the caller MUST ask again, after a pause. A signal ends the
 * work, in the server too, and the method rejects.
 */
import type { EventFilter } from '../event/event-filter.js';
import type { Cursor, FreshEvent } from '../event/event.js';
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
   * @param limit most events. Default: as many as a page may have.
   */
  page(
    filter: EventFilter,
    after: bigint,
    head: bigint,
    bytes: number,
    signal?: AbortSignal,
    limit?: number,
  ): Promise<ArchivePage>;
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

/** A part of the order, of all channels. */
export interface ArchiveRun {
  /** Ascending. */
  readonly events: readonly FreshEvent[];
  /** Position through which `events` has all that was asked for and is above the floor. */
  readonly through: bigint;
  /** The newest deleted event. */
  readonly floor: Cursor;
}

/** The archive as a feed reads it that gets its events from elsewhere, and here what is missing there. */
export interface RunArchive {
  /**
   * All events in `(after, through]`, a bounded number at a time: the caller MUST go on from
   * `through` of the answer.
   *
   * @param through a position that the caller MUST know to be settled, as in `page`.
   */
  run(after: bigint, through: bigint): Promise<ArchiveRun>;
  /** As `nearHead` of a feed, for a head that the caller MUST know to be settled. */
  nearHead(head: bigint, limit: { readonly events: number; readonly bytes: number }): Promise<Cursor>;
}
