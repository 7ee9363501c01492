/**
 * Entries as bytes: what the engine keeps and relays read. Inside of the seal are
 *
 *     length of the head (4) │ head, as JSON │ frames, one after another
 *
 * Whatever is not as a feeder of this version writes it is read as undefined. No bytes, however
 * made, have it throw.
 */
import type { KeyObject } from 'node:crypto';
import type { Cursor, DataKind } from '../event/event.js';
import type { Entry, Origin, Run, RunEvent } from './entry.js';
import {
  count,
  cursor,
  insist,
  list,
  Malformed,
  pair,
  readJson,
  record,
  text,
  time,
  whole,
  writtenTime,
} from './hostile-json.js';
import { createSeal } from './seal.js';

export interface Codec {
  encode(entry: Entry): Buffer;
  /** Frames are in the memory of `bytes`. */
  decode(bytes: Uint8Array): Entry | undefined;
}

/** Of the length of the head. */
const LENGTH_BYTES = 4;

/** Bytes that an event takes beside its frame and the name of its channel; at most. */
export const EVENT_BYTES = 110;

/** In place of the length of a frame that is not in the entry. */
const BY_REFERENCE = -1;

/** @param secret see `createSeal`. */
export function createCodec(secret?: KeyObject): Codec {
  const seal = createSeal(secret);
  return {
    encode(entry) {
      const frames = entry.kind === 'run' ? entry.events.flatMap(({ frame }) => frame ?? []) : [];
      const head = Buffer.from(JSON.stringify(headOf(entry)));
      const length = Buffer.allocUnsafe(LENGTH_BYTES);
      length.writeUInt32BE(head.length);
      return seal.close([length, head, ...frames]);
    },

    decode(bytes) {
      const body = seal.open(bytes);
      if (body === undefined || body.length < LENGTH_BYTES) return undefined;
      const end = LENGTH_BYTES + body.readUInt32BE(0);
      return readJson(body.subarray(LENGTH_BYTES, end), (head) => entryIn(head, body.subarray(end)));
    },
  };
}

function headOf(entry: Entry): unknown {
  const { kind, epoch, system, timeline, wal, state } = entry;
  const origin = { kind, epoch, system, timeline, wal: String(wal), state };
  switch (entry.kind) {
    case 'begin':
      return { ...origin, at: pair(entry.at) };
    case 'restart':
      return { ...origin, at: pair(entry.at), reason: entry.reason };
    case 'evict': {
      const { last, redacted, redactedThrough, floor } = entry;
      const redaction = { redacted: redacted.map(String), redactedThrough: String(redactedThrough) };
      return { ...origin, last: pair(last), ...redaction, floor: pair(floor) };
    }
    case 'run': {
      const { prev, last, floor, events } = entry;
      return {
        ...origin,
        prev: String(prev),
        last: pair(last),
        floor: pair(floor),
        events: events.map((event) => [
          ...pair(event),
          event.channel,
          writtenTime(event.createdAt),
          event.kind,
          event.frame?.length ?? BY_REFERENCE,
        ]),
      };
    }
  }
}

function entryIn(value: unknown, frames: Buffer): Entry {
  const head = record(value);
  const origin: Origin = {
    epoch: text(head['epoch']),
    system: text(head['system']),
    timeline: count(head['timeline']),
    wal: whole(head['wal']),
    state: head['state'] === undefined ? undefined : text(head['state']),
  };
  const kind = head['kind'];
  if (kind === 'run') return runIn(head, origin, frames);
  insist(frames.length === 0);
  switch (kind) {
    case 'begin':
      return { ...origin, kind, at: cursor(head['at']) };
    case 'restart': {
      const { reason } = head;
      if (reason !== 'expired' && reason !== 'unknown') throw new Malformed('it is of no kind that is known');
      return { ...origin, kind, at: cursor(head['at']), reason };
    }
    case 'evict':
      return {
        ...origin,
        kind,
        last: cursor(head['last']),
        redacted: list(head['redacted']).map(whole),
        redactedThrough: whole(head['redactedThrough']),
        floor: cursor(head['floor']),
      };
    default:
      throw new Malformed('it is of no kind that is known');
  }
}

/** Events ascend, and the last one is where the run ends. */
function runIn(head: Readonly<Record<string, unknown>>, origin: Origin, frames: Buffer): Run {
  const prev = whole(head['prev']);
  const last = cursor(head['last']);
  let through: Cursor = { position: prev, id: '' };
  let at = 0;
  const events = list(head['events']).map((item): RunEvent => {
    const [position, id, channel, createdAt, kind, length] = list(item);
    const place = cursor([position, id]);
    insist(place.position > through.position && Number.isInteger(length));
    through = place;
    const isReferred = length === BY_REFERENCE;
    const end = at + (isReferred ? 0 : Number(length));
    insist(end >= at && end <= frames.length);
    const frame = isReferred ? undefined : frames.subarray(at, end);
    at = end;
    return { ...place, channel: text(channel), createdAt: time(createdAt), kind: dataKind(kind), frame };
  });
  insist(at === frames.length && through.position === last.position && through.id === last.id);
  return { ...origin, kind: 'run', prev, last, floor: cursor(head['floor']), events };
}

function dataKind(value: unknown): DataKind {
  if (value === 'json' || value === 'text' || value === 'other') return value;
  throw new Malformed('it is of no kind that is known');
}
