/**
 * Events and places in their order, as all parts of the relay know them.
 */

/** A place in commit order: all events up to and including this one have been passed. */
export interface Cursor {
  readonly position: bigint;
  /** Id of the event at that position; what a client is given. `0` before the first event. */
  readonly id: string;
}

export interface LogEvent extends Cursor {
  readonly channel: string;
  /**
   * The event as it goes over the wire, with a chunk around it: a row of frames is a body. Empty:
   * it can't be delivered, so all readers pass it by.
   */
  readonly frame: Buffer;
}

/** An event as the tail reads it. Of one that can't be delivered the frame is empty. */
export interface FreshEvent extends LogEvent {
  /**
   * When the transaction that inserted it began, in milliseconds since 1970, by the database's
   * clock.
   */
  readonly createdAt: number;
}

/**
 * Why a log has to begin anew: events after its head were deleted before it had read them, or the
 * table turned out to be another than the one that it had read from.
 */
export type RestartReason = 'expired' | 'unknown';
