/**
 * The outbox as a list in memory, with the two interfaces to it. What its feed and its archive do beside telling the truth is for
 * `Faults` to choose, among all that their interfaces allow.
 */
import { randomUUID } from 'node:crypto';
import { matches } from '../../src/event/channel-filter.js';
import type { Cursor, FreshEvent } from '../../src/event/event.js';
import type { Archive, CursorLookup } from '../../src/outbox/archive.js';
import type { AwakeLock, Changes, Feed, FeedWatcher } from '../../src/outbox/feed.js';
import { batchOf, type Batch } from '../../src/outbox/frame-batch.js';

/** What a feed and an archive may do. */
export interface Faults {
  /** Answers a read with what `answer` gives, asked now or later; or fails it. */
  read<T>(answer: () => T, signal?: AbortSignal): Promise<T>;
  /** How many of so many events a page has: one at least, where there is one. */
  cut(most: number): number;
  /** Whether a page says that more may follow where nothing does. */
  saysMore(): boolean;
  /** Calls a wake-up: once, several times, later, or never. */
  pass(wakeUp: () => void): void;
}

/** Does all that it is told, at once. */
export const noFaults: Faults = {
  read: (answer) => new Promise((resolve) => resolve(answer())),
  cut: (most) => most,
  saysMore: () => false,
  pass: (wakeUp) => wakeUp(),
};

export interface Change {
  readonly position: bigint;
  /** The number of the change. */
  readonly at: number;
}

export interface MemoryOutbox {
  /** All that are in the table, in order. */
  readonly events: readonly FreshEvent[];
  readonly floor: Cursor;
  readonly head: Cursor;
  readonly changes: readonly Change[];
  /** How many commits are. */
  readonly underWay: number;
  /** The last position that was drawn. */
  readonly drawn: bigint;
  /** Position up to which no commit is under way. */
  readonly settled: bigint;
  /** Commits an event to each channel, and wakes whoever watches. */
  publish(channels: readonly string[], size?: number): readonly FreshEvent[];
  /** Begins to: positions are drawn, and until it is over nothing can be seen of it. */
  begin(channels: readonly string[], size?: number): Commit;
  /** The frame has the same length, and begins with another character. */
  redact(position: bigint): void;
  deleteThrough(position: bigint): void;
  /** Goes back to what was there when the event at `position` was the newest. Ids are not given out again; positions are. */
  restore(position: bigint): void;
  readonly watchers: Set<FeedWatcher>;
  /** Who has the awake lock: then nobody who publishes wakes anybody. */
  readonly awake: { holder: FeedWatcher | undefined };
}

/** A commit under way. */
export interface Commit {
  /** Returns the events, which are none where the table has been restored meanwhile. */
  succeed(): readonly FreshEvent[];
  fail(): void;
}

const NOTHING: Cursor = { position: 0n, id: '0' };

/** How its events are created: one a second. */
export const FIRST_CREATED_MS = 1_000_000;

