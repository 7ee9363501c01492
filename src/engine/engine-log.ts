/**
 * The engine's log: a replicated copy of the newest part of the outbox, which many relays read
 * without touching PostgreSQL. It is never the truth: whoever reads it believes what follows from
 * what he has, and reads the rest from the archive.
 *
 * Entries have sequences, ascending, some of which may be missing. An append is accepted only where
 * the newest sequence is the one that the feeder expects, so that of several feeders one succeeds.
 * Every method may reject at any time, and an append that rejected may have been accepted.
 */
import type { Changes, LastRead } from '../outbox/feed.js';
import type { Trouble } from '../postgres/retry.js';
import type { Entry, Origin } from './entry.js';

/** An entry as it was read. */
export interface LoggedEntry {
  /** Its place in the engine's log. Entries that were appended later have higher ones. */
  readonly sequence: bigint;
  /** Undefined: it can't be read, or was not written by a feeder of ours. */
  readonly entry: Entry | undefined;
}

/** The end of the log. */
export interface Tip {
  /** Sequence of the newest entry that there ever was; 0: none. */
  readonly sequence: bigint;
  /** The newest entry that can be read; undefined where there is none, or none near the end. */
  readonly entry: Entry | undefined;
  /** How many entries after that one are there and can't be read. */
  readonly unreadable: number;
}

/** What feeders say about once a second, and whoever stops, too. */
export interface Beat {
  /** A name that no other feeder has. */
  readonly feeder: string;
  /** Position and sequence through which it has fed. */
  readonly position: bigint;
  readonly sequence: bigint;
  /** Where the write-ahead log of its PostgreSQL was by then. */
  readonly wal: bigint;
  /** Whether it hears of redactions, and would feed what is new. */
  readonly isListening: boolean;
}

/**
 * Which PostgreSQL has answered, asked on the connection of the answer: one that was deposed has the
 * same system, and an older timeline. `wal`: a standby that has replayed it shows all of the answer.
 */
export type Answerer = Pick<Origin, 'system' | 'timeline' | 'wal'>;

/** What was redacted or deleted, and from where on entries of the log know of it. */
export interface KnownChanges extends Changes, Answerer {
  /**
   * A sequence of the log. No entry after it has what `redacted` names as it was before, so whoever
   * drops that from all entries up to here, read and yet to be read, is done with it.
   */
  readonly sequence: bigint;
}

/** What a relay may ask any feeder, which asks PostgreSQL: one query, however many ask at a time. */
export interface FeederQuestions {
  /** See `FeedReader`. */
  changesSince(state: string | undefined, above: bigint): Promise<KnownChanges>;
  isSameHistory(read: LastRead): Promise<Answerer & { readonly isSame: boolean }>;
}

/** The part of the log that is read. */
export interface EngineReader {
  /** Read from the log's leader: it is never older than an append that was accepted before. */
  tip(): Promise<Tip>;
  /**
   * The entries that follow a sequence, a bounded number of bytes of them; empty: none does. May come
   * from a replica that lags.
   */
  read(afterSequence: bigint): Promise<readonly LoggedEntry[]>;
  /**
   * A sequence to read on from, for all that is left in the log of what follows a position: no entry
   * of the newest history up to there leads beyond it. 0: from the beginning.
   */
  find(position: bigint): Promise<bigint>;
  /** Calls back with each entry right after it was appended. Any may be lost, late or doubled. */
  live(callback: (entry: LoggedEntry) => void): Unsubscribe;
  /** Calls back with each beat that arrives. */
  beats(callback: (beat: Beat) => void): Unsubscribe;
  /** Rejects where no feeder answers in time. */
  readonly feeders: FeederQuestions;
  /** Calls back after each new connection: what came before it may have been missed. */
  onConnect(callback: () => void): Unsubscribe;
  /** Undefined while there is a connection. */
  readonly trouble: Trouble | undefined;
  /** Ends the connection. Safe to call twice. */
  close(): Promise<void>;
}

export interface EngineLog extends EngineReader {
  /**
   * Appends an entry where the newest sequence is `expecting`.
   *
   * @returns its sequence; undefined: the newest sequence was another, and nothing was appended.
   * @throws where it is not known whether it was appended.
   */
  append(entry: Entry, expecting: bigint): Promise<bigint | undefined>;
  /** Erases entries from the engine's disks. What is gone already is passed by. */
  erase(sequences: readonly bigint[]): Promise<void>;
  /** The same of all entries up to a sequence. The newest sequence stays what it is. */
  purge(through: bigint): Promise<void>;
  beat(beat: Beat): Promise<void>;
  /** Answers what relays ask, together with other feeders, until it is ended. */
  answer(questions: FeederQuestions): Unsubscribe;
}

export type Unsubscribe = () => void;
