/**
 * History: what the window no longer holds, read from the table: events in pages, and where the cursors of returning
 * clients stand. A bounded number of reads at a time.
 *
 * Pages wait their turn, first come, first served, so every replay moves on at the same pace and none starves. After an
 * outage thousands are back at once, so reads are shared: whoever wants what a page will probably hold waits for it, takes
 * what follows their own cursor, and is from then on at one place with the others. Cursors are looked up together, those
 * that arrive while a look-up is under way in the next. A page whose readers have all left is never read.
 */
import { LRUCache } from 'lru-cache';
import { NO_EVENTS } from './batch.js';
import type { Budget } from './budget.js';
import type { Interest } from './channels.js';
import type { Place, Source, TablePage } from './outbox.js';

export interface HistoryPage {
  /** The matching frames, in order, without chunks; undefined where there are none. */
  readonly frames: Buffer | undefined;
  readonly events: number;
  /** Position up to which everything that matches is in `frames`. */
  readonly position: bigint;
  /** Id of the last event in `frames`. */
  readonly lastId: string | undefined;
  /** Events after `after` have been deleted from the table, so nothing more can follow it exactly. */
  readonly expired: boolean;
  /** The memory that `frames` is part of, which others may share. */
  readonly buffer: Buffer;
}

export interface History {
  /**
   * The next page after `after` for `interest`; see `Source.page`.
   *
   * @param isWanted whether the reader is still there; asked when the read's turn comes.
   * @throws what the source throws.
   */
  read(interest: Interest, after: bigint, head: bigint, isWanted: () => boolean): Promise<HistoryPage>;
  /** Where the event of an id stands. @throws what the source throws. */
  placeOf(id: string): Promise<Place>;
  /** Reads of pages, pages that others shared, events read, and look-ups of cursors. */
  readonly stats: {
    readonly reads: number;
    readonly shared: number;
    readonly events: number;
    readonly lookups: number;
  };
}

/** A read that has been asked for and has not ended. */
interface Read {
  readonly era: number;
  readonly after: bigint;
  readonly pageFor: Promise<PageFor>;
  readonly wantedBy: (() => boolean)[];
}

/** What one read brought, for everybody whose cursor is in it. */
type PageFor = (after: bigint) => HistoryPage;

/** Most cursors in one look-up. */
const MOST_LOOKED_UP = 1000;
/** Of how many interests it is kept how far their pages reach. */
const SPANS_KEPT = 1000;

export interface HistoryOptions {
  /** Most reads of pages at a time. */
  readonly connections: number;
  /** The log's: what was read in one is for nobody in the next. Default: there is but one. */
  readonly era?: () => number;
}

export function createHistory(source: Source, budget: Budget, { connections, era = () => 0 }: HistoryOptions): History {
  /** By the interest's key. */
  const reads = new Map<string, Set<Read>>();
  /** How many positions the latest page of an interest reached over: the next will reach about as far. */
  const spans = new LRUCache<string, bigint>({ max: SPANS_KEPT });
  const queue: (() => void)[] = [];
  let running = 0;
  const lookups = new Map<string, Lookup>();
  let isLookingUp = false;
  const stats = { reads: 0, shared: 0, events: 0, lookups: 0 };

  async function turn(): Promise<void> {
    if (running >= connections) await new Promise<void>((resolve) => queue.push(resolve));
    else running += 1;
  }

  /** Hands the place to the next in the queue, if there is one. */
  function done(): void {
    const next = queue.shift();
    if (next) next();
    else running -= 1;
  }

  async function fetch(interest: Interest, after: bigint, head: bigint, wantedBy: Read['wantedBy']): Promise<PageFor> {
    await turn();
    try {
      if (!wantedBy.some((isWanted) => isWanted()))
        return pageForEach({ events: NO_EVENTS, position: after, floor: 0n });
      stats.reads += 1;
      // The size is settled now and not when the page was asked for: a thousand that queue would all have found room.
      const page = await source.page(interest, after, head, budget.pageBytes());
      stats.events += page.events.length;
      spans.set(interest.key, page.position - after);
      return pageForEach(page);
    } finally {
      done();
    }
  }

  function begin(interest: Interest, after: bigint, head: bigint): Read {
    const wantedBy: Read['wantedBy'] = [];
    const pageFor = fetch(interest, after, head, wantedBy).finally(() => {
      siblings.delete(read);
      if (siblings.size === 0) reads.delete(interest.key);
    });
    const read: Read = { era: era(), after, pageFor, wantedBy };
    const siblings = reads.get(interest.key) ?? new Set();
    reads.set(interest.key, siblings.add(read));
    return read;
  }

  /** A read that will probably hold what follows `after`: the one that begins nearest before it, if that is near enough. */
  function nearest(interest: Interest, after: bigint): Read | undefined {
    let best: Read | undefined;
    for (const read of reads.get(interest.key) ?? []) {
      if (read.era === era() && read.after <= after && (best === undefined || read.after > best.after)) best = read;
    }
    if (best === undefined || best.after === after) return best;
    const span = spans.get(interest.key);
    return span === undefined || after - best.after < span ? best : undefined;
  }

  async function lookUp(): Promise<void> {
    isLookingUp = true;
    while (lookups.size > 0) {
      const batch = [...lookups].slice(0, MOST_LOOKED_UP);
      for (const [id] of batch) lookups.delete(id);
      stats.lookups += 1;
      try {
        const places = await source.placesOf(batch.map(([id]) => id));
        batch.forEach(([, { resolve }], index) => resolve(places[index] ?? 'unknown'));
      } catch (error) {
        for (const [, { reject }] of batch) reject(error);
      }
    }
    isLookingUp = false;
  }

  return {
    async read(interest, after, head, isWanted) {
      for (let read = nearest(interest, after); read; read = nearest(interest, after)) {
        // Its page ends at a head that was committed when it was asked for, which is as good as ours.
        read.wantedBy.push(isWanted);
        const page = (await read.pageFor)(after);
        // One that ends before us has nothing to tell us.
        if (page.position > after || page.expired || !isWanted()) {
          stats.shared += 1;
          return page;
        }
      }
      const own = begin(interest, after, head);
      own.wantedBy.push(isWanted);
      return (await own.pageFor)(after);
    },

    placeOf(id) {
      let lookup = lookups.get(id);
      if (lookup === undefined) lookups.set(id, (lookup = createLookup()));
      // A turn later: those who come back together arrive in one.
      if (!isLookingUp) {
        isLookingUp = true;
        setImmediate(() => void lookUp());
      }
      return lookup.promise;
    },

    stats,
  };
}

function pageForEach({ events, position, floor }: TablePage): PageFor {
  return (after) => {
    const { frames, length } = events.after(after);
    return {
      frames: length === 0 ? undefined : frames,
      events: length,
      position: position > after ? position : after,
      lastId: length === 0 ? undefined : events.last?.id,
      expired: floor > after,
      buffer: events.frames,
    };
  };
}

/** A cursor that somebody wants looked up. */
interface Lookup {
  readonly promise: Promise<Place>;
  readonly resolve: (place: Place) => void;
  readonly reject: (error: unknown) => void;
}

function createLookup(): Lookup {
  let resolve: Lookup['resolve'] = () => undefined;
  let reject: Lookup['reject'] = () => undefined;
  const promise = new Promise<Place>((resolved, rejected) => {
    resolve = resolved;
    reject = rejected;
  });
  return { promise, resolve, reject };
}
