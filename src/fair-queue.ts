/**
 * A fair queue for reads of the database: so many at a time, and each who reads has an equal share of their time.
 *
 * Whoever has taken the least time is next. So a client whose pages take a second each waits for those whose pages take a
 * millisecond, and not they for it. Who comes anew begins where the others are, with no claim for the time before.
 */
import { createHeap } from './heap.js';

/** Somebody for whom the database is read: a client that looks for its place, or is on its way to the head. */
export interface Flow {
  /** What its reads have taken, in milliseconds, or what they would have had it been here from the start. */
  spent: number;
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
    spent: 0,
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

/** @param places how much is done at a time. */
export function createFairQueue(places: number): FairQueue {
  interface Waiting {
    readonly begins: number;
    readonly ticket: number;
    readonly start: () => void;
  }
  const waiting = createHeap<Waiting>((a, b) => a.begins < b.begins || (a.begins === b.begins && a.ticket < b.ticket));
  let running = 0;
  let tickets = 0;
  /** Where the flow stands that began last. */
  let clock = 0;

  async function turn(begins: number): Promise<void> {
    if (running < places) running += 1;
    else await new Promise<void>((start) => waiting.push({ begins, ticket: (tickets += 1), start }));
  }

  /** Hands the place to the next, if there is one. */
  function done(): void {
    const next = waiting.pop();
    if (next) next.start();
    else running -= 1;
  }

  return {
    async run(flow, work) {
      flow.spent = Math.max(flow.spent, clock);
      await turn(flow.spent);
      clock = Math.max(clock, flow.spent);
      const began = performance.now();
      try {
        return await work();
      } finally {
        flow.spent += performance.now() - began;
        done();
      }
    },
    async runFirst(work) {
      await turn(-Infinity);
      try {
        return await work();
      } finally {
        done();
      }
    },
  };
}
