/**
 * The wire: what goes over an event stream, byte for byte. Pure functions, no state, no I/O. What
 * is to go out is in chunks.
 *
 * Source: WHATWG HTML, "Server-sent events", sections "Parsing an event stream" and "Interpreting
 * an event stream". A field ends at CR, LF or CRLF, so no value that a publisher or a client
 * supplies may carry one into a field: data is split into one `data:` line per line, and every
 * other field has such characters replaced.
 */
import { CHUNK_END, chunkOf, chunkStart } from './chunk.js';

/** One row of the outbox as the wire needs it. */
export interface WireEvent {
  /** Event id, decimal digits. */
  readonly id: string;
  /** Event name; `message` is the default of the format and is not sent. */
  readonly event: string;
  /** Payload as text. Line breaks of any kind arrive as `\n`: the format cannot tell them apart. */
  readonly data: string;
}

/** The relay's own events. All names that begin so are refused to publishers, by the table. */
export type ControlEvent = 'stream-open' | 'stream-cursor' | 'stream-pause' | 'stream-reset' | 'stream-error';

/** What a control event does to its client beside being one. */
export interface ControlFields {
  /** Where its cursor goes; without it the cursor stays where it is. */
  readonly id?: string | undefined;
  /** How long it is to wait before it reconnects, in milliseconds. */
  readonly retry?: number | undefined;
}

/**
 * Response headers of every event stream. `X-Accel-Buffering` is nginx's switch for response
 * buffering.
 */
export const STREAM_HEADERS: Readonly<Record<string, string>> = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'no-store, no-transform',
  'X-Accel-Buffering': 'no',
};

const LF = 0x0a;
const CR = 0x0d;
/** Bytes that a line break in data becomes: `\ndata: `. */
const LINE_BREAK_BYTES = 7;
const END = '\n\n';

/**
 * Frames an event, with a chunk around it. This runs once per event, whatever the number of its
 * readers.
 *
 * What is large takes many milliseconds: see `encodeInSteps`.
 */
export function encodeEvent(event: WireEvent): Buffer {
  const { data } = event;
  // Most payloads are JSON on one line.
  if (!hasLineBreak(data)) return chunkOf(`${fieldsOf(event)}${data}${END}`);
  const steps = encodeInSteps(event);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

function fieldsOf({ id, event }: WireEvent): string {
  const name = event === 'message' ? '' : `event: ${oneLine(event)}\n`;
  return `id: ${oneLine(id)}\n${name}data: `;
}

/**
 * How many characters or bytes a step of `encodeInSteps` looks at: a millisecond or two, if each is
 * a line break.
 */
const STEP = 128 * 1024;

/**
 * The same in steps of some milliseconds, between which others may have their turn.
 *
 * The frame is made in its final place and without a string for each line: there may be millions.
 * The data is written to the end of the frame and from there moved forward. What is written never
 * reaches what has yet to be read: between them is the room that the line breaks to come have yet
 * to take.
 */
export function* encodeInSteps(event: WireEvent): Generator<undefined, Buffer, undefined> {
  const { data } = event;
  const fields = fieldsOf(event);
  let growth = 0;
  for (let at = hasLineBreak(data) ? 0 : data.length; at < data.length; at += STEP) {
    growth += growthOf(data, at, Math.min(at + STEP, data.length));
    yield;
  }
  const size = Buffer.byteLength(data);
  const fieldsSize = Buffer.byteLength(fields);
  const start = chunkStart(fieldsSize + growth + size + END.length);
  const begin = start.length + fieldsSize;
  const from = begin + growth;
  const end = from + size;
  const chunk = Buffer.allocUnsafe(end + END.length + CHUNK_END.length);
  start.copy(chunk);
  chunk.write(fields, start.length);
  chunk.write(data, from);
  chunk.write(END, end);
  CHUNK_END.copy(chunk, end + END.length);
  yield;
  // Without line breaks it is where it belongs.
  for (let at = from, to = begin; at < end && growth > 0; at += STEP) {
    to = moveLines(chunk, at, Math.min(at + STEP, end), end, to);
    yield;
  }
  return chunk;
}

/** By how many bytes the line breaks in a part of the data make it longer. */
function growthOf(data: string, from: number, end: number): number {
  let growth = 0;
  for (let at = from; at < end; at += 1) {
    const code = data.charCodeAt(at);
    if (code > CR || (code !== CR && code !== LF)) continue;
    growth += code === CR && data.charCodeAt(at + 1) === LF ? -1 : LINE_BREAK_BYTES - 1;
  }
  return growth;
}

/**
 * Moves a part of the data forward to `to`, and has a `data: ` follow each line break.
 *
 * @param dataEnd end of all data, of which the part may have less.
 * @returns where the next part goes.
 */
function moveLines(chunk: Buffer, from: number, end: number, dataEnd: number, to: number): number {
  for (let at = from; at < end; at += 1) {
    const byte = chunk[at] as number;
    if (byte > CR || (byte !== LF && byte !== CR)) {
      chunk[to] = byte;
      to += 1;
    } else if (byte === LF || at + 1 === dataEnd || chunk[at + 1] !== LF) {
      // Byte by byte: a loop takes several times as long.
      chunk[to] = LF;
      chunk[to + 1] = 0x64;
      chunk[to + 2] = 0x61;
      chunk[to + 3] = 0x74;
      chunk[to + 4] = 0x61;
      chunk[to + 5] = 0x3a;
      chunk[to + 6] = 0x20;
      to += LINE_BREAK_BYTES;
    }
  }
  return to;
}

/**
 * A control event, as text. There is no frame with an id or a `retry` alone: a browser takes one,
 * of other clients some hand it on as an event without data, and some pay no heed to it.
 */
export function controlText(
  event: ControlEvent,
  data: Readonly<Record<string, unknown>>,
  fields: ControlFields = {},
): string {
  return eventText(event, data, fields);
}

/** An event that is in no outbox, as text: what the relay tells of itself. */
export function eventText(event: string, data: object, { id, retry }: ControlFields = {}): string {
  const cursor = id === undefined ? '' : `id: ${oneLine(id)}\n`;
  const pause = retry === undefined ? '' : `retry: ${Math.round(retry)}\n`;
  return `${cursor}event: ${oneLine(event)}\n${pause}${dataLines(JSON.stringify(data))}\n`;
}

/** The same, with a chunk around it. */
export function encodeControl(...control: Parameters<typeof controlText>): Buffer {
  return chunkOf(controlText(...control));
}

/**
 * Tells a client to come back, and when: the last frame of a stream that the relay ends. `retry` is
 * in milliseconds.
 */
export function pauseText(
  reason: 'shutdown' | 'age' | 'busy',
  retry: number,
  more: Record<string, string> = {},
): string {
  return controlText('stream-pause', { reason, retryMs: Math.round(retry), ...more }, { retry });
}

function hasLineBreak(data: string): boolean {
  return data.includes('\n') || data.includes('\r');
}

function dataLines(data: string): string {
  // Most payloads are JSON on one line: the split is only paid for by those that need it.
  if (!hasLineBreak(data)) return `data: ${data}\n`;
  let lines = '';
  for (const line of data.split(/\r\n|\r|\n/)) lines += `data: ${line}\n`;
  return lines;
}

function oneLine(value: string): string {
  // NUL as well: a client must ignore an id that contains one (WHATWG HTML, "process the field").
  return /[\r\n\u0000]/.test(value) ? value.replace(/[\r\n\u0000]/g, '\ufffd') : value;
}
