/**
 * History: what the window no longer holds, read from the table: events in pages, and where the
 * cursors of returning clients stand. A bounded number of reads at a time.
 *
 * Pages wait for their turn, of which all who read have an equal share, so that every replay moves
 * on. After an outage thousands are back at once, so reads are shared: whoever wants what a page
 * will probably hold waits for it, takes what follows their own cursor, and is from then on at one
 * place with the others. A page whose readers have all left is never read, and given up where it is
 * being read.
 */
import { LRUCache } from 'lru-cache';
import { NO_EVENTS } from '../outbox/frame-batch.js';
import type { Budget, Room } from './page-budget.js';
import type { EventFilter } from '../event/event-filter.js';
import type { FairQueue, Flow } from './fair-queue.js';
import type { Log } from '../feed/log.js';
import type { Cursor } from '../event/event.js';
import { createReadsByCursor, type ReadsByCursor } from './reads-by-cursor.js';
import { createLookups } from './cursor-lookups.js';
import type { Archive, ArchivePage, CursorLookup } from '../outbox/archive.js';

export interface HistoryPage {
  /** The matching frames, in order, without chunks; undefined where there are none. */
  readonly frames: Buffer | undefined;
  readonly events: number;
  /** Position up to which everything that matches is in `frames`. */
  readonly position: bigint;
  /** Id of the last event in `frames`. */
  readonly lastId: string | undefined;
  /**
   * Events after `after` have been deleted from the table, so nothing more can follow it exactly.
   */
  readonly expired: boolean;
  /** The memory that `frames` is part of, which others may share. */
  readonly buffer: Buffer;
}

export interface History {
  /**
   * The next page after `after` for `filter`, of at most `limit` events; see `Archive.page`.
   *
   * @throws what the archive throws.
   */
  read(filter: EventFilter, after: bigint, head: bigint, flow: Flow, limit?: number): Promise<HistoryPage>;
  /** Where the event of an id stands. @throws what the archive throws. */
  lookUpCursor(id: string, flow: Flow): Promise<CursorLookup>;
  /** Where a time stands; see `Lookups.since`. @throws what the archive throws. */
  since(time: Date, flow: Flow): Promise<Cursor>;
  /** Reads of pages, pages that others shared, events read, and look-ups of cursors and times. */
  readonly stats: {
    readonly reads: number;
    readonly shared: number;
    readonly events: number;
    readonly lookups: number;
  };
}

/** A read that has been asked for and has not ended. */
interface Asked {
  readonly epoch: number;
  readonly after: bigint;
  readonly limit: number | undefined;
  /** The log's when the table was asked; undefined until then. */
  changes: number | undefined;
  readonly readers: Readers;
}

interface Read extends Asked {
  readonly pageFor: Promise<PageFor>;
}

/** What one read brought, for everybody whose cursor is in it. */
type PageFor = (after: bigint) => HistoryPage;

/** Of how many filters it is kept how far their pages reach. */
const SPANS_KEPT = 1000;

export interface HistoryOptions {
  /** In which its reads wait for their turn. Histories of one database share it. */
  readonly queue: FairQueue;
  /**
   * What was read in one epoch is for nobody in the next, and what has been redacted or deleted
   * since it was read for nobody who comes after that. Default: there is but one, and nothing ever
   * is.
   */
  readonly log?: Pick<Log, 'head' | 'epoch' | 'changes' | 'isUnchanged'>;
}

const UNCHANGING: NonNullable<HistoryOptions['log']> = {
  head: { id: '', position: 0n },
  epoch: 0,
  changes: 0,
  isUnchanged: () => true,
};

