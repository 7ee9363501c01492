/**
 * Start point: where a request begins, in the table that the log is of, and with nothing in memory
 * any more that was redacted before it came.
 */
import type { Log } from '../feed/log.js';
import type { Tail } from '../feed/tail.js';
import type { Flow } from './fair-queue.js';
import type { History } from './history.js';
import { resolve, type CursorRequest, type Resolved } from './resume-point.js';

export interface StartParts {
  readonly log: Log;
  readonly history: History;
  /** Keeps the log free of what was redacted. */
  readonly tail: Pick<Tail, 'isReading' | 'upToDate'>;
}

/** @throws what the database throws. */
export async function startPoint(request: CursorRequest, parts: StartParts, flow: Flow): Promise<Resolved> {
  const { log, history, tail } = parts;
  for (;;) {
    const { epoch } = log;
    const resolved = await resolve(request, log, history, flow);
    // What was redacted before the client came is not for it (promise R8); to what the tail has yet
    // to ask for that can't happen.
    if (resolved.position < log.head.position || tail.isReading) await tail.upToDate();
    // Else it is a place in a table that is no longer ours.
    if (epoch === log.epoch) return resolved;
  }
}
