/**
 * A response: one connection's bytes, from the status line on. It takes off what HTTP puts around the stream and finds the markers
 * in it.
 *
 * Nothing is kept of the bytes but the beginning of a marker that goes on in the next read, and nothing is made of them: no strings, no
 * lines, no events.
 */
import { FENCE, read, readMarker } from './marker.js';

/** What becomes of a response. */
export interface Receiver {
  /** The headers have come, with a status of 200. */
  opened(connection: number): void;
  refused(connection: number, status: string): void;
  /** What it says is in `read` of marker.ts. */
  marked(connection: number): void;
}

const HEAD_END = Buffer.from('\r\n\r\n');
const CR = 0x0d;
const LF = 0x0a;
const SEMICOLON = 0x3b;

export class Response {
  readonly connection: number;
  readonly #receiver: Receiver;
  #head: Buffer | undefined = Buffer.alloc(0);
  #isChunked = false;
  /** Bytes of the chunk that are still to come. */
  #left = 0;
  /** What has been read of the line with the next chunk's size; below 0: no digit yet. */
  #size = -1;
  #isExtension = false;
  #rest: Buffer | undefined;

  constructor(connection: number, receiver: Receiver) {
    this.connection = connection;
    this.#receiver = receiver;
  }

  /** @param bytes valid during the call only. */
  take(bytes: Buffer): void {
    const from = this.#head ? this.#takeHead(this.#head, bytes) : 0;
    if (from < 0) return;
    if (this.#isChunked) this.#unchunk(bytes, from);
    else this.#scan(bytes, from, bytes.length);
  }

  /** @returns where the body begins; -1 where it does not. */
  #takeHead(before: Buffer, bytes: Buffer): number {
    const head = Buffer.concat([before, bytes]);
    const end = head.indexOf(HEAD_END);
    this.#head = end < 0 ? head : undefined;
    if (end < 0) return -1;
    const [status = '', ...fields] = head.toString('latin1', 0, end).split('\r\n');
    if (!/^HTTP\/1\.[01] 200\b/.test(status)) {
      this.#receiver.refused(
        this.connection,
        `${status} ${head.toString('utf8', end + HEAD_END.length).slice(0, 200)}`,
      );
      return -1;
    }
    this.#isChunked = fields.some((field) => /^transfer-encoding:.*\bchunked\b/i.test(field));
    this.#receiver.opened(this.connection);
    return end + HEAD_END.length - before.length;
  }

  /** Source: RFC 9112, section 7.1. The line that ends a chunk is an empty one, and has no size. */
  #unchunk(bytes: Buffer, from: number): void {
    for (let at = from; at < bytes.length;) {
      if (this.#left > 0) {
        const to = Math.min(bytes.length, at + this.#left);
        this.#scan(bytes, at, to);
        this.#left -= to - at;
        at = to;
        continue;
      }
      const byte = bytes[at] ?? 0;
      at += 1;
      if (byte === LF) {
        this.#left = Math.max(0, this.#size);
        this.#size = -1;
        this.#isExtension = false;
      } else if (byte === SEMICOLON) this.#isExtension = true;
      else if (byte !== CR && !this.#isExtension) this.#size = Math.max(0, this.#size) * 16 + hexValue(byte);
    }
  }

  /** Finds the markers; keeps what may become one with the next bytes. */
  #scan(bytes: Buffer, from: number, to: number): void {
    if (this.#rest) {
      const joined = Buffer.concat([this.#rest, bytes.subarray(from, to)]);
      this.#rest = undefined;
      this.#scan(joined, 0, joined.length);
      return;
    }
    let at = from;
    for (;;) {
      const fence = bytes.indexOf(FENCE, at);
      if (fence < 0 || fence + FENCE.length > to) break;
      const isMarker = readMarker(bytes, fence, to);
      if (isMarker === undefined) {
        this.#rest = Buffer.from(bytes.subarray(fence, to));
        return;
      }
      at = isMarker ? read.end : fence + 1;
      if (isMarker) this.#receiver.marked(this.connection);
    }
    if (at < to && bytes[to - 1] === FENCE[0]) this.#rest = Buffer.from(bytes.subarray(to - 1, to));
  }
}

function hexValue(byte: number): number {
  // Digits end in their value, letters of either case in theirs less 9.
  return (byte & 0x0f) + (byte >= 0x41 ? 9 : 0);
}