export function createHistory(archive: Archive, budget: Budget, { queue, log = UNCHANGING }: HistoryOptions): History {
  /** By the filter's key. */
  const reads = new Map<string, ReadsByCursor<Read>>();
  /**
   * How many positions the latest page of a filter reached over: the next will reach about as far.
   */
  const spans = new LRUCache<string, bigint>({ max: SPANS_KEPT });
  const lookups = createLookups(archive, queue, () => log.head.position);
  const stats = {
    reads: 0,
    shared: 0,
    events: 0,
    get lookups() {
      return lookups.count;
    },
  };

  async function fetch(filter: EventFilter, asked: Asked, head: bigint, flow: Flow): Promise<PageFor> {
    const { after, limit, readers } = asked;
    const nothing: ArchivePage = { events: NO_EVENTS, position: after, floor: 0n, needs: undefined };
    const read = (bytes?: number) =>
      queue.run(flow, async () => {
        if (!readers.areWaiting()) return nothing;
        stats.reads += 1;
        asked.changes = log.changes;
        // Settled now and not when the page was asked for: a thousand that queue would all have
        // found room.
        const most = bytes ?? budget.pageBytes();
        const giveBack = bytes === undefined ? budget.reserve(most) : undefined;
        try {
          return await archive.page(filter, after, head, most, readers.signal, limit);
        } catch (error) {
          if (readers.signal.aborted) return nothing;
          throw error;
        } finally {
          giveBack?.();
        }
      });

    let page = await read();
    let room: Room | undefined;
    try {
      // What has been changed meanwhile may need more.
      while (page.needs !== undefined) {
        const needs = page.needs;
        room?.release();
        room = await roomFor(needs, readers);
        page = room === undefined ? nothing : await read(needs);
      }
    } catch (error) {
      room?.release();
      throw error;
    }
    stats.events += page.events.length;
    spans.set(filter.key, page.position - after);
    if (room) {
      // Until those who share it have written it, and hold it themselves if it waits.
      if (page.events.length > 0 && readers.areWaiting()) setImmediate(budget.hold(page.events.frames, { room }));
      else room.release();
    }
    return pageForEach(page);
  }

  /** Undefined where all readers have left. */
  async function roomFor(bytes: number, readers: Readers): Promise<Room | undefined> {
    return new Promise((resolve) => {
      if (!readers.areWaiting()) return resolve(undefined);
      const cancel = budget.whenRoom(bytes, resolve);
      readers.signal.addEventListener('abort', () => {
        cancel();
        resolve(undefined);
      });
    });
  }

  function begin(filter: EventFilter, after: bigint, head: bigint, flow: Flow, limit?: number): Read {
    const readers = createReaders();
    readers.add(flow);
    const asked: Asked = { epoch: log.epoch, after, limit, changes: undefined, readers };
    const pageFor = fetch(filter, asked, head, flow).finally(() => {
      siblings.remove(read);
      if (siblings.size === 0 && reads.get(filter.key) === siblings) reads.delete(filter.key);
      readers.dismiss();
    });
    const read: Read = Object.assign(asked, { pageFor });
    const siblings = reads.get(filter.key) ?? createReadsByCursor(isUsable);
    siblings.add(read);
    reads.set(filter.key, siblings);
    return read;
  }

  /**
   * Whether readers may join it: not what was redacted since, nor what nobody waits for any more.
   */
  function isUsable({ epoch, after, changes, readers }: Read): boolean {
    if (epoch !== log.epoch || readers.signal.aborted) return false;
    return changes === undefined || log.isUnchanged(after, changes);
  }

  /** The read that begins nearest before `after`, if its page will probably reach it. */
  function nearest(filter: EventFilter, after: bigint): Read | undefined {
    const best = reads.get(filter.key)?.nearest(after);
    if (best === undefined || best.after === after) return best;
    const span = spans.get(filter.key);
    return span === undefined || after - best.after < span ? best : undefined;
  }

  return {
    async read(wanted, after, head, flow, limit) {
      // Who wants few of them shares no page with others.
      const filter = limit === undefined ? wanted : { ...wanted, key: `${wanted.key} ${limit}` };
      for (let read = nearest(filter, after); read; read = nearest(filter, after)) {
        // Its page ends at a head that was committed when it was asked for, which is as good as
        // ours.
        read.readers.add(flow);
        const page = (await read.pageFor)(after);
        // One that ends before us has nothing to tell us.
        if (page.position > after || page.expired || !flow.isWanted()) {
          stats.shared += 1;
          return page;
        }
      }
      return (await begin(filter, after, head, flow, limit).pageFor)(after);
    },

    lookUpCursor: lookups.lookUpCursor,
    since: lookups.since,

    stats,
  };
}

function pageForEach({ events, position, floor }: ArchivePage): PageFor {
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

/** All who wait for one read. */
interface Readers {
  add(flow: Flow): void;
  /** Whether one of them is still there. */
  areWaiting(): boolean;
  /** Fires when none is. */
  readonly signal: AbortSignal;
  /** They have been served. */
  dismiss(): void;
}

function createReaders(): Readers {
  const leaving = new AbortController();
  const flows: Flow[] = [];
  const undos: (() => void)[] = [];

  /** Drops those who have left from the end, so that a crowd that leaves is walked once. */
  function areWaiting(): boolean {
    for (let last = flows.at(-1); last; last = flows.at(-1)) {
      if (last.isWanted()) return true;
      flows.pop();
    }
    return false;
  }

  return {
    add(flow) {
      flows.push(flow);
      undos.push(
        flow.onLeave(() => {
          if (!areWaiting()) leaving.abort();
        }),
      );
    },
    areWaiting,
    signal: leaving.signal,
    dismiss() {
      for (const undo of undos) undo();
    },
  };
}
