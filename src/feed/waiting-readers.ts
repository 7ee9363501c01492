/**
 * The readers that wait at the head, by what they want: an event finds exactly those that it is
 * for, and costs those that it is not for nothing.
 */
import { prefixesOf } from '../event/channel-filter.js';
import { eventNameIn, type StreamFormat } from '../event/envelope.js';
import type { Cursor, LogEvent } from '../event/event.js';
import { wantsName, type EventFilter } from '../event/event-filter.js';
import type { Envelopes } from './envelopes.js';
import type { LiveSink, Reader } from './log.js';

export interface ParkedReaders {
  add(reader: Reader): void;
  /** Harmless when it is not there. */
  remove(reader: Reader): void;
  /**
   * Hands each reader what is new for it. One that has to wait for its client, or to read the table,
   * takes itself out meanwhile.
   *
   * @param passed what all of them had passed before.
   */
  deliver(events: readonly LogEvent[], passed: Cursor): void;
  /** How many want an event. */
  count(event: LogEvent): number;
  /** Takes all of them out. */
  clear(): Reader[];
}

/** All parked readers with one filter and format. */
interface Group {
  readonly key: string;
  readonly filter: EventFilter;
  readonly format: StreamFormat;
  /** Each with its sink. */
  readonly readers: Map<Reader, LiveSink>;
  /** Frames of the append that is going on. */
  fresh: Buffer[];
  /** The append has an event for them of which the table alone has what they want. */
  needsTable: boolean;
}

export function createParkedReaders(envelopes: Pick<Envelopes, 'of'>): ParkedReaders {
  const groups = new Map<string, Group>();
  const groupsByChannel = new Map<string, Set<Group>>();
  const groupsByPrefix = new Map<string, Set<Group>>();

  function register(group: Group): void {
    groups.set(group.key, group);
    for (const channel of group.filter.channels) addTo(groupsByChannel, channel, group);
    for (const prefix of group.filter.prefixes) addTo(groupsByPrefix, prefix, group);
  }

  function unregister(group: Group): void {
    groups.delete(group.key);
    for (const channel of group.filter.channels) removeFrom(groupsByChannel, channel, group);
    for (const prefix of group.filter.prefixes) removeFrom(groupsByPrefix, prefix, group);
  }

  return {
    add(reader) {
      const { filter, format } = reader;
      const key = keyOf(reader);
      let group = groups.get(key);
      if (group === undefined) {
        register((group = { key, filter, format, readers: new Map(), fresh: [], needsTable: false }));
      }
      group.readers.set(reader, reader.sink);
    },

    remove(reader) {
      const group = groups.get(keyOf(reader));
      if (group?.readers.delete(reader) && group.readers.size === 0) unregister(group);
    },

    deliver(events, passed) {
      const dirty = new Set<Group>();
      const add = (group: Group, event: LogEvent) => {
        if (!wants(group, event)) return;
        const frame = group.format === 'envelope' ? envelopes.of(event) : event.frame;
        if (frame) group.fresh.push(frame);
        else group.needsTable = true;
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
        if (group.needsTable) {
          group.needsTable = false;
          for (const reader of [...group.readers.keys()]) reader.readOn(passed);
          continue;
        }
        const chunk = frames.length === 1 && frames[0] ? frames[0] : Buffer.concat(frames);
        for (const [reader, sink] of group.readers) {
          if (!sink.write(chunk, frames.length)) reader.full();
        }
      }
    },

    count(event) {
      let count = 0;
      const add = (group: Group) => {
        if (wants(group, event)) count += group.readers.size;
      };
      groupsByChannel.get(event.channel)?.forEach(add);
      if (groupsByPrefix.size === 0) return count;
      for (const prefix of prefixesOf(event.channel)) groupsByPrefix.get(prefix)?.forEach(add);
      return count;
    },

    clear() {
      const all = [...groups.values()].flatMap((group) => [...group.readers.keys()]);
      groups.clear();
      groupsByChannel.clear();
      groupsByPrefix.clear();
      return all;
    },
  };
}

function wants({ filter }: Group, event: LogEvent): boolean {
  return !filter.events || wantsName(filter, () => eventNameIn(event.frame));
}

function keyOf({ filter, format }: Reader): string {
  return format === 'data' ? filter.key : `${format} ${filter.key}`;
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
