/**
 * Entries: what feeders append to the engine's log. Runs are what there is to deliver; the others say
 * what became of the outbox.
 */
import type { Cursor, DataKind } from '../event/event.js';

/** Which outbox an entry was read from, and when. */
export interface Origin {
  /**
   * Identifies the history that the log follows: drawn anew with each `begin` and with each `restart`
   * of another history.
   */
  readonly epoch: string;
  /** PostgreSQL's system identifier, and the timeline that it was on. */
  readonly system: string;
  readonly timeline: number;
  /**
   * A place in its write-ahead log, as a number of bytes: whoever has replayed it shows all that the
   * entry tells of.
   */
  readonly wal: bigint;
  /**
   * A state of `changesSince`: all that it shows as redacted is gone from the entries before this
   * one. Undefined: it is not known.
   */
  readonly state: string | undefined;
}

/** The outbox, from a position on: the first entry of a log. */
export interface Begin extends Origin {
  readonly kind: 'begin';
  readonly at: Cursor;
}

/** All events in `(prev, last.position]` that will ever be visible: positions up to there are settled. */
export interface Run extends Origin {
  readonly kind: 'run';
  readonly prev: bigint;
  /** Where it ends: its newest event. */
  readonly last: Cursor;
  /** The newest deleted event by then. */
  readonly floor: Cursor;
  readonly events: readonly RunEvent[];
}

export interface RunEvent extends Cursor {
  readonly channel: string;
  /** In ms since 1970. */
  readonly createdAt: number;
  /**
   * The frame, with its chunk around it, as `LogEvent` has it. Undefined: it is too large for an
   * entry, and the archive has it. Empty: it can't be delivered.
   */
  readonly frame: Buffer | undefined;
  readonly kind: DataKind;
}

/** What follows is not what came before: clients are told (promise R4), and go on at `at`. */
export interface Restart extends Origin {
  readonly kind: 'restart';
  readonly at: Cursor;
  readonly reason: 'expired' | 'unknown';
}

/** Events were redacted or deleted: nobody may serve from memory what he has of them. */
export interface Evict extends Origin {
  readonly kind: 'evict';
  /** The tip's position: an evict moves nothing on. */
  readonly last: Cursor;
  readonly redacted: readonly bigint[];
  /** As in `Changes`. */
  readonly redactedThrough: bigint;
  readonly floor: Cursor;
}

export type Entry = Begin | Run | Restart | Evict;

/** The position through which an entry leads. */
export function through(entry: Entry): Cursor {
  return entry.kind === 'begin' || entry.kind === 'restart' ? entry.at : entry.last;
}

/** When the event through which an entry leads was inserted, where the entry has it. */
export function createdAtEnd(entry: Entry): number | undefined {
  return entry.kind === 'run' ? entry.events.at(-1)?.createdAt : undefined;
}
