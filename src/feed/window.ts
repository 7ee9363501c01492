/**
 * The window: the newest events, in memory, found by position, by id and by channel.
 *
 * It knows how much memory they take, and leaves it to its owner when the oldest have to go.
 */
import { matches } from '../event/channel-filter.js';
import { eventNameIn } from '../event/envelope.js';
import type { LogEvent } from '../event/event.js';
import { wantsName, type EventFilter } from '../event/event-filter.js';
import { createHeap } from './heap.js';

/**
 * What the window has of an event; without a frame where that is not what the table has any more.
 */
export interface Held extends Omit<LogEvent, 'frame'> {
  readonly frame: Buffer | undefined;
}

export interface Window {
  /** How many it has with their frames. */
  readonly length: number;
  /** What its events account for. */
  readonly bytes: number;
  readonly oldest: Held | undefined;
  positionOf(id: string): bigint | undefined;
  /** Adds an event that is newer than all others. */
  push(event: LogEvent): void;
  /** Takes the oldest event out. */
  shift(): Held | undefined;
  /** Lets go of an event's frame and keeps its place; harmless where it has none. */
  strip(position: bigint): void;
  /**
   * Events above `after` that match, in order. Must be consumed before the window changes.
   *
   * @param most how many events are looked at: those between are, too, where the filter has
   * prefixes. At least one.
   */
  select(filter: EventFilter, after: bigint, most: number): Selection;
  clear(): void;
}

/** Events that are looked for one at a time. */
export interface Selection {
  /** The next that matches; undefined where there is none among those that may be looked at. */
  next(): Held | undefined;
  /** How many were looked at. */
  readonly looked: number;
  /**
   * After the last: position up to which everything that matches was given; undefined: the newest.
   */
  readonly through: bigint | undefined;
}

/**
 * What an event costs in memory beside its frame: the object, its buffer view, its places in three
 * indexes.
 */
const EVENT_OVERHEAD = 600;
/** What a channel costs beside its events: its place in the index, and a queue. */
const CHANNEL_OVERHEAD = 1000;

export function createWindow(): Window {
  let all = createQueue();
  const byChannel = new Map<string, Queue>();
  const positions = new Map<string, bigint>();
  let bytes = 0;
  let stripped = 0;

  return {
    get length() {
      return all.length - stripped;
    },
    get bytes() {
      return bytes;
    },
    get oldest() {
      return all.at(0);
    },
    positionOf: (id) => positions.get(id),

    push(event) {
      all.push(event);
      positions.set(event.id, event.position);
      let channel = byChannel.get(event.channel);
      if (channel === undefined) {
        byChannel.set(event.channel, (channel = createQueue()));
        bytes += CHANNEL_OVERHEAD;
      }
      channel.push(event);
      bytes += event.frame.length + EVENT_OVERHEAD;
    },

    shift() {
      const event = all.shift();
      if (event === undefined) return undefined;
      bytes -= (event.frame?.length ?? 0) + EVENT_OVERHEAD;
      if (event.frame === undefined) stripped -= 1;
      positions.delete(event.id);
      // The oldest event of the window is the oldest of its channel.
      const channel = byChannel.get(event.channel);
      channel?.shift();
      if (channel?.length === 0) {
        byChannel.delete(event.channel);
        bytes -= CHANNEL_OVERHEAD;
      }
      return event;
    },

    strip(position) {
      const event = all.find(position);
      if (event?.frame === undefined) return;
      bytes -= event.frame.length;
      stripped += 1;
      const rest: Held = { ...event, frame: undefined };
      all.replace(rest);
      byChannel.get(event.channel)?.replace(rest);
    },

    select(filter, after, most) {
      // A prefix may cover any number of channels: one walk over the window serves it, whatever
      // their number.
      const hasName = filter.events && ((event: Held) => hasWantedName(filter, event));
      if (filter.prefixes.length > 0) {
        const isWanted = (event: Held) => matches(filter, event.channel) && (!hasName || hasName(event));
        return walk(all, after, most, isWanted);
      }
      const sources = filter.channels.flatMap((channel) => byChannel.get(channel) ?? []);
      if (sources.length === 1 && sources[0]) return walk(sources[0], after, most, hasName);
      return merge(sources, after, most, hasName);
    },

    clear() {
      all = createQueue();
      byChannel.clear();
      positions.clear();
      bytes = 0;
      stripped = 0;
    },
  };
}

/** Of what has been redacted the name is not here: the table is to tell. */
function hasWantedName(filter: EventFilter, { frame }: Held): boolean {
  return frame === undefined || wantsName(filter, () => eventNameIn(frame));
}

function walk(queue: Queue, after: bigint, most: number, isWanted?: (event: Held) => boolean): Selection {
  const first = queue.indexAfter(after);
  const end = Math.min(queue.length, first + most);
  let index = first;
  return {
    next() {
      while (index < end) {
        const event = queue.at(index);
        index += 1;
        if (event && (isWanted === undefined || isWanted(event))) return event;
      }
      return undefined;
    },
    get looked() {
      return index - first;
    },
    get through() {
      return end < queue.length ? queue.at(end - 1)?.position : undefined;
    },
  };
}

/** Merges channels in position order. */
function merge(sources: readonly Queue[], after: bigint, most: number, isWanted?: (event: Held) => boolean): Selection {
  interface Next {
    readonly event: Held;
    readonly queue: Queue;
    readonly index: number;
  }
  const heap = createHeap<Next>((a, b) => a.event.position < b.event.position);
  const add = (queue: Queue, index: number) => {
    const event = queue.at(index);
    if (event) heap.push({ event, queue, index });
  };
  for (const queue of sources) add(queue, queue.indexAfter(after));
  let taken = 0;
  let last: Held | undefined;
  return {
    next() {
      while (taken < most) {
        const next = heap.pop();
        if (next === undefined) return undefined;
        taken += 1;
        last = next.event;
        add(next.queue, next.index + 1);
        if (isWanted === undefined || isWanted(last)) return last;
      }
      return undefined;
    },
    get looked() {
      return taken + sources.length;
    },
    get through() {
      return heap.size > 0 ? last?.position : undefined;
    },
  };
}

/** A first-in-first-out list of events in position order that can be entered anywhere. */
interface Queue {
  readonly length: number;
  at(index: number): Held | undefined;
  push(event: Held): void;
  shift(): Held | undefined;
  find(position: bigint): Held | undefined;
  /** Puts another in the place of the one at its position. */
  replace(event: Held): void;
  /** Index of the first event above `position`, until the queue changes. */
  indexAfter(position: bigint): number;
}

function createQueue(): Queue {
  let items: (Held | undefined)[] = [];
  let start = 0;

  function indexAfter(position: bigint): number {
    let low = start;
    let high = items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const item = items[middle];
      if (item && item.position <= position) low = middle + 1;
      else high = middle;
    }
    return low - start;
  }

  function find(position: bigint): Held | undefined {
    const item = items[start + indexAfter(position - 1n)];
    return item?.position === position ? item : undefined;
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
      // `Array.shift` moves every element; dropping the consumed half now and then moves each one
      // once.
      if (start > 32 && start * 2 > items.length) {
        items = items.slice(start);
        start = 0;
      }
      return event;
    },
    indexAfter,
    find,
    replace(event) {
      if (find(event.position)) items[start + indexAfter(event.position - 1n)] = event;
    },
  };
}
