/**
 * The wire: what goes over an event stream, byte for byte. Pure functions, no state, no I/O.
 *
 * Source: WHATWG HTML, "Server-sent events", sections "Parsing an event stream" and "Interpreting an event stream".
 * A field ends at CR, LF or CRLF, so no value that a publisher or a client supplies may carry one into a field: data is
 * split into one `data:` line per line, and every other field has such characters replaced.
 */

/** One row of the outbox as the wire needs it. */
export interface WireEvent {
  /** Event id, decimal digits. */
  readonly id: string;
  /** Event name; `message` is the default of the format and is not sent. */
  readonly event: string;
  /** Payload as text. Line breaks of any kind arrive as `\n`: the format cannot tell them apart. */
  readonly data: string;
}

export type ControlEvent = 'stream-open' | 'stream-reset' | 'stream-error';

/** Response headers of every event stream. `X-Accel-Buffering` is nginx's switch for response buffering. */
export const STREAM_HEADERS: Readonly<Record<string, string>> = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'no-store, no-transform',
  'X-Accel-Buffering': 'no',
};

/** A comment: keeps a connection open and moves nothing. */
export const COMMENT = Buffer.from(':\n\n');

/** Frames an event. This runs once per event, whatever the number of its readers. */
export function encodeEvent({ id, event, data }: WireEvent): Buffer {
  const name = event === 'message' ? '' : `event: ${oneLine(event)}\n`;
  return Buffer.from(`id: ${oneLine(id)}\n${name}${dataLines(data)}\n`);
}

/**
 * A frame with an id and nothing else: it moves the client's last event id and fires no event (WHATWG HTML, "dispatch the
 * event", step 2).
 */
export function encodeCursor(id: string): Buffer {
  return Buffer.from(`id: ${oneLine(id)}\n\n`);
}

/** The first frame of a stream: how long to wait before reconnecting, in milliseconds, and the cursor it starts at. */
export function encodeStart(retry: number, id: string): Buffer {
  return Buffer.from(`${retryLine(retry)}id: ${oneLine(id)}\n\n`);
}

/** Tells a client how long to wait before it reconnects, in milliseconds. */
export function encodeRetry(retry: number): Buffer {
  return Buffer.from(`${retryLine(retry)}\n`);
}

/** A control event. One without an id (every `stream-error`) leaves the client's cursor where it is. */
export function encodeControl(event: ControlEvent, data: Readonly<Record<string, unknown>>, id?: string): Buffer {
  const cursor = id === undefined ? '' : `id: ${oneLine(id)}\n`;
  return Buffer.from(`${cursor}event: ${event}\n${dataLines(JSON.stringify(data))}\n`);
}

function retryLine(milliseconds: number): string {
  return `retry: ${Math.round(milliseconds)}\n`;
}

function dataLines(data: string): string {
  // Most payloads are JSON on one line: the split is only paid for by those that need it.
  if (!data.includes('\n') && !data.includes('\r')) return `data: ${data}\n`;
  let lines = '';
  for (const line of data.split(/\r\n|\r|\n/)) lines += `data: ${line}\n`;
  return lines;
}

function oneLine(value: string): string {
  // NUL as well: a client must ignore an id that contains one (WHATWG HTML, "process the field").
  return /[\r\n\u0000]/.test(value) ? value.replace(/[\r\n\u0000]/g, '\ufffd') : value;
}
