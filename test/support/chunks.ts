/**
 * Takes chunks apart for clients that read bytes: strict, as each byte that no HTTP client would take is a defect of ours.
 */

export interface Unchunker {
  /** Takes what has come, in a character a byte, cut anywhere; returns what was in the chunks. @throws at what is no chunk. */
  take(bytes: string): string;
  /** Whether what has come ends with a chunk's end. */
  readonly isBetween: boolean;
  /** Whether the last chunk has come, after which the body is complete. */
  readonly isComplete: boolean;
}

const SIZE_LINE = /^([1-9a-f][0-9a-f]{0,7}|0)\r\n/;
const LONGEST_SIZE_LINE = 10;

export function createUnchunker(): Unchunker {
  let rest = '';
  let left = 0;
  let state: 'size' | 'bytes' | 'end' | 'complete' = 'size';

  function fail(): never {
    throw new Error(`this is no chunk: ${JSON.stringify(rest.slice(0, 100))}`);
  }

  return {
    take(bytes) {
      rest += bytes;
      let body = '';
      for (;;) {
        if (state === 'bytes') {
          const part = rest.slice(0, left);
          body += part;
          left -= part.length;
          rest = rest.slice(part.length);
          if (left > 0) return body;
          state = 'end';
        } else if (state === 'end') {
          if (!rest.startsWith('\r\n')) {
            if (rest !== '' && rest !== '\r') fail();
            return body;
          }
          rest = rest.slice(2);
          state = 'size';
        } else if (state === 'size') {
          const line = SIZE_LINE.exec(rest);
          if (line === null) {
            if (!/^[0-9a-f]*\r?$/.test(rest) || rest.length > LONGEST_SIZE_LINE) fail();
            return body;
          }
          rest = rest.slice(line[0].length);
          left = Number.parseInt(line[1] ?? '', 16);
          state = left === 0 ? 'complete' : 'bytes';
        } else {
          // No trailers, and nothing after it.
          if (!'\r\n'.startsWith(rest)) fail();
          return body;
        }
      }
    },
    get isBetween() {
      return state === 'size' && rest === '';
    },
    get isComplete() {
      return state === 'complete';
    },
  };
}

/** What is in the chunks of a whole body, which may have broken off between two. @throws at what is no chunk. */
export function unchunked(body: Buffer | string): string {
  const unchunker = createUnchunker();
  const text = unchunker.take(typeof body === 'string' ? body : body.toString('latin1'));
  if (!unchunker.isBetween && !unchunker.isComplete) throw new Error('the body ends amid a chunk');
  return Buffer.from(text, 'latin1').toString('utf8');
}
