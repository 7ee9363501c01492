/**
 * The window: the newest events, in memory, found by position, by id and by channel.
 *
 * It knows how much memory they take, and leaves it to its owner when the oldest have to go.
 */
import type { Interest } from './channels.js';
import type { LogEvent } from './log.js';

export interface Window {
  readonly length: number;
  /** What its events account for. */
  readonly bytes: number;
  readonly oldest: LogEvent | undefined;
  positionOf(id: string): bigint | undefined;
  /** Adds an event that is newer than all others. */
  push(event: LogEvent): void;
  /** Takes the oldest event out. */
  shift(): LogEvent | undefined;
  /** Events above `after` that are of interest, in order. Must be consumed before the window changes. */
  select(interest: Interest, after: bigint): Iterable<LogEvent>;
  clear(): void;
}

/** What an event costs in memory beside its frame: the object, its buffer view, its places in three indexes. */
const EVENT_OVERHEAD = 600;

export function createWindow(): Window {
  let all = createQueue();
  const byChannel = new Map<string, Queue>();
  const positions = new Map<string, bigint>();
  let bytes = 0;

  return {
    get length() {
      return all.length;
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
      if (channel === undefined) byChannel.set(event.channel, (channel = createQueue()));
      channel.push(event);
      bytes += event.frame.length + EVENT_OVERHEAD;
    },

    shift() {
      const event = all.shift();
      if (event === undefined) return undefined;
      bytes -= event.frame.length + EVENT_OVERHEAD;
      positions.delete(event.id);
      // The oldest event of the window is the oldest of its channel.
      const channel = byChannel.get(event.channel);
      channel?.shift();
      if (channel?.length === 0) byChannel.delete(event.channel);
      return event;
    },

    select(interest, after) {
      // A prefix may cover any number of channels: one walk over the window serves it, whatever their number.
      if (interest.prefixes.length > 0) return selectByWalk(all, interest, after);
      const sources = interest.channels.flatMap((channel) => byChannel.get(channel) ?? []);
      return sources.length === 1 && sources[0] ? sources[0].after(after) : merge(sources, after);
    },

    clear() {
      all = createQueue();
      byChannel.clear();
      positions.clear();
      bytes = 0;
    },
  };
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
