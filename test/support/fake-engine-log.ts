/**
 * An engine's log in memory, of which any number of feeders and relays have a handle. What it does beside keeping what it
 * accepted is for `EngineFaults` to choose, among all that its interface allows; what happens to it as a whole is for whoever
 * has it.
 */
import { createCodec, type Codec } from '../../src/engine/codec.js';
import type { Beat, EngineLog, FeederQuestions, LoggedEntry } from '../../src/engine/engine-log.js';
import { through, type Entry } from '../../src/engine/entry.js';

/** What an engine may do. */
export interface EngineFaults {
  /** Does it, now or later; fails it before that, or after that. */
  call<T>(work: () => T): Promise<T>;
  /** How many of the newest entries a replica has not got yet. */
  lag(): number;
  /** Calls with what goes out live: once, several times, later, or never. */
  pass(callback: () => void): void;
}

export interface FakeEngine {
  /** Opens one more connection to it. */
  open(): EngineLog;
  /** All that it has now. */
  readonly entries: readonly LoggedEntry[];
  /** How often an append was accepted. */
  readonly accepted: number;
  /** Bytes of the largest entry that was appended. */
  readonly largest: number;
  /** While it is away every call fails, and nothing goes out live. Coming back it tells whoever is connected. */
  isAway: boolean;
  /** Puts bytes at its end that no feeder has made. */
  inject(bytes: Uint8Array): void;
  /** Changes the bytes of an entry. */
  corrupt(sequence: bigint): void;
  /** Loses its newest entries, whose sequences are given out again. */
  truncate(count: number): void;
  /** Drops the oldest entries up to a sequence, as its retention does. */
  expire(through: bigint): void;
  /** Begins anew, with nothing in it. */
  cutAnew(): void;
}

interface Stored {
  readonly sequence: bigint;
  readonly bytes: Buffer;
}

interface Connection {
  readonly live: Set<(entry: LoggedEntry) => void>;
  readonly beats: Set<(beat: Beat) => void>;
  readonly connected: Set<() => void>;
}

/** Most entries of one read: few, so that most things take several. */
const PAGE_ENTRIES = 4;
/** How many entries that can't be read the end of the log may have, as of any engine. */
const MOST_UNREADABLE = 64;

