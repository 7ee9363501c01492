/**
 * Exclusions: events after a cursor that its client has already, as its page shows them. The SQL
 * function `outbox_cursor(after)` makes such a cursor, and clients are given it back until they
 * have passed all of them.
 *
 *     41!43-45,50,47    after 41, without 43 to 45, 50 and 47
 *
 * Ids are in no order, but the last one is the newest of all: who has passed its position has
 * passed them all, and is an ordinary client from then on.
 */
import { CHUNK_END, chunkStart, payloadsOf } from '../event/chunk.js';
import { LARGEST_ID } from '../event/event.js';

/** In a cursor with exclusions, what stands before these. */
export const MARK = '!';

/**
 * Most characters of them. Each event's id is followed by them, as long as they matter. As in
 * `outbox_cursor(after)`.
 */
const MOST_CHARACTERS = 2000;

const EXCLUSIONS = /^\d{1,19}(?:-\d{1,19})?(?:,\d{1,19}(?:-\d{1,19})?)*$/;

/** How a frame begins. */
const ID = 'id: ';
const NOTHING = Buffer.alloc(0);

export interface Exclusions {
  /** As they follow the id in a cursor. */
  readonly suffix: string;
  /** The one with the highest position. */
  readonly newestId: string;
  /** Whether the client has the event already. */
  has(id: bigint): boolean;
}

/** Exclusions, once it is known where they end. */
export interface PlacedExclusions extends Exclusions {
  /** Position of the newest: above it there is nothing to leave out. */
  readonly through: bigint;
}

/** A cursor with exclusions in its parts; undefined where it is none. */
export function parseExclusions(cursor: string): { readonly id: string; readonly exclusions: Exclusions } | undefined {
  const mark = cursor.indexOf(MARK);
  const list = cursor.slice(mark + MARK.length);
  if (mark === -1 || list.length > MOST_CHARACTERS || !EXCLUSIONS.test(list)) return undefined;
  const runs: { low: bigint; high: bigint }[] = [];
  let newestId = '';
  for (const item of list.split(',')) {
    const [low = '', high = low] = item.split('-');
    runs.push({ low: BigInt(low), high: BigInt(high) });
    newestId = high;
  }
  if (runs.some(({ low, high }) => low > high || high > LARGEST_ID)) return undefined;
  return {
    id: cursor.slice(0, mark),
    exclusions: { suffix: cursor.slice(mark), newestId, has: membership(runs) },
  };
}

/** Takes comparisons in proportion to the logarithm of their number, and 16 bytes for each. */
function membership(runs: { low: bigint; high: bigint }[]): Exclusions['has'] {
  runs.sort((a, b) => (a.low < b.low ? -1 : 1));
  const lows = BigInt64Array.from(runs, ({ low }) => low);
  const highs = BigInt64Array.from(runs, ({ high }) => high);
  // Where one is within another, what follows it is still in the other.
  for (let at = 1; at < highs.length; at += 1) {
    const before = highs[at - 1] as bigint;
    if (before > (highs[at] as bigint)) highs[at] = before;
  }
  return (id) => {
    let begin = 0;
    let end = lows.length;
    while (begin < end) {
      const middle = (begin + end) >>> 1;
      if ((lows[middle] as bigint) <= id) begin = middle + 1;
      else end = middle;
    }
    return begin > 0 && id <= (highs[begin - 1] as bigint);
  };
}

/** Frames, undefined where there are none, and how many. */
export interface Frames {
  readonly frames: Buffer | undefined;
  readonly events: number;
}

/**
 * What is left of some frames: without those of events that the client has, and with the exclusions
 * behind each id, so that a client that comes back with it brings them along.
 *
 * @param frames each of one event or several, without chunks.
 * @param isPast whether an event is above all that is left out. Default: none is.
 */
export function withoutExcluded(
  frames: readonly Buffer[],
  { has, suffix }: Exclusions,
  isPast: (id: string) => boolean = () => false,
): Frames {
  const parts: Buffer[] = [];
  const added = Buffer.from(suffix);
  let events = 0;
  for (const batch of frames) {
    for (let begin = 0; begin < batch.length;) {
      // A frame ends with the only blank line in it.
      const end = batch.indexOf('\n\n', begin) + 2;
      const idEnd = batch.indexOf('\n', begin);
      const id = batch.toString('latin1', begin + ID.length, idEnd);
      if (isPast(id) || !has(BigInt(id))) {
        parts.push(batch.subarray(begin, idEnd), isPast(id) ? NOTHING : added, batch.subarray(idEnd, end));
        events += 1;
      }
      begin = end;
    }
  }
  return { frames: parts.length === 0 ? undefined : Buffer.concat(parts), events };
}

/** The same of a row of chunks, with one chunk around it. */
export function chunkWithoutExcluded(chunks: Buffer, exclusions: Exclusions, isPast: (id: string) => boolean): Frames {
  const { frames, events } = withoutExcluded(payloadsOf(chunks), exclusions, isPast);
  return { frames: frames && Buffer.concat([chunkStart(frames.length), frames, CHUNK_END]), events };
}

/**
 * How many events a page may have, so that the exclusions behind each id make it at most `bytes`
 * larger. A power of two, so that readers share their pages.
 */
export function eventsPerPage({ suffix }: Exclusions, bytes: number): number {
  return 2 ** Math.floor(Math.log2(Math.max(1, bytes / suffix.length)));
}
