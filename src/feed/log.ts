/**
 * The log: the newest events, in position order, in memory, each encoded once.
 *
 * It holds every event with `floor < position <= head` and is bounded in bytes. The tail appends to
 * it and nobody else; subscriptions read from it by cursor, and a subscription that has read up to
 * the head parks here until an event that it wants is appended.
 *
 * | reader                      | what it has passed        | how it gets its next event             |
 * |-----------------------------|---------------------------|----------------------------------------|
 * | parked                      | exactly `head`            | its sink, in the turn of the append    |
 * | reading (or a slow client)  | a cursor of its own       | `read`, as long as cursor >= floor     |
 * | behind the floor, or before | a cursor of its own       | not from here: history, from the table |
 * | what was redacted           |                           |                                        |
 *
 * That a parked reader has passed exactly the head is what makes it exact: whatever is appended
 * next is all that it lacks.
 */
import type { StreamFormat } from '../event/envelope.js';
import type { Cursor, LogEvent, RestartReason } from '../event/event.js';
import type { EventFilter } from '../event/event-filter.js';
import { createEnvelopes } from './envelopes.js';
import { createParkedReaders } from './waiting-readers.js';
import { createWindow, type Held } from './window.js';

export interface Reader {
  readonly filter: EventFilter;
  readonly format: StreamFormat;
  /** Where its events go while it is parked. Taken once, as it parks. */
  readonly sink: LiveSink;
  /**
   * Called while parked, right after the sink has taken its last: the reader has passed the new
   * head, and MUST take itself out until the sink has room again.
   */
  full(): void;
  /**
   * Called while parked, in place of its sink, where only the table has what it wants of an event. It
   * MUST unpark, and read on after what it has passed.
   *
   * @param passed what that is: the head until now.
   */
  readOn(passed: Cursor): void;
  /**
   * Called while parked, which it no longer is then: the log has restarted, and what the reader has
   * passed leads nowhere.
   *
   * @param passed what that was: the head until now.
   */
  restarted(reason: RestartReason, passed: Cursor): void;
}

/**
 * Where events go as they are appended. A delivery goes there without a way round by the reader:
 * with thousands of them, each object on the way has to be fetched from memory first.
 */
export interface LiveSink {
  /**
   * Called once per append that has events for the reader, with all their frames in one buffer,
   * which is shared with other readers and must not be changed.
   *
   * @param events how many are in it.
   * @returns whether it would take more; false: see `Reader.full`.
   */
  write(frames: Buffer, events: number): boolean;
}

/** What `read` found. */
export interface LogPage {
  /** The matching frames, in order; undefined where there are none up to `position`. */
  readonly frames: Buffer | undefined;
  readonly events: number;
  /** Position up to which the reader has now passed everything. */
  readonly position: bigint;
  /** Id of the last event in `frames`. */
  readonly lastId: string | undefined;
  /** How many events were looked at. */
  readonly looked: number;
  /**
   * The table has what is next for the reader, and the window does not: it has been redacted, or the
   * window can't make an envelope of it.
   */
  readonly needsTable: boolean;
}

export interface Log {
  readonly head: Cursor;
  /** Position before the oldest event held. */
  readonly floor: bigint;
  /** Bytes that the window accounts for, and the events in it, without those that were redacted. */
  readonly size: { readonly bytes: number; readonly events: number };
  /** How often `read` was called. */
  readonly reads: number;
  /**
   * How often it restarted on another table: positions of different epochs have nothing to do with
   * each other.
   */
  readonly epoch: number;
  /** How often events were redacted, in the window or not, or the log restarted. */
  readonly changes: number;
  /**
   * Whether what the table gave after `after`, asked when `changes` was as given, is what it would
   * give now, as far as is known: else it must not be kept to be sent.
   */
  isUnchanged(after: bigint, changes: number): boolean;
  /** Position of an event in the window, or of the one just before it, by its id. */
  positionOf(id: string): bigint | undefined;
  /**
   * Adds events, ascending and all above the head, delivers them to whoever is parked, then evicts
   * the oldest.
   */
  append(events: readonly LogEvent[]): void;
  /**
   * Matching events after `after`: at most `bytes` of them, or a single one that is larger, which
   * is then the window's own buffer. `after` must be at or above the floor.
   *
   * @param looks most events that are looked at, so that a reader gives way to others. Default:
   * all.
   * @param format what the frames have in them. Default: data.
   */
  read(filter: EventFilter, after: bigint, bytes: number, looks?: number, format?: StreamFormat): LogPage;
  /** Waits at the head. The reader must have passed exactly the head. */
  park(reader: Reader): void;
  /** How many readers wait at the head that would get this event now. */
  readersOf(event: LogEvent): number;
  /** Undoes `park`; harmless when not parked. */
  unpark(reader: Reader): void;
  /**
   * Calls back as soon as the head has reached `position`; at once where it has. Returns a function
   * that cancels.
   */
  whenReached(position: bigint, callback: () => void): () => void;
  /**
   * Drops all events and begins at `at`. Parked readers are told; whoever else reads finds out by
   * `floor` where events have expired, and by `epoch` where positions no longer mean what they did.
   */
  restart(at: Cursor, reason: RestartReason): void;
  /** Drops all events up to `position`, which have been deleted from the table. */
  evictThrough(position: bigint): void;
  /**
   * Events have been redacted: drops those at `positions`, of which others may be anywhere, and all
   * up to `through`. Whoever has yet to get them gets them from the table.
   */
  redact(positions: readonly bigint[], through?: bigint): void;
}

