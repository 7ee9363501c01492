/**
 * A batch: events of the table, framed one behind another in one buffer, as a page of history goes out.
 *
 * A buffer of its own for each event would cost a replay more than all the rest: so a batch is encoded at once, and where
 * an event begins in it is found out only for a reader whose cursor is amid it.
 */
import type { Cursor } from './log.js';

/** An event and its frame, as text. */
export interface FramedEvent {
  readonly id: string;
  readonly position: string | bigint;
  readonly frame: string;
}

export interface Batch {
  /** How many events. */
  readonly length: number;
  /** All frames, in order. */
  readonly frames: Buffer;
  readonly last: Cursor | undefined;
  /** The part that follows `position`, in the same memory. */
  after(position: bigint): { readonly length: number; readonly frames: Buffer };
  /** The events that begin within `bytes`: at least one, where there is one. What is cut off is not kept in memory. */
  within(bytes: number): Batch;
}

/** @param events in position order. */
export function batchOf(events: readonly FramedEvent[]): Batch {
  return encoded(events, Buffer.from(events.map(({ frame }) => frame).join('')));
}

function encoded(events: readonly FramedEvent[], frames: Buffer): Batch {
  const last = events.at(-1);
  let offsets: number[] | undefined;

  /** Where the frame of an event begins. */
  function offsetOf(index: number): number {
    if (offsets === undefined) {
      let offset = 0;
      offsets = events.map(({ frame }) => (offset += Buffer.byteLength(frame)) - Buffer.byteLength(frame));
    }
    return offsets[index] ?? frames.length;
  }

  /** How many events, from the first, are such; those that are come first. */
  function count(isSuch: (index: number) => boolean): number {
    let low = 0;
    for (let high = events.length; low < high;) {
      const middle = (low + high) >>> 1;
      if (isSuch(middle)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  return {
    length: events.length,
    frames,
    last: last && { position: BigInt(last.position), id: last.id },
    after(position) {
      const passed = count((index) => BigInt(events[index]?.position ?? 0) <= position);
      return { length: events.length - passed, frames: passed === 0 ? frames : frames.subarray(offsetOf(passed)) };
    },
    within(bytes) {
      if (frames.length <= bytes) return this;
      const kept = count((index) => offsetOf(index) < bytes);
      if (kept === events.length) return this;
      return encoded(events.slice(0, kept), Buffer.from(frames.subarray(0, offsetOf(kept))));
    },
  };
}