export function createMemoryOutbox(faults: Faults): MemoryOutbox {
  let events: FreshEvent[] = [];
  let floor = NOTHING;
  let ids = 0;
  let drawn = 0n;
  const underWay = new Set<{ readonly low: bigint }>();
  const changes: Change[] = [];
  const watchers = new Set<FeedWatcher>();
  let bell: object | undefined;
  const awake: MemoryOutbox['awake'] = { holder: undefined };
  const tell = (what: 'wake' | 'changed') => {
    for (const watcher of watchers) {
      faults.pass(() => {
        if (watchers.has(watcher)) watcher[what]();
      });
    }
  };
  const settled = () => [...underWay].reduce((least, { low }) => (low < least ? low : least), drawn);
  const head = () => cursorOf(events.filter(({ position }) => position <= settled()).at(-1) ?? floor);

  function begin(channels: readonly string[], size = 0): Commit {
    const marker = { low: drawn };
    underWay.add(marker);
    // Whoever is the first to commit rings for all that do meanwhile.
    const rings = awake.holder === undefined && bell === undefined;
    if (rings) bell = marker;
    const end = () => {
      if (bell === marker) bell = undefined;
      return underWay.delete(marker);
    };
    const added = channels.map((channel): FreshEvent => {
      ids += 1;
      drawn += 1n;
      const frame = Buffer.from(`<${ids} ${channel}>`.padEnd(size, '.'));
      return {
        position: drawn,
        id: String(ids),
        channel,
        frame,
        kind: 'json',
        createdAt: FIRST_CREATED_MS + ids * 1000,
      };
    });
    return {
      succeed() {
        if (!end()) return [];
        events = [...events, ...added].sort((a, b) => Number(a.position - b.position));
        if (rings) tell('wake');
        return added;
      },
      fail: () => void end(),
    };
  }

  return {
    get events() {
      return events;
    },
    get floor() {
      return floor;
    },
    get head() {
      return head();
    },
    changes,
    watchers,
    awake,
    get underWay() {
      return underWay.size;
    },
    get drawn() {
      return drawn;
    },
    get settled() {
      return settled();
    },
    begin,
    publish: (channels, size) => begin(channels, size).succeed(),
    redact(position) {
      events = events.map((event) =>
        event.position === position
          ? { ...event, frame: Buffer.from(event.frame.toString().replace('<', '[')) }
          : event,
      );
      changes.push({ position, at: changes.length + 1 });
      tell('changed');
    },
    deleteThrough(position) {
      const last = events.filter((event) => event.position <= position && event.position <= settled()).at(-1);
      if (last === undefined) return;
      floor = cursorOf(last);
      events = events.filter((event) => event.position > last.position);
      tell('changed');
    },
    restore(position) {
      events = events.filter((event) => event.position <= position);
      underWay.clear();
      bell = undefined;
      drawn = max(position, floor.position);
      // As ids are after a restore, once they have been moved on.
      ids += 1000;
      for (const watcher of watchers) watcher.recheck();
    },
  };
}

export function createMemoryFeed(outbox: MemoryOutbox, faults: Faults): Feed {
  return {
    head: () => faults.read(() => outbox.head),

    nearHead: ({ events, bytes }) =>
      faults.read(() => {
        const newest = outbox.events.filter(({ position }) => position <= outbox.settled).slice(-events);
        while (newest.reduce((sum, { frame }) => sum + frame.length, 0) > bytes) newest.shift();
        return cursorOf(newest[0] ?? outbox.head);
      }),

    readNew: (after) =>
      faults.read(() => {
        const following = outbox.events.filter(({ position }) => position > after);
        const gap = following.findIndex(
          ({ position }, index) =>
            position > outbox.settled && position > (following[index - 1]?.position ?? after) + 1n,
        );
        const ready = gap < 0 ? following : following.slice(0, gap);
        const events = ready.slice(0, faults.cut(ready.length));
        const isCut = events.length < ready.length;
        return {
          events,
          through: events.at(-1)?.position ?? after,
          more: isCut || faults.saysMore(),
          floor: outbox.floor,
          held: gap < 0 || isCut ? undefined : { by: 1 },
        };
      }),

    settled: () =>
      faults.read(() => ({
        through: outbox.settled,
        drawn: outbox.drawn,
        isQuiet: outbox.underWay === 0,
        process: undefined,
      })),

    changesSince: (state, above) =>
      faults.read((): Changes => {
        const since = state === undefined ? 0 : Number(state);
        const found = outbox.changes.filter(({ at }) => at > since).map(({ position }) => position);
        const positions = [...new Set(found)].sort((a, b) => Number(b - a)).filter((position) => position > above);
        const named = positions.slice(0, faults.cut(positions.length));
        return {
          state: String(outbox.changes.length),
          redacted: named,
          redactedThrough: positions[named.length] ?? 0n,
          hasRedacted: found.length > 0,
          floor: outbox.floor,
          isFloorMissing: false,
        };
      }),

    isSameHistory: ({ position, id, createdAt }) =>
      faults.read(() => {
        const { floor } = outbox;
        if (floor.position > position || (floor.position === position && floor.id === id)) return true;
        const found = outbox.events.find((event) => event.position === position);
        return found?.id === id && (createdAt === undefined || createdAt === found.createdAt);
      }),

    watch(watcher) {
      outbox.watchers.add(watcher);
      watcher.recheck();
      watcher.changed();
      watcher.notificationsWork(true);
      return Promise.resolve({
        trouble: undefined,
        notificationsWork: true,
        losses: 0,
        awakeLock: awakeLock(outbox, faults, watcher),
        stop() {
          outbox.watchers.delete(watcher);
          if (outbox.awake.holder === watcher) outbox.awake.holder = undefined;
          return Promise.resolve();
        },
      });
    },
  };
}