/** @param takesAll appends are accepted whatever they expect, as no engine may: to see that it is found. */
export function createFakeEngine(
  faults: EngineFaults = noEngineFaults,
  codec: Codec = createCodec(),
  takesAll = false,
): FakeEngine {
  let stored: Stored[] = [];
  let last = 0n;
  let accepted = 0;
  let largest = 0;
  let isAway = false;
  let awaySince = new Date();
  const connections = new Set<Connection>();
  const answering = new Set<FeederQuestions>();
  const decoded = ({ sequence, bytes }: Stored): LoggedEntry => ({ sequence, entry: codec.decode(bytes) });

  function put(bytes: Buffer): bigint {
    last += 1n;
    const entry = { sequence: last, bytes };
    stored.push(entry);
    for (const connection of connections) {
      faults.pass(() => {
        if (!isAway && connections.has(connection)) for (const callback of connection.live) callback(decoded(entry));
      });
    }
    return last;
  }

  function drop(isDropped: (entry: Stored) => boolean): void {
    stored = stored.filter((entry) => !isDropped(entry));
  }

  function tip() {
    for (let unreadable = 0; unreadable <= MOST_UNREADABLE; unreadable += 1) {
      const newest = stored.at(-1 - unreadable);
      if (newest === undefined) return { sequence: last, entry: undefined, unreadable };
      const { entry } = decoded(newest);
      if (entry) return { sequence: last, entry, unreadable };
    }
    return { sequence: last, entry: undefined, unreadable: MOST_UNREADABLE };
  }

  function find(position: bigint): bigint {
    const epoch = tip().entry?.epoch;
    const leadsBeyond = ({ entry }: LoggedEntry) =>
      entry?.epoch === epoch && entry && through(entry).position > position;
    const index = stored.findIndex((entry) => leadsBeyond(decoded(entry)));
    return index < 0 ? last : (stored[index - 1]?.sequence ?? 0n);
  }

  function open(): EngineLog {
    const connection: Connection = { live: new Set(), beats: new Set(), connected: new Set() };
    connections.add(connection);
    const answers = new Set<FeederQuestions>();
    const call = <T>(work: () => T): Promise<T> =>
      faults.call(() => {
        if (isAway || !connections.has(connection)) throw new Error('no connection to the engine');
        return work();
      });
    const ask = async <T>(question: (feeder: FeederQuestions) => Promise<T>): Promise<T> => {
      const [feeder] = await call(() => [...answering]);
      if (feeder === undefined) throw new Error('no feeder answers');
      return question(feeder);
    };
    return {
      tip: () => call(tip),
      append: (entry: Entry, expecting) => {
        const bytes = codec.encode(entry);
        return call(() => {
          if (expecting !== last && !takesAll) return undefined;
          accepted += 1;
          largest = Math.max(largest, bytes.length);
          return put(bytes);
        });
      },
      read: (after) =>
        call(() => {
          const known = stored.slice(0, Math.max(0, stored.length - faults.lag()));
          return known
            .filter(({ sequence }) => sequence > after)
            .slice(0, PAGE_ENTRIES)
            .map(decoded);
        }),
      find: (position) => call(() => find(position)),
      erase: (sequences) => call(() => drop(({ sequence }) => sequences.includes(sequence))),
      purge: (end) => call(() => drop(({ sequence }) => sequence <= end)),
      live: (callback) => subscribe(connection.live, callback),
      beats: (callback) => subscribe(connection.beats, callback),
      beat: (beat) =>
        call(() => {
          for (const other of connections) {
            faults.pass(() => {
              if (!isAway && connections.has(other)) for (const callback of other.beats) callback(beat);
            });
          }
        }),
      feeders: {
        changesSince: (state, above) => ask((feeder) => feeder.changesSince(state, above)),
        isSameHistory: (read) => ask((feeder) => feeder.isSameHistory(read)),
      },
      answer(questions) {
        answering.add(questions);
        answers.add(questions);
        return () => void answering.delete(questions);
      },
      get trouble() {
        return isAway ? { error: new Error('no connection to the engine'), since: awaySince } : undefined;
      },
      onConnect: (callback) => subscribe(connection.connected, callback),
      close() {
        connections.delete(connection);
        for (const questions of answers) answering.delete(questions);
        return Promise.resolve();
      },
    };
  }

  return {
    open,
    get entries() {
      return stored.map(decoded);
    },
    get accepted() {
      return accepted;
    },
    get largest() {
      return largest;
    },
    get isAway() {
      return isAway;
    },
    set isAway(away) {
      const isBack = isAway && !away;
      isAway = away;
      awaySince = new Date();
      if (!isBack) return;
      for (const connection of connections) for (const callback of connection.connected) callback();
    },
    inject: (bytes) => void put(Buffer.from(bytes)),
    corrupt(sequence) {
      const bytes = stored.find((entry) => entry.sequence === sequence)?.bytes;
      // The last byte: of a frame, or of the end of the head.
      if (bytes) bytes.writeUInt8((bytes.at(-1) ?? 0) ^ 1, bytes.length - 1);
    },
    truncate(count) {
      stored = stored.slice(0, Math.max(0, stored.length - count));
      last = stored.at(-1)?.sequence ?? 0n;
    },
    expire: (end) => drop(({ sequence }) => sequence <= end),
    cutAnew() {
      stored = [];
      last = 0n;
    },
  };
}

function subscribe<T>(set: Set<T>, callback: T): () => void {
  set.add(callback);
  return () => void set.delete(callback);
}

/** Does all that it is told, at once. */
export const noEngineFaults: EngineFaults = {
  call: (work) => new Promise((resolve) => resolve(work())),
  lag: () => 0,
  pass: (callback) => callback(),
};

/** What it does where each call may fail, also after it was done, and nothing that goes out live can be relied on. */
export function randomEngineFaults(random: () => number): EngineFaults {
  const later = (run: () => void) => setTimeout(run, random() * 5);
  return {
    call: <T>(work: () => T) =>
      new Promise<T>((resolve, reject) => {
        const isEarly = random() < 0.5;
        const fails = random();
        const lost = new Error('the connection to the engine was lost');
        const run = () => {
          if (fails < 0.1) return reject(lost);
          const done = new Promise<T>((result) => result(work()));
          later(() => (fails < 0.2 ? reject(lost) : resolve(done)));
          done.catch(() => undefined);
        };
        if (isEarly) run();
        else later(run);
      }),
    lag: () => (random() < 0.3 ? Math.floor(random() * 4) : 0),
    pass(callback) {
      for (let times = Math.floor(random() * 3); times > 0; times -= 1) {
        if (random() < 0.5) callback();
        else later(callback);
      }
    },
  };
}
