/**
 * Chunks: what HTTP/1.1 puts around each piece of a body whose length nobody knows (RFC 9112,
 * section 7.1).
 *
 * A chunk is put around an event once, and a row of chunks is a body as well: so the buffer of an
 * event goes out to all its readers as it is. The last chunk, which would say that the body is
 * complete, is never sent: a stream only ever breaks off, and many clients take a complete answer
 * for the end of it all and never come back.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

/**
 * Time from the last frame of a stream to the end of its connection, in ms. Browsers fail a `fetch`
 * whose connection breaks off at once, and drop what the page has not read yet: without this, one
 * last frame in ten is lost in Chromium.
 */
export const BREAK_OFF_MS = 250;

const LINE_END = '\r\n';
/** What follows the bytes of a chunk. */
export const CHUNK_END = Buffer.from(LINE_END);

/** Puts a chunk around a text, which may not be empty: an empty chunk is the last. */
export function chunkOf(text: string): Buffer {
  return Buffer.from(`${Buffer.byteLength(text).toString(16)}${LINE_END}${text}${LINE_END}`);
}

/** What precedes so many bytes, more than none, to make a chunk of them with `CHUNK_END`. */
export function chunkStart(bytes: number): Buffer {
  return Buffer.from(`${bytes.toString(16)}${LINE_END}`);
}

/** What is in whole chunks of ours, in the same memory: for HTTP/1.0, which has none. */
export function payloadsOf(chunks: Buffer): Buffer[] {
  const payloads: Buffer[] = [];
  for (let at = 0; at < chunks.length;) {
    const lineEnd = chunks.indexOf(LINE_END, at);
    const begin = lineEnd + LINE_END.length;
    const end = begin + Number.parseInt(chunks.toString('latin1', at, lineEnd), 16);
    payloads.push(chunks.subarray(begin, end));
    at = end + LINE_END.length;
  }
  return payloads;
}

/**
 * Sets the headers of an answer that has no end but that of its connection. In HTTP/1.1
 * `Connection: close` is sent to those only who asked for it: where it stands, Node's fetch takes
 * the end of the connection for the end of the body, chunks or not.
 *
 * @returns whether its body is in chunks. An HTTP/1.0 client would take them for the body's own
 * text.
 */
export function setEndless({ httpVersion }: IncomingMessage, response: ServerResponse): boolean {
  const isChunked = httpVersion === '1.1';
  if (isChunked) {
    response.setHeader('Transfer-Encoding', 'chunked');
    if (response.shouldKeepAlive) response.removeHeader('Connection');
  } else {
    response.setHeader('Connection', 'close');
    response.removeHeader('Transfer-Encoding');
  }
  return isChunked;
}
