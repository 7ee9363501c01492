/**
 * A batch: events of the table, framed one behind another in one buffer, as a page of history goes
 * out, in one chunk.
 *
 * An object for each event would cost a replay more than all the rest. So the whole is one buffer,
 * and where an event begins in it is found out only for a reader whose cursor is amid it.
 */
import type { Cursor } from '../event/event.js';

/** Where an event of a batch stands, and the length of its frame. */
export interface Piece extends Cursor {
  readonly bytes: number;
}

export interface Batch {
  /** How many events. */
  readonly length: number;
  /** All frames, in order, without chunks: of these there is one around the part that goes out. */
  readonly frames: Buffer;
  readonly last: Piece | undefined;
  /** The part that follows `position`, in the same memory. */
  after(position: bigint): { readonly length: number; readonly frames: Buffer };
  /**
   * The events that begin within `bytes`: at least one, where there is one. What is cut off is not
   * kept in memory.
   */
  within(bytes: number): Batch;
}

/**
 * @param frames of events in position order.
 * @param pieces what they are; asked for only where it matters.
 */
export function batchOf(
  frames: Buffer,
  length: number,
  last: Piece | undefined,
  pieces: () => readonly Piece[],
): Batch {
  let known: readonly Piece[] | undefined;

  /**
   * The events of which `isPassed` holds, which come before those of which it does not, and where
   * they end.
   */
  function count(isPassed: (piece: Piece, offset: number) => boolean): { passed: readonly Piece[]; end: number } {
    known ??= pieces();
    let end = 0;
    let index = 0;
    for (const piece of known) {
      if (!isPassed(piece, end)) break;
      end += piece.bytes;
      index += 1;
    }
    return { passed: known.slice(0, index), end };
  }

  return {
    length,
    frames,
    last,
    after(position) {
      if (last && position >= last.position) return { length: 0, frames: frames.subarray(frames.length) };
      const { passed, end } = count((piece) => piece.position <= position);
      return { length: length - passed.length, frames: frames.subarray(end) };
    },
    within(bytes) {
      if (last === undefined || frames.length - last.bytes < bytes) return this;
      const { passed, end } = count((_, offset) => offset < bytes);
      return batchOf(Buffer.from(frames.subarray(0, end)), passed.length, passed.at(-1), () => passed);
    },
  };
}

const BLANK_LINE = '\n\n';
/** How a frame begins. */
const ID = 'id: ';

/**
 * The batch of frames that the database has put together, and the positions of their events, one
 * after another. A frame begins with its id, and ends with the only blank line in it.
 */
export function batchOfText(text: string, positions: string): Batch {
  const frames = Buffer.from(text);
  const at = positions.split(' ');
  // One alone may be large: it is not searched.
  const beginning = at.length === 1 ? -1 : frames.lastIndexOf(BLANK_LINE, -BLANK_LINE.length - 1);
  const lastFrame = beginning === -1 ? 0 : beginning + BLANK_LINE.length;
  const lastId = frames.toString('latin1', lastFrame + ID.length, frames.indexOf('\n', lastFrame));
  const last = { position: BigInt(at.at(-1) ?? 0), id: lastId, bytes: frames.length - lastFrame };

  return batchOf(frames, at.length, last, () => {
    let begin = 0;
    return at.map((position) => {
      const end = frames.indexOf(BLANK_LINE, begin) + BLANK_LINE.length;
      const id = frames.toString('latin1', begin + ID.length, frames.indexOf('\n', begin));
      const piece = { position: BigInt(position), id, bytes: end - begin };
      begin = end;
      return piece;
    });
  });
}

export const NO_EVENTS = batchOf(Buffer.alloc(0), 0, undefined, () => []);
