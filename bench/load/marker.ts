/**
 * The marker: what a publisher puts into each event, so that whoever receives it can count, check and time it.
 *
 *     @@lane:sequence:microseconds@@
 *
 * Nothing in it is ever escaped or quoted, whatever envelope a server puts around it. A lane is a sequence of its own, counted from 1, as
 * a channel has it; the time is that of sending, in microseconds since 1970.
 */

const AT = 0x40;
const COLON = 0x3a;
const ZERO = 0x30;
const NINE = 0x39;

/** How a marker begins and ends. */
export const FENCE = Buffer.from('@@');

/** An event's text of so many bytes, or as many as the marker needs. */
export function markedText(lane: number, sequence: number, size: number): string {
  return `@@${lane}:${sequence}:${microseconds()}@@`.padEnd(size, 'x');
}

/** Of this moment, since 1970. */
export function microseconds(): number {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}

/** What `readMarker` has read last: there are hundreds of thousands in a second, and none is worth an object. */
export const read = { lane: 0, sequence: 0, sentAt: 0, end: 0 };

/**
 * Reads the marker whose fence begins at `from` into `read`.
 *
 * @returns whether it is one; undefined where it goes on behind `to`.
 */
export function readMarker(bytes: Buffer, from: number, to: number): boolean | undefined {
  let at = from + FENCE.length;
  for (let field = 0; field < 3; field += 1) {
    const began = at;
    let value = 0;
    for (; at < to; at += 1) {
      const byte = bytes[at] ?? 0;
      if (byte < ZERO || byte > NINE) break;
      value = value * 10 + byte - ZERO;
    }
    if (at >= to) return undefined;
    if (at === began || bytes[at] !== (field < 2 ? COLON : AT)) return false;
    if (field === 0) read.lane = value;
    else if (field === 1) read.sequence = value;
    else read.sentAt = value;
    at += 1;
  }
  if (at >= to) return undefined;
  read.end = at + 1;
  return bytes[at] === AT;
}
