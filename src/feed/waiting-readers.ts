/**
 * The readers that wait at the head, by what they want: an event finds exactly those that it is
 * for, and costs those that it is not for nothing.
 */
import { prefixesOf, type ChannelFilter } from '../event/channel-filter.js';
import type { Reader } from './log.js';
import type { LogEvent } from '../event/event.js';

export interface ParkedReaders {
  add(reader: Reader): void;
  /** Harmless when it is not there. */
  remove(reader: Reader): void;
  /**
   * Hands each reader what is new for it. One that has to wait for its client takes itself out
   * meanwhile.
   */
  deliver(events: readonly LogEvent[]): void;
  /** Takes all of them out. */
  clear(): Reader[];
}

/** All parked readers with one filter. */
interface Group {
  readonly filter: ChannelFilter;
  /**
   * Each with its `deliver`, so that this finds no object between here and there: with thousands of
   * readers, what a delivery costs beside its write is the objects that it has to fetch from
   * memory.
   */
  readonly readers: Map<Reader, Reader['deliver']>;
  /** Frames of the append that is going on. */
  fresh: Buffer[];
}

export function createParkedReaders(): ParkedReaders {
  const groups = new Map<string, Group>();
  const groupsByChannel = new Map<string, Set<Group>>();
  const groupsByPrefix = new Map<string, Set<Group>>();

  function register(group: Group): void {
    groups.set(group.filter.key, group);
    for (const channel of group.filter.channels) addTo(groupsByChannel, channel, group);
    for (const prefix of group.filter.prefixes) addTo(groupsByPrefix, prefix, group);
  }

  function unregister(group: Group): void {
    groups.delete(group.filter.key);
    for (const channel of group.filter.channels) removeFrom(groupsByChannel, channel, group);
    for (const prefix of group.filter.prefixes) removeFrom(groupsByPrefix, prefix, group);
  }

  return {
    add(reader) {
      let group = groups.get(reader.filter.key);
      if (group === undefined) register((group = { filter: reader.filter, readers: new Map(), fresh: [] }));
      group.readers.set(reader, reader.deliver);
    },

    remove(reader) {
      const group = groups.get(reader.filter.key);
      if (group?.readers.delete(reader) && group.readers.size === 0) unregister(group);
    },

    deliver(events) {
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
        for (const deliver of group.readers.values()) deliver(chunk, frames.length);
      }
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

function addTo<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (set) set.add(value);
  else map.set(key, new Set([value]));
}

function removeFrom<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (set?.delete(value) && set.size === 0) map.delete(key);
}
