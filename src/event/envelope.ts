/**
 * Envelopes: all that there is to know of an event, as a JSON object on one line, for readers of
 * several channels.
 *
 * They are made of frames, when a reader wants one, byte for byte as the database makes them
 * (`ENVELOPE` in outbox/formats.ts); a test compares them.
 */
import { CHUNK_END, chunkOf } from './chunk.js';
import type { LogEvent } from './event.js';

/** What the events of a stream have in them: their data alone, or envelopes. */
export type StreamFormat = 'data' | 'envelope';

/** Frames up to this size are made envelopes of here: that takes up to a millisecond. */
const LARGEST_FRAME_BYTES = 128 * 1024;

/**
 * Times in ms from here on have no microseconds in a number of 64 bits, and all before have. It is
 * the year 2109.
 */
const FIRST_INEXACT_MS = 2 ** 42;

const END = '\n\n';
const EVENT = 'event: ';
const DATA = 'data: ';
const LINE_FEED = 0x0a;
const FIRST_OF_EVENT = EVENT.charCodeAt(0);

/**
 * The frame of an event's envelope, with a chunk around it. Empty: it can't be delivered, in any
 * format. Undefined: it is not to be made of the frame, and the table has what it takes.
 */
export function encodeEnvelope({ id, channel, frame, kind, createdAt }: LogEvent): Buffer | undefined {
  if (frame.length === 0) return frame;
  if (kind === 'other' || frame.length > LARGEST_FRAME_BYTES) return undefined;
  if (!(createdAt >= 0 && createdAt < FIRST_INEXACT_MS)) return undefined;
  const { name, dataBegin } = headOf(frame);
  const framed = frame.toString('utf8', dataBegin, frame.length - END.length - CHUNK_END.length);
  const data = kind === 'json' ? framed : JSON.stringify(framed.replaceAll(`\n${DATA}`, '\n'));
  const about = `"id":"${id}","channel":${JSON.stringify(channel)},"created_at":"${timeOf(createdAt)}"`;
  return chunkOf(`id: ${id}\n${DATA}{${about},"event":${JSON.stringify(name)},"data":${data}}${END}`);
}

/** The name of the event that is in a frame. */
export function eventNameIn(frame: Buffer): string {
  return headOf(frame).name;
}

function headOf(frame: Buffer): { readonly name: string; readonly dataBegin: number } {
  // The lines of the chunk and of the id come first.
  const begin = frame.indexOf(LINE_FEED, frame.indexOf(LINE_FEED) + 1) + 1;
  if (frame[begin] !== FIRST_OF_EVENT) return { name: 'message', dataBegin: begin + DATA.length };
  const end = frame.indexOf(LINE_FEED, begin);
  return { name: frame.toString('utf8', begin + EVENT.length, end), dataBegin: end + 1 + DATA.length };
}

/** As in `2026-11-29T06:00:00.123456Z`. */
function timeOf(ms: number): string {
  const microseconds = Math.round(ms * 1000);
  const rest = String(microseconds % 1000).padStart(3, '0');
  return `${new Date(Math.floor(microseconds / 1000)).toISOString().slice(0, -1)}${rest}Z`;
}
