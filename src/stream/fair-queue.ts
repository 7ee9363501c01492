/**
 * A fair queue for reads of the database: so many at a time, and each who reads has an equal share
 * of their time.
 *
 * Whoever has taken the least time is next. So a client whose pages take a second each waits for
 * those whose pages take a millisecond, and not they for it. Who comes anew begins where the others
 * are, with no claim for the time before.
 */
import { createHeap } from '../feed/heap.js';
import { TICK_MS, type ReadLimit } from './read-limit.js';

/**
 * Most time by which a flow may be behind the others when it comes back: for so long it goes first.
 */
const MOST_CREDIT_MS = 1000;

/** A client for which the database is read, to find its cursor or to bring it to the head. */
export interface Flow {
  /** Time that its reads have taken, in ms, on the queue's clock. Undefined: it has made none. */
  spent: number | undefined;
  /** Whether it is still there. */
  readonly isWanted: () => boolean;
  /** Calls back when it leaves; returns how to undo that. */
  onLeave(callback: () => void): () => void;
  /** To be called when it leaves. */
  leave(): void;
}

export function createFlow(isWanted: () => boolean): Flow {
  const watchers = new Set<() => void>();
  return {
    spent: undefined,
    isWanted,
    onLeave(callback) {
      watchers.add(callback);
      return () => watchers.delete(callback);
    },
    leave() {
      for (const watcher of [...watchers]) watcher();
    },
  };
}

export interface FairQueue {
  /** Does the work when it is the flow's turn. @throws what the work throws. */
  run<T>(flow: Flow, work: () => Promise<T>): Promise<T>;
  /** Does the work next, for many flows at once. */
  runFirst<T>(work: () => Promise<T>): Promise<T>;
}

/** @param limit how much is done at a time. @param now in milliseconds. */
export function createFairQueue(limit: ReadLimit, now: () => number = () => performance.now()): FairQueue {
  interface Waiting {
    readonly begins: number;
    readonly ticket: number;
    readonly start: () => void;
  }
  const waiting = createHeap<Waiting>((a, b) => a.begins < b.begins || (a.begins === b.begins && a.ticket < b.ticket));
  let running = 0;
  let tickets = 0;
  /** What began last was ahead of its turn. */
  let wasFirst = false;
  /** Where the flow stands that began last. */
  let clock = 0;
  let isWatched = false;

  async function turn(begins: number): Promise<void> {
    watch();
    if (running < limit.allowed) running += 1;
    else await new Promise<void>((start) => waiting.push({ begins, ticket: (tickets += 1), start }));
  }

  function startNext(): void {
    while (running < limit.allowed) {
      const next = waiting.pop();
      if (next === undefined) return;
      running += 1;
      next.start();
    }
  }

  function done(): void {
    running -= 1;
    startNext();
  }

  /** Waits a turn where others wait: the flow that has ended a read may ask for the next. */
  function leave(): void {
    if (waiting.size > 0) setImmediate(done);
    else done();
  }

  /** Looks how late the event loop is, for as long as anything is under way. */
  function watch(): void {
    if (isWatched) return;
    isWatched = true;
    const due = performance.now() + TICK_MS;
    setTimeout(() => {
      isWatched = false;
      limit.observe(performance.now() - due);
      startNext();
      if (running > 0) watch();
    }, TICK_MS).unref();
  }

  return {
    async run(flow, work) {
      const begins = Math.max(flow.spent ?? clock, clock - MOST_CREDIT_MS);
      flow.spent = begins;
      await turn(begins);
      wasFirst = false;
      clock = Math.max(clock, begins);
      const began = now();
      try {
        return await work();
      } finally {
        flow.spent += now() - began;
        leave();
      }
    },
    async runFirst(work) {
      // Ahead of all others once, and after those whose turn it is where it was ahead just now.
      await turn(wasFirst ? clock : -Infinity);
      wasFirst = true;
      try {
        return await work();
      } finally {
        leave();
      }
    },
  };
}
