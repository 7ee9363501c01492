/**
 * The log: the newest events, in position order, in memory, each encoded once.
 *
 * It holds every event with `floor < position <= head` and is bounded in bytes. The tail appends to it and nobody else;
 * subscriptions read from it by cursor, and a subscription that has read up to the head parks here until an event that
 * it wants is appended.
 *
 * | reader                      | what it has passed        | how it gets its next event             |
 * |-----------------------------|---------------------------|----------------------------------------|
 * | parked                      | exactly `head`            | `deliver`, in the turn of the append   |
 * | reading (or a slow client)  | a cursor of its own       | `read`, as long as cursor >= floor     |
 * | behind the floor            | a cursor of its own       | not from here: history, from the table |
 *
 * That a parked reader has passed exactly the head is what makes it exact: whatever is appended next is all that it lacks.
 */
import { prefixesOf, type Interest } from './channels.js';

/** A place in commit order: all events up to and including this one have been passed. */
export interface Cursor {
  readonly position: bigint;
  /** Id of the event at that position; what a client is given. `0` before the first event. */
  readonly id: string;
}

export interface LogEvent extends Cursor {
  readonly channel: string;
  /** The event as it goes over the wire. */
  readonly frame: Buffer;
}

export interface Reader {
  readonly interest: Interest;
  /**
   * Called while parked, once per append that has events for it, with all their frames in one buffer. The reader has
   * then passed the new head. The buffer is shared with other readers and must not be changed.
   *
   * @param events how many are in it.
   */
  deliver(frames: Buffer, events: number): void;
  /**
   * Called while parked, which it no longer is then: the log has restarted, and what the reader has passed leads nowhere.
   *
   * @param passed what that was: the head until now.
   */
  restarted(reason: RestartReason, passed: Cursor): void;
}

/**
 * Why a log has to begin anew: events after its head were deleted before it had read them, or the table turned out to be
 * another than the one that it had read from.
 */
export type RestartReason = 'expired' | 'unknown';

/** What `read` found. */
export interface LogPage {
  /** The matching frames, in order; undefined where there are none up to `position`. */
  readonly frames: Buffer | undefined;
  readonly events: number;
  /** Position up to which the reader has now passed everything. */
  readonly position: bigint;
  /** Id of the last event in `frames`. */
  readonly lastId: string | undefined;
}

export interface Log {
  readonly head: Cursor;
  /** Position before the oldest event held. */
  readonly floor: bigint;
  /** Bytes that the window accounts for, and the events in it. */
  readonly size: { readonly bytes: number; readonly events: number };
  /** How often `read` was called. */
  readonly reads: number;
  /** How often it restarted on another table: positions of different eras have nothing to do with each other. */
  readonly era: number;
  /** How often events behind the head were changed or deleted: what was read of them before must not be kept to be sent. */
  readonly changes: number;
  /** Position of an event in the window, or of the one just before it, by its id. */
  positionOf(id: string): bigint | undefined;
  /** Adds events, ascending and all above the head, delivers them to whoever is parked, then evicts the oldest. */
  append(events: readonly LogEvent[]): void;
  /** Matching events after `after`, about `bytes` of them and at least one. `after` must be at or above the floor. */
  read(interest: Interest, after: bigint, bytes: number): LogPage;
  /** Waits at the head. The reader must have passed exactly the head. */
  park(reader: Reader): void;
  /** Undoes `park`; harmless when not parked. */
  unpark(reader: Reader): void;
  /** Calls back as soon as the head has reached `position`; at once where it has. Returns a function that cancels. */
  whenReached(position: bigint, callback: () => void): () => void;
  /**
   * Drops all events and begins at `at`. Parked readers are told; whoever else reads finds out by `floor` where events
   * have expired, and by `era` where positions no longer mean what they did.
   */
  restart(at: Cursor, reason: RestartReason): void;
  /** Drops all events up to `position`: the table's copy has been changed or deleted, so ours must not be sent again. */
  forget(position: bigint): void;
}

/** What an event costs in memory beside its frame: the object, its buffer view, its places in three indexes. */
const EVENT_OVERHEAD = 600;

/** All parked readers with one interest. */
interface Group {
  readonly interest: Interest;
  readonly readers: Set<Reader>;
  /** Frames of the append that is going on. */
  fresh: Buffer[];
}

