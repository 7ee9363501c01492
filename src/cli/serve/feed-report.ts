/**
 * What `feed --json` prints while it feeds: a line for each step, and figures again and again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Feeding } from '../../engine/feeding.js';
import type { Output } from '../terminal/output.js';
import { safeJson } from '../terminal/terminal-text.js';

export interface FeedReport {
  /** Prints the last figures. Safe to call twice. */
  stop(): Promise<void>;
}

const INTERVAL_MS = 1000;

/**
 * Begins with the step `started`, from which on it looks for where the stream ends: figures have
 * `ready` once it feeds. A reader that is slow gets fewer figures.
 */
export function startFeedReport(feeding: Feeding, stream: string, output: Output): FeedReport {
  const ended = new AbortController();
  const print = (step: string, facts: object) => output.print(`${safeJson({ step, ...facts })}\n`);

  /** Resolves with false once it is to end. */
  const nextTurn = () => delay(INTERVAL_MS, true, { signal: ended.signal }).catch(() => false);

  async function report(): Promise<void> {
    await print('started', { stream, ...figuresOf(feeding) });
    while (await nextTurn()) await print('figures', figuresOf(feeding));
    await print('stopped', figuresOf(feeding));
  }

  const reporting = report();
  return {
    stop() {
      ended.abort();
      return reporting;
    },
  };
}

/** Positions and sequences are text, as 64 bits are more than a number has. */
function figuresOf({ feeder, tail, readiness }: Feeding) {
  const { ready, reasons } = readiness();
  const { position, sequence } = feeder.fedThrough;
  const { events, entries, refused, unreadable, erased } = feeder.totals;
  const secondsSince = (since: Date | undefined) => (since ? (Date.now() - since.getTime()) / 1000 : 0);
  return {
    at: new Date().toISOString(),
    ready,
    reasons: reasons.map(({ code }) => code),
    position: String(position),
    sequence: String(sequence),
    lagSeconds: secondsSince(tail.behindSince),
    heldSeconds: secondsSince(tail.held?.since),
    ...{ events, entries, refused, unreadable, erased },
  };
}
