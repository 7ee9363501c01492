/**
 * Look-ups: where the cursors and times stand that returning clients bring. Each is looked up once
 * for all who want it, and not at all where they have left.
 *
 * Cursors are looked up together: those that arrive while a look-up is under way in the next.
 */
import type { FairQueue, Flow } from './fair-queue.js';
import type { Cursor } from '../event/event.js';
import type { Archive, CursorLookup } from '../outbox/archive.js';
import { searchSince } from '../outbox/since.js';

/** Cursors in one look-up, at most. */
const MOST_LOOKED_UP = 1000;
/** For those who have left, and look at no answer. */
const NOWHERE: Cursor = { id: '0', position: 0n };
const UNKNOWN: CursorLookup = { kind: 'unknown' };

export interface Lookups {
  /** Where the event of an id stands. @throws what the archive throws. */
  lookUpCursor(id: string, flow: Flow): Promise<CursorLookup>;
  /**
   * The cursor before the first event, in their order, that was created at `time` or later; that of
   * the newest that has been read where there is none.
   *
   * @throws what the archive throws.
   */
  since(time: Date, flow: Flow): Promise<Cursor>;
  /** How many were made. */
  readonly count: number;
}

/** @param head what has been read of the feed. */
export function createLookups(archive: Archive, queue: FairQueue, head: () => bigint): Lookups {
  const cursors = new Map<string, Lookup<CursorLookup>>();
  const times = new Map<string, Lookup<Cursor>>();
  let isLookingUp = false;
  let count = 0;

  async function lookUp(): Promise<void> {
    isLookingUp = true;
    while (cursors.size > 0) {
      try {
        await queue.runFirst(lookUpNext);
      } catch {
        // Those who wanted to know have been told.
      }
    }
    isLookingUp = false;
  }

  async function lookUpNext(): Promise<void> {
    const batch: [string, Lookup<CursorLookup>][] = [];
    for (const [id, lookup] of cursors) {
      if (batch.length === MOST_LOOKED_UP) break;
      cursors.delete(id);
      if (lookup.isWanted()) batch.push([id, lookup]);
      else lookup.resolve(UNKNOWN);
    }
    if (batch.length === 0) return;
    count += 1;
    const leaving = new AbortController();
    const cancel = () => {
      if (!batch.some(([, { isWanted }]) => isWanted())) leaving.abort();
    };
    for (const [, lookup] of batch) lookup.onAllLeft = cancel;
    try {
      const found = await archive.lookUpCursors(
        batch.map(([id]) => id),
        leaving.signal,
      );
      batch.forEach(([, { resolve }], index) => resolve(found[index] ?? UNKNOWN));
    } catch (error) {
      for (const [, { reject }] of batch) reject(error);
      throw error;
    }
  }

  /** A step at a time, each when it is the turn of whoever asked first. */
  async function search(time: Date, flow: Flow, lookup: Lookup<Cursor>): Promise<void> {
    const leaving = new AbortController();
    lookup.onAllLeft = () => leaving.abort();
    count += 1;
    for (let at = searchSince(time, head()); ;) {
      const found = await queue.run(flow, () =>
        lookup.isWanted() ? archive.since(at, leaving.signal) : Promise.resolve(NOWHERE),
      );
      if (!('steps' in found)) return lookup.resolve(found);
      at = found;
    }
  }

  return {
    lookUpCursor(id, flow) {
      let lookup = cursors.get(id);
      if (lookup === undefined) cursors.set(id, (lookup = createLookup()));
      // A turn later: those who come back together arrive in one.
      if (!isLookingUp) {
        isLookingUp = true;
        setImmediate(() => void lookUp());
      }
      return lookup.join(flow);
    },

    since(time, flow) {
      const key = time.toISOString();
      let lookup = times.get(key);
      // What all have left is about to end without an answer.
      if (!lookup?.isWanted()) {
        const begun = (lookup = createLookup<Cursor>());
        times.set(key, begun);
        const answer = begun.join(flow);
        void search(time, flow, begun)
          .catch(begun.reject)
          .finally(() => {
            if (times.get(key) === begun) times.delete(key);
          });
        return answer;
      }
      return lookup.join(flow);
    },

    get count() {
      return count;
    },
  };
}

/** What one or several want to know. */
interface Lookup<T> {
  /** Whether one of them is still there. */
  isWanted(): boolean;
  /** Called when none is any more. */
  onAllLeft: () => void;
  join(flow: Flow): Promise<T>;
  resolve(answer: T): void;
  reject(error: unknown): void;
}

function createLookup<T>(): Lookup<T> {
  const flows = new Set<Flow>();
  let resolve: Lookup<T>['resolve'] = () => undefined;
  let reject: Lookup<T>['reject'] = () => undefined;
  const answer = new Promise<T>((resolved, rejected) => {
    resolve = resolved;
    reject = rejected;
  });
  const lookup: Lookup<T> = {
    onAllLeft: () => undefined,
    isWanted: () => flows.size > 0,
    async join(flow) {
      flows.add(flow);
      const undo = flow.onLeave(() => {
        if (flows.delete(flow) && flows.size === 0) lookup.onAllLeft();
      });
      return answer.finally(undo);
    },
    resolve,
    reject,
  };
  return lookup;
}
