/**
 * Events and places in their order, as all parts of the relay know them.
 */

/** A place in commit order: all events up to and including this one have been passed. */
export interface Cursor {
  readonly position: bigint;
  /** Id of the event at that position; what a client is given. `0` before the first event. */
  readonly id: string;
}

/** The largest id, and position, that there can be: PostgreSQL's bigint ends there. */
export const LARGEST_ID = 2n ** 63n - 1n;

/**
 * What the data in a frame is of the JSON that was published. `json`: the same. `text`: what a JSON
 * string says. `other`: the frame doesn't tell, as of a text with carriage returns, of which a frame
 * makes line feeds.
 */
export type DataKind = 'json' | 'text' | 'other';

export interface LogEvent extends Cursor {
  readonly channel: string;
  /**
   * The event as it goes over the wire, with a chunk around it: a row of frames is a body. Empty:
   * it can't be delivered, so all readers pass it by.
   */
  readonly frame: Buffer;
  readonly kind: DataKind;
  /**
   * When the transaction that inserted it began, in milliseconds since 1970, by the database's
   * clock.
   */
  readonly createdAt: number;
}

/** An event as the tail reads it. */
export type FreshEvent = LogEvent;

/**
 * Why a log has to begin anew: events after its head were deleted before it had read them, or the
 * table turned out to be another than the one that it had read from.
 */
export type RestartReason = 'expired' | 'unknown';