/** @param bytes bound of the window; the newest event stays whatever its size. */
export function createLog(start: Cursor, { bytes: limit }: { bytes: number }): Log {
  let window = createQueue();
  const byChannel = new Map<string, Queue>();
  const positions = new Map<string, bigint>();
  const groups = new Map<string, Group>();
  const groupsByChannel = new Map<string, Set<Group>>();
  const groupsByPrefix = new Map<string, Set<Group>>();
  const waiting = new Set<{ position: bigint; callback: () => void }>();
  let head = start;
  let floor = start.position;
  /** Id of the event at the floor, as long as it is known to stand in the table as we read it. */
  let floorId: string | undefined = start.id;
  let bytes = 0;
  let reads = 0;
  let era = 0;
  let changes = 0;

  function store(event: LogEvent): void {
    window.push(event);
    positions.set(event.id, event.position);
    let channel = byChannel.get(event.channel);
    if (channel === undefined) byChannel.set(event.channel, (channel = createQueue()));
    channel.push(event);
    bytes += event.frame.length + EVENT_OVERHEAD;
  }

  function evict(): void {
    const event = window.shift();
    if (event === undefined) return;
    floor = event.position;
    floorId = event.id;
    bytes -= event.frame.length + EVENT_OVERHEAD;
    positions.delete(event.id);
    // The oldest event of the window is the oldest of its channel.
    const channel = byChannel.get(event.channel);
    channel?.shift();
    if (channel?.length === 0) byChannel.delete(event.channel);
  }

  /** @param all Of another table nobody can wait for a position. */
  function reached(all = false): void {
    for (const waiter of [...waiting]) {
      if (!all && waiter.position > head.position) continue;
      waiting.delete(waiter);
      waiter.callback();
    }
  }

  function deliver(events: readonly LogEvent[]): void {
    const dirty = new Set<Group>();
    const add = (group: Group, event: LogEvent) => {
      group.fresh.push(event.frame);
      dirty.add(group);
    };
    for (const event of events) {
      for (const group of groupsByChannel.get(event.channel) ?? []) add(group, event);
      if (groupsByPrefix.size === 0) continue;
      for (const prefix of prefixesOf(event.channel)) {
        for (const group of groupsByPrefix.get(prefix) ?? []) add(group, event);
      }
    }
    for (const group of dirty) {
      const frames = group.fresh;
      group.fresh = [];
      const chunk = frames.length === 1 && frames[0] ? frames[0] : Buffer.concat(frames);
      for (const reader of group.readers) reader.deliver(chunk, frames.length);
    }
  }

  function register(group: Group): void {
    groups.set(group.interest.key, group);
    for (const channel of group.interest.channels) addTo(groupsByChannel, channel, group);
    for (const prefix of group.interest.prefixes) addTo(groupsByPrefix, prefix, group);
  }

  function unregister(group: Group): void {
    groups.delete(group.interest.key);
    for (const channel of group.interest.channels) removeFrom(groupsByChannel, channel, group);
    for (const prefix of group.interest.prefixes) removeFrom(groupsByPrefix, prefix, group);
  }

  return {
    get head() {
      return head;
    },
    get floor() {
      return floor;
    },
    get size() {
      return { bytes, events: window.length };
    },

    positionOf: (id) => positions.get(id) ?? (id === floorId ? floor : undefined),

    append(events) {
      const last = events.at(-1);
      if (last === undefined) return;
      for (const event of events) store(event);
      head = { position: last.position, id: last.id };
      deliver(events);
      while (bytes > limit && window.length > 1) evict();
      reached();
    },

    get reads() {
      return reads;
    },

    read(interest, after, maxBytes) {
      reads += 1;
      if (after < floor) throw new RangeError(`read after ${after}, but the window starts after ${floor}`);
      const frames: Buffer[] = [];
      let size = 0;
      let last: LogEvent | undefined;
      for (const event of select(interest, after)) {
        if (last && size >= maxBytes)
          return { frames: Buffer.concat(frames), events: frames.length, position: last.position, lastId: last.id };
        frames.push(event.frame);
        size += event.frame.length;
        last = event;
      }
      // Nothing else up to the head is of interest, so the reader has passed it all.
      const passed = after > head.position ? after : head.position;
      return { frames: last && Buffer.concat(frames), events: frames.length, position: passed, lastId: last?.id };
    },

    park(reader) {
      let group = groups.get(reader.interest.key);
      if (group === undefined) register((group = { interest: reader.interest, readers: new Set(), fresh: [] }));
      group.readers.add(reader);
    },

    unpark(reader) {
      const group = groups.get(reader.interest.key);
      if (group?.readers.delete(reader) && group.readers.size === 0) unregister(group);
    },

    whenReached(position, callback) {
      if (position <= head.position) {
        callback();
        return () => undefined;
      }
      const waiter = { position, callback };
      waiting.add(waiter);
      return () => waiting.delete(waiter);
    },

    get era() {
      return era;
    },
    get changes() {
      return changes;
    },

    restart(at, reason) {
      changes += 1;
      window = createQueue();
      byChannel.clear();
      positions.clear();
      bytes = 0;
      const passed = head;
      head = at;
      floor = at.position;
      floorId = at.id;
      if (reason === 'unknown') era += 1;
      const parked = [...groups.values()].flatMap((group) => [...group.readers]);
      groups.clear();
      groupsByChannel.clear();
      groupsByPrefix.clear();
      for (const reader of parked) reader.restarted(reason, passed);
      reached(reason === 'unknown');
    },

    forget(position) {
      changes += 1;
      for (let oldest = window.at(0); oldest && oldest.position <= position; oldest = window.at(0)) evict();
      const through = position < head.position ? position : head.position;
      if (through > floor) floor = through;
      if (position >= floor) floorId = undefined;
    },
  };

  function select(interest: Interest, after: bigint): Iterable<LogEvent> {
    // A prefix may cover any number of channels: one walk over the window serves it, whatever their number.
    if (interest.prefixes.length > 0) return selectByWalk(window, interest, after);
    const sources = interest.channels.flatMap((channel) => byChannel.get(channel) ?? []);
    return sources.length === 1 && sources[0] ? sources[0].after(after) : merge(sources, after);
  }
}

