/**
 * Envelopes of the window's events: made when the first reader wants one, once for all who do, and
 * kept for a while for those who come later. Where nobody wants envelopes there are none.
 */
import { LRUCache } from 'lru-cache';
import { encodeEnvelope } from '../event/envelope.js';
import type { LogEvent } from '../event/event.js';

export interface Envelopes {
  /** See `encodeEnvelope`. */
  of(event: LogEvent): Buffer | undefined;
  /** What those that are kept account for. */
  readonly bytes: number;
  /** How many were made. */
  readonly made: number;
  /** Lets go of one: its event is gone, or has been redacted. Harmless where it is not kept. */
  drop(position: bigint): void;
  clear(): void;
}

/** What an envelope costs in memory beside its bytes. */
const ENVELOPE_OVERHEAD = 300;

/** @param limit most bytes that are kept, of those that were wanted last. */
export function createEnvelopes(limit: number): Envelopes {
  const kept = new LRUCache<bigint, Buffer>({
    maxSize: Math.max(1, Math.floor(limit)),
    sizeCalculation: ({ length }) => length + ENVELOPE_OVERHEAD,
  });
  let made = 0;
  return {
    of(event) {
      const known = kept.get(event.position);
      if (known) return known;
      made += 1;
      const envelope = encodeEnvelope(event);
      if (envelope && envelope.length > 0) kept.set(event.position, envelope);
      return envelope;
    },
    get bytes() {
      return kept.calculatedSize;
    },
    get made() {
      return made;
    },
    drop: (position) => kept.delete(position),
    clear: () => kept.clear(),
  };
}