function awakeLock(outbox: MemoryOutbox, faults: Faults, watcher: FeedWatcher): AwakeLock {
  const { awake } = outbox;
  const relay = randomUUID();
  return {
    take: () =>
      faults.read(() => {
        // Without a session there is none to be had.
        if (outbox.watchers.has(watcher)) awake.holder ??= watcher;
        return awake.holder === watcher;
      }),
    giveBack: () =>
      faults.read(() => {
        if (awake.holder === watcher) awake.holder = undefined;
      }),
    isTaken: () => faults.read(() => awake.holder !== undefined && awake.holder !== watcher),
    publishersOverlap: () => faults.read(() => outbox.underWay > 1),
    tell: (state) =>
      faults.read(() => {
        for (const other of outbox.watchers) {
          if (other !== watcher)
            faults.pass(() => (state === 'awake' ? other.othersAwake(relay) : other.othersAsleep(relay)));
        }
      }),
  };
}

export function createMemoryArchive(outbox: MemoryOutbox, faults: Faults): Archive {
  return {
    page: (filter, after, head, bytes, signal) =>
      faults.read(() => {
        const matching = outbox.events.filter(
          (event) => event.position > after && event.position <= head && matches(filter, event.channel),
        );
        const floor = outbox.floor.position;
        const [first] = matching;
        if (first && first.frame.length > bytes)
          return { events: batch([]), position: after, floor, needs: first.frame.length };
        let size = 0;
        const fitting = matching.filter(({ frame }) => (size += frame.length) <= bytes);
        const events = fitting.slice(0, faults.cut(fitting.length));
        const last = events.at(-1)?.position ?? after;
        return { events: batch(events), position: events.length < matching.length ? last : max(head, after), floor };
      }, signal),

    lookUpCursors: (ids, signal) =>
      faults.read(
        () =>
          ids.map((id): CursorLookup => {
            const { floor, head } = outbox;
            if (!/^\d+$/.test(id)) return { kind: 'unknown' };
            if (id === floor.id) return { kind: 'found', position: floor.position };
            const event = outbox.events.find((one) => one.id === id);
            if (event) return { kind: 'found', position: event.position };
            return Number(id) > Number(head.id) ? { kind: 'unknown' } : { kind: 'expired', floor };
          }),
        signal,
      ),

    since: (search, signal) =>
      faults.read(() => {
        if (search.steps < 3 && faults.saysMore()) return { ...search, steps: search.steps + 1 };
        const settled = outbox.events.filter(({ position }) => position <= search.head);
        const index = settled.findIndex(({ createdAt }) => createdAt >= search.time.getTime());
        return cursorOf((index < 0 ? settled.at(-1) : settled[index - 1]) ?? outbox.floor);
      }, signal),
  };
}

/** What they do where each read may fail, be late, and have what was there when it was asked or when it is answered. */
export function randomFaults(random: () => number): Faults {
  const later = (run: () => void) => setTimeout(run, random() * 5);
  return {
    read: (answer, signal) =>
      new Promise((resolve, reject) => {
        signal?.throwIfAborted();
        const early = random() < 0.5 ? { answer: answer() } : undefined;
        signal?.addEventListener('abort', () => reject(signal.reason as Error));
        later(() => {
          if (random() < 0.2) reject(new Error('the connection was lost'));
          else resolve(early ? early.answer : answer());
        });
      }),
    cut: (most) => (random() < 0.5 ? most : Math.min(most, 1 + Math.floor(random() * most))),
    saysMore: () => random() < 0.3,
    pass(wakeUp) {
      for (let times = Math.floor(random() * 3); times > 0; times -= 1) {
        if (random() < 0.5) wakeUp();
        else later(wakeUp);
      }
    },
  };
}

function cursorOf({ position, id }: Cursor): Cursor {
  return { position, id };
}

function batch(found: readonly FreshEvent[]): Batch {
  const pieces = found.map(({ id, position, frame }) => ({ id, position, bytes: frame.length }));
  return batchOf(Buffer.concat(found.map(({ frame }) => frame)), found.length, pieces.at(-1), () => pieces);
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
