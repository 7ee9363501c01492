/**
 * The log as the tail has it.
 */
import type { Cursor, FreshEvent, RestartReason } from '../event/event.js';
import type { Log } from './log.js';

/**
 * Where the tail brings what it has read: the relay's log, or that of an engine, which takes its
 * time. What is a promise is waited for; where it rejects, the read has failed.
 */
export interface TailLog extends Pick<Log, 'head' | 'floor'> {
  /** Called before each read: `head` is right once it resolves. Absent: it always is. */
  ready?(): Promise<void>;
  /** Resolves with false where another has appended meanwhile: then it has to be read anew. */
  append(events: readonly FreshEvent[]): unknown;
  restart(at: Cursor, reason: RestartReason): unknown;
  redact(positions: readonly bigint[], through: bigint): unknown;
  evictThrough(position: bigint): unknown;
}
