/**
 * The feeder: what stands between a tail, which reads PostgreSQL, and the engine's log. It gives the
 * tail a head, the newest position in the log, and appends what the tail has read after it, each
 * entry where the one that it follows is still the newest. So what several feeders append at a time,
 * and whenever they die, is one row of runs without a hole: what follows a settled position is the
 * same, whoever reads it, and is accepted once.
 *
 * What the tail has read is dropped with the tip that it follows (feeder-tip.ts has its states), once
 * it is old, and where another PostgreSQL answers than it was read from. After an `evict` nothing that
 * was read before it is appended, by any feeder: each expects an older entry to be the newest.
 */
import type { Logger } from 'pino';
import type { FreshEvent } from '../event/event.js';
import type { TailLog } from '../feed/tail-log.js';
import type { FeedReader, NewEvents } from '../outbox/feed.js';
import type { Answerer, EngineLog } from './engine-log.js';
import { eraseChanged, newestGone } from './erasure.js';
import { createFeederTip, type FeederTip, type TipTotals } from './feeder-tip.js';
import { createFencing, type Fence } from './fence.js';
import { runsOf } from './runs.js';

export interface Feeder {
  /** What the tail reads from. */
  readonly feed: FeedReader;
  /** What it appends to. */
  readonly log: TailLog;
  /** Position and sequence through which the log is fed, as far as is known. */
  readonly fedThrough: FeederTip['fedThrough'];
  /** What PostgreSQL said last of itself. */
  readonly answerer: Answerer | undefined;
  readonly fence: Fence | undefined;
  readonly totals: Readonly<FeederTotals>;
  /** The tip is not known any more, as after a new connection to the engine. */
  forget(): void;
  /** Asks the database who it is. @throws what the database throws. */
  readAnswerer(): Promise<Answerer>;
}

export interface FeederTotals extends TipTotals {
  events: number;
  /** Entries that were erased, for what was redacted or deleted. */
  erased: number;
}

export interface FeederParts {
  readonly feed: FeedReader;
  /** Asked on the same connection as `feed`. */
  readonly readAnswerer: () => Promise<Answerer>;
  readonly engine: EngineLog;
  readonly logger: Logger;
  /** The log ends before what was appended to it: the tail has to read from there. */
  readonly onLost: () => void;
}

/** What was read so long ago is not appended: the process was stopped meanwhile. */
const PAGE_KEPT_MS = 5000;

export function createFeeder({ feed, readAnswerer: ask, engine, logger, onLost }: FeederParts): Feeder {
  const totals: FeederTotals = { events: 0, entries: 0, refused: 0, unreadable: 0, erased: 0 };
  const fencing = createFencing(feed, logger);
  const tip = createFeederTip({ feed, readAnswerer, engine, fencing, totals, logger, onLost });
  let answerer: Answerer | undefined;
  /** When the page was read that the tail has, and from whom. */
  let readAt = 0;
  let pageFrom: Answerer | undefined;
  /** See `Origin.state`: that of the answer which the tail is dealing with. */
  let stateAsked: string | undefined;
  let floorHandled = 0n;

  async function readAnswerer(): Promise<Answerer> {
    answerer = await ask();
    return answerer;
  }

  /** Appends an evict, after whatever others append meanwhile. */
  async function evict(redacted: readonly bigint[], redactedThrough: bigint): Promise<void> {
    do await tip.ready();
    while (!(await tip.evict(redacted, redactedThrough, await readAnswerer())));
  }

  return {
    totals,
    readAnswerer,
    forget: tip.forget,
    get fedThrough() {
      return tip.fedThrough;
    },
    get answerer() {
      return answerer;
    },
    get fence() {
      return fencing.fence;
    },

    feed: {
      ...feed,
      async readNew(after): Promise<NewEvents> {
        const page = await feed.readNew(after);
        readAt = performance.now();
        tip.floor = page.floor;
        if (page.events.length === 0) return page;
        const now = await readAnswerer();
        pageFrom = now;
        if (!tip.mayBeOf(now)) {
          tip.forget();
          throw new Error('another PostgreSQL answers than the one that the stream was found to follow from');
        }
        return page;
      },
      // The tail knows when the last event that it has read was inserted; others may have fed since.
      isSameHistory: () => feed.isSameHistory({ ...tip.at, createdAt: tip.createdAt }),
      async changesSince(since, above) {
        const changes = await feed.changesSince(since ?? tip.state, above);
        stateAsked = changes.state;
        tip.floor = changes.floor;
        return changes;
      },
    },

    log: {
      get head() {
        return tip.at;
      },
      // Of all that is in the log it has to be known what was redacted.
      floor: 0n,
      ready: tip.ready,

      async append(events: readonly FreshEvent[]) {
        if (events.length === 0) return true;
        // It may have been redacted since.
        if (pageFrom === undefined || performance.now() - readAt > PAGE_KEPT_MS) return false;
        for (const run of runsOf(tip.fedThrough.position, events)) {
          if (!(await tip.run(run, pageFrom))) return false;
          totals.events += run.events.length;
        }
        return true;
      },

      async restart(start, reason) {
        await tip.ready();
        // Others may have seen to it.
        const isDone =
          reason === 'expired'
            ? tip.at.position >= start.position
            : await feed.isSameHistory({ ...tip.at, createdAt: tip.createdAt });
        if (!isDone) await tip.restart(start, reason, await readAnswerer());
      },

      async redact(redacted, redactedThrough) {
        await tip.ready();
        const inLog = await newestGone(engine, redacted, redactedThrough);
        if (inLog.redacted.length === 0 && inLog.redactedThrough === 0n) return;
        await evict(inLog.redacted, inLog.redactedThrough);
        totals.erased += await eraseChanged(engine, inLog, tip.fedThrough.sequence);
      },

      async evictThrough(deleted) {
        if (deleted > floorHandled) {
          const inLog = await newestGone(engine, [], deleted);
          if (inLog.redactedThrough > 0n) {
            await evict([], 0n);
            totals.erased += await eraseChanged(engine, inLog, tip.fedThrough.sequence);
          }
          floorHandled = deleted;
        }
        tip.state = stateAsked ?? tip.state;
      },
    },
  };
}