function* selectByWalk(window: Queue, interest: Interest, after: bigint): Iterable<LogEvent> {
  const channels = new Set(interest.channels);
  for (const event of window.after(after)) {
    if (channels.has(event.channel) || interest.prefixes.some((prefix) => event.channel.startsWith(prefix))) {
      yield event;
    }
  }
}

/** Merges channels in position order. Connections name few channels, so looking at each one's next is cheap enough. */
function* merge(sources: readonly Queue[], after: bigint): Iterable<LogEvent> {
  const iterators = sources.map((source) => source.after(after)[Symbol.iterator]());
  const next = iterators.map((iterator) => iterator.next());
  for (;;) {
    let first = -1;
    let lowest: LogEvent | undefined;
    next.forEach((result, index) => {
      if (result.done || (lowest && lowest.position < result.value.position)) return;
      first = index;
      lowest = result.value;
    });
    const iterator = iterators[first];
    if (lowest === undefined || iterator === undefined) return;
    yield lowest;
    next[first] = iterator.next();
  }
}

/** A first-in-first-out list of events in position order that can be entered anywhere. */
interface Queue {
  readonly length: number;
  at(index: number): LogEvent | undefined;
  push(event: LogEvent): void;
  shift(): LogEvent | undefined;
  /** Events above `position`, in order. Must be consumed before the queue changes. */
  after(position: bigint): Iterable<LogEvent>;
}

function createQueue(): Queue {
  let items: (LogEvent | undefined)[] = [];
  let start = 0;

  function firstAfter(position: bigint): number {
    let low = start;
    let high = items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const item = items[middle];
      if (item && item.position <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  return {
    get length() {
      return items.length - start;
    },
    at: (index) => items[start + index],
    push: (event) => items.push(event),
    shift() {
      const event = items[start];
      if (event === undefined) return undefined;
      items[start] = undefined;
      start += 1;
      // `Array.shift` moves every element; dropping the consumed half now and then moves each one once.
      if (start > 32 && start * 2 > items.length) {
        items = items.slice(start);
        start = 0;
      }
      return event;
    },
    *after(position) {
      for (let index = firstAfter(position); index < items.length; index += 1) {
        const event = items[index];
        if (event) yield event;
      }
    },
  };
}

function addTo<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (set) set.add(value);
  else map.set(key, new Set([value]));
}

function removeFrom<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (set?.delete(value) && set.size === 0) map.delete(key);
}