/** Part of the window's bytes that envelopes may take of it. */
const ENVELOPES_PART = 1 / 4;
/** Looks that making an envelope counts for. */
const LOOKS_PER_ENVELOPE = 4;

/** @param bytes bound of the window; the newest event stays whatever its size. */
export function createLog(start: Cursor, { bytes: limit }: { bytes: number }): Log {
  const window = createWindow();
  const envelopes = createEnvelopes(limit * ENVELOPES_PART);
  const parked = createParkedReaders(envelopes);
  const waiting = new Set<{ position: bigint; callback: () => void }>();
  let head = start;
  let floor = start.position;
  /** Id of the event at the floor, as long as it is known to stand in the table as we read it. */
  let floorId: string | undefined = start.id;
  let reads = 0;
  let epoch = 0;
  let changes = 0;
  /** Up to where the table has been emptied, as far as is known. */
  let deleted = 0n;

  function evict(): void {
    const event = window.shift();
    if (event === undefined) return;
    envelopes.drop(event.position);
    floor = event.position;
    floorId = event.id;
  }

  /** Down to the bound. */
  function evictOldest(): void {
    while (window.bytes + envelopes.bytes > limit && window.length > 1) evict();
  }

  function dropThrough(position: bigint): void {
    while (window.oldest && window.oldest.position <= position) evict();
  }

  function frameOf(event: Held, format: StreamFormat): Buffer | undefined {
    const { frame } = event;
    return format === 'data' || frame === undefined ? frame : envelopes.of({ ...event, frame });
  }

  /** @param all Of another table nobody can wait for a position. */
  function reached(all = false): void {
    for (const waiter of [...waiting]) {
      if (!all && waiter.position > head.position) continue;
      waiting.delete(waiter);
      waiter.callback();
    }
  }

  return {
    get head() {
      return head;
    },
    get floor() {
      return floor;
    },
    get size() {
      return { bytes: window.bytes + envelopes.bytes, events: window.length };
    },

    positionOf: (id) => window.positionOf(id) ?? (id === floorId ? floor : undefined),

    append(events) {
      const last = events.at(-1);
      if (last === undefined) return;
      for (const event of events) window.push(event);
      const passed = head;
      head = { position: last.position, id: last.id };
      parked.deliver(events.every(isDeliverable) ? events : events.filter(isDeliverable), passed);
      evictOldest();
      reached();
    },

    get reads() {
      return reads;
    },

    read(filter, after, bytes, looks = Infinity, format = 'data') {
      reads += 1;
      if (after < floor) throw new RangeError(`read after ${after}, but the window starts after ${floor}`);
      const selection = window.select(filter, after, looks);
      const frames: Buffer[] = [];
      let size = 0;
      let last: Cursor | undefined;
      const { made } = envelopes;
      const fits = (frame: Buffer) => frame.length === 0 || last === undefined || size + frame.length <= bytes;
      let event = selection.next();
      let frame = event && frameOf(event, format);
      for (; event && frame && fits(frame); event = selection.next(), frame = event && frameOf(event, format)) {
        if (frame.length === 0) continue;
        frames.push(frame);
        size += frame.length;
        last = event;
      }
      // Where nothing else matches, the reader has passed all that was looked at.
      const passed = event ? (last?.position ?? after) : (selection.through ?? head.position);
      if (envelopes.made > made) evictOldest();
      return {
        frames: frames.length > 1 ? Buffer.concat(frames, size) : frames[0],
        events: frames.length,
        position: passed > after ? passed : after,
        lastId: last?.id,
        looked: selection.looked + (envelopes.made - made) * LOOKS_PER_ENVELOPE,
        needsTable: event !== undefined && frame === undefined,
      };
    },

    readersOf: (event) => (isDeliverable(event) ? parked.count(event) : 0),

    park: parked.add,

    unpark: parked.remove,

    whenReached(position, callback) {
      if (position <= head.position) {
        callback();
        return () => undefined;
      }
      const waiter = { position, callback };
      waiting.add(waiter);
      return () => waiting.delete(waiter);
    },

    get epoch() {
      return epoch;
    },
    get changes() {
      return changes;
    },
    isUnchanged: (after, asked) => asked === changes && after >= deleted,

    restart(at, reason) {
      changes += 1;
      window.clear();
      envelopes.clear();
      const passed = head;
      head = at;
      floor = at.position;
      floorId = at.id;
      deleted = reason === 'expired' ? at.position : 0n;
      if (reason === 'unknown') epoch += 1;
      for (const reader of parked.clear()) reader.restarted(reason, passed);
      reached(reason === 'unknown');
    },

    evictThrough(position) {
      if (position <= deleted) return;
      deleted = position;
      dropThrough(position);
      const through = position < head.position ? position : head.position;
      if (through > floor) floor = through;
      if (position >= floor) floorId = undefined;
    },

    redact(positions, through = 0n) {
      changes += 1;
      dropThrough(through);
      for (const position of positions) {
        window.strip(position);
        envelopes.drop(position);
      }
    },
  };
}

function isDeliverable({ frame }: LogEvent): boolean {
  return frame.length > 0;
}
