/**
 * Runs: how what was read from the outbox is cut into entries, none of which is larger than the
 * engine takes.
 */
import type { FreshEvent } from '../event/event.js';
import { EVENT_BYTES } from './codec.js';
import type { Run } from './entry.js';

/** A run has about so many bytes, at most; one event more than that makes a run of its own. */
const RUN_BYTES = 512 * 1024;

/** A frame with more goes by reference: relays read it from the archive. */
const MOST_FRAME_BYTES = 256 * 1024;

/** @param prev the position that the first of them follows. */
export function* runsOf(
  prev: bigint,
  events: readonly FreshEvent[],
): Generator<Pick<Run, 'prev' | 'last' | 'events'>, undefined, undefined> {
  let start = 0;
  let bytes = 0;
  let before = prev;
  for (const [index, event] of events.entries()) {
    bytes += sizeOf(event);
    const next = events[index + 1];
    if (next && bytes + sizeOf(next) <= RUN_BYTES) continue;
    const part = events.slice(start, index + 1).map(({ id, position, channel, createdAt, kind, frame }) => ({
      ...{ id, position, channel, createdAt, kind },
      frame: frame.length > MOST_FRAME_BYTES ? undefined : frame,
    }));
    yield { prev: before, last: { position: event.position, id: event.id }, events: part };
    [start, bytes, before] = [index + 1, 0, event.position];
  }
}

function sizeOf({ channel, frame }: FreshEvent): number {
  return (
    EVENT_BYTES + Buffer.byteLength(JSON.stringify(channel)) + (frame.length > MOST_FRAME_BYTES ? 0 : frame.length)
  );
}
