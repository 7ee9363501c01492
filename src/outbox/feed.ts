/**
 * The feed: where the newest events come from, in commit order, and how to learn that there are
 * more.
 *
 * Whoever reads MUST go on from where the previous answer ended, and MUST treat wake-ups as hints:
 * any may be lost, late, early or doubled. Every method but `watch` may reject at any time; the
 * caller MUST ask again, after a pause.
 */
import type { Cursor, FreshEvent } from '../event/event.js';
import type { Trouble } from '../postgres/retry.js';

/** What follows a position. */
export interface NewEvents {
  /** Ascending, all above the position that was asked for. */
  readonly events: readonly FreshEvent[];
  /**
   * Position through which `events` is complete: every event above the floor, up to here, that will
   * ever be visible.
   */
  readonly through: bigint;
  /** Whether more may follow at once: then the caller MUST read again. */
  readonly more: boolean;
  /**
   * A commit under way holds back what follows `through`: events of it may come before others that
   * are there. Nobody is told when it ends, so the caller MUST read again, within milliseconds at
   * first.
   */
  readonly held: HeldBack | undefined;
  /**
   * The newest deleted event. Where it is above the position that was asked for, events were
   * missed.
   */
  readonly floor: Cursor;
}

/** What a commit under way holds back. */
export interface HeldBack {
  /** The process that commits; undefined where it is not known. */
  readonly by: number | undefined;
}

/** What is settled at a moment. */
export interface Settled {
  /**
   * Position. A read that begins later finds all events up to there that will ever be visible.
   */
  readonly through: bigint;
  /** The last position that was drawn. */
  readonly drawn: bigint;
  /** Whether nobody was committing events, or about to: whoever is now sends a wake-up. */
  readonly isQuiet: boolean;
  /** The process that has been committing for the longest, where one is and it is known. */
  readonly process: number | undefined;
}

/** What was redacted or deleted of events that may have been read before. */
export interface Changes {
  /** Where the next answer goes on. */
  readonly state: string;
  /** Positions of redacted events, the highest first; a bounded number. */
  readonly redacted: readonly bigint[];
  /**
   * Any event at or below this position may have been redacted, too: there were too many to name.
   * 0: none.
   */
  readonly redactedThrough: bigint;
  /** Whether anything was redacted, above the position that was asked for or not. */
  readonly hasRedacted: boolean;
  /** The newest deleted event. */
  readonly floor: Cursor;
  /** The row that keeps the floor is gone: deletions can't be told from what never was. */
  readonly isFloorMissing: boolean;
}

/** The last event that was read. */
export interface LastRead extends Cursor {
  /**
   * When it was inserted, in ms since 1970, where that is known: a restored table may give its id
   * out again.
   */
  readonly createdAt: number | undefined;
}

/** What a feed is read by. */
export interface FeedReader {
  /** The newest committed event; where all were deleted, the newest of these. */
  head(): Promise<Cursor>;
  /**
   * A cursor about `events` events, but no more than `bytes` of payload, before the head; never
   * below the floor.
   */
  nearHead(limit: { readonly events: number; readonly bytes: number }): Promise<Cursor>;
  /**
   * What follows `after`: a bounded number of events.
   *
   * `after` MUST be the `through` of an earlier answer, or a cursor of `head`, `nearHead` or
   * `floor`, of the same history.
   */
  readNew(after: bigint): Promise<NewEvents>;
  /**
   * What is settled. Not every event that is committed has a wake-up of its own: while another that
   * rings is committing, the rest do not. So after what it was woken for the caller MUST ask this and
   * read once more, until nobody was committing when it asked; and ask now and then, as a commit that
   * fails wakes nobody.
   */
  settled(): Promise<Settled>;
  /**
   * What was redacted or deleted since `state`, of the events above `above`. The caller MUST hand
   * in the state of the answer before, so that all answers together miss nothing, and undefined
   * once `isSameHistory` was false; undefined: ever.
   */
  changesSince(state: string | undefined, above: bigint): Promise<Changes>;
  /**
   * Whether the feed is still the one that was read up to `read`. It is another after a restore to
   * an earlier point, or a failover that lost commits. The caller MUST ask after every `recheck`
   * and every failed read, before it believes another answer, and MUST begin anew at `head` where
   * it is false.
   */
  isSameHistory(read: LastRead): Promise<boolean>;
}

/** Who watches a feed. Its functions MUST NOT throw. */
export interface FeedWatcher {
  /** There may be new events. */
  wake(): void;
  /** Events may have been redacted or deleted, and there may be new ones. */
  changed(): void;
  /** The feed may be another: see `isSameHistory`. */
  recheck(): void;
  /**
   * Nobody would tell of a redaction now, so nobody may be given what is in memory. Called again and
   * again while that lasts. Whoever keeps nothing in memory has no need of it.
   */
  unattended?(): void;
  /**
   * Another says that it is awake: see `AwakeLock`. It repeats that while it is.
   *
   * @param relay a name that no other has.
   */
  othersAwake(relay: string): void;
  /** It says that it no longer is. */
  othersAsleep(relay: string): void;
  /**
   * Whether wake-ups are known to arrive; called at each change. While they do not, the watcher
   * MUST poll.
   */
  notificationsWork(work: boolean): void;
}

/**
 * The awake lock: publishers send no wake-ups as long as anybody holds it.
 *
 * Whoever holds it MUST look by itself, every few milliseconds. Whoever gives it back MUST then ask
 * `settled` and read what is new, in this order, and take it again where either finds anything: those who commit then were sent away from ringing. Every method may reject at any time.
 * The lock is lost with the session that brings wake-ups, as when `notificationsWork(false)` is
 * called.
 */
export interface AwakeLock {
  /** Resolves with whether it is ours now; false: somebody else has it. */
  take(): Promise<boolean>;
  giveBack(): Promise<void>;
  /** Whether anybody else has it. */
  isTaken(): Promise<boolean>;
  /** Whether several publish at the moment. */
  publishersOverlap(): Promise<boolean>;
  /** Tells all other watchers. Resolves once that is on its way. */
  tell(state: 'awake' | 'asleep'): Promise<void>;
}

export interface Watch {
  /** Undefined while there is a session that would bring wake-ups. */
  readonly trouble: Trouble | undefined;
  /** Whether wake-ups are known to arrive. */
  readonly notificationsWork: boolean;
  /** How many sessions were lost. */
  readonly losses: number;
  /**
   * Since when nobody has fed what is between this feed and the outbox; undefined: somebody does, or
   * there is nothing between them.
   */
  readonly noFeederSince?: Date | undefined;
  /** Undefined: publishers always send wake-ups. */
  readonly awakeLock: AwakeLock | undefined;
  /** Resolves when the session has ended; the watcher is not called again. Safe to call twice. */
  stop(): Promise<void>;
}

export interface Feed extends FeedReader {
  /**
   * Tells the watcher what it may want to look at, until it is stopped: `recheck` and `changed`
   * first, for what came before.
   *
   * @throws where the first session fails; from then on it reconnects for ever.
   */
  watch(watcher: FeedWatcher): Promise<Watch>;
}
