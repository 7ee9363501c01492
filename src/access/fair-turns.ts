/**
 * Turns: work of which only so much is done at a time, shared fairly among those who want it.
 *
 * Nobody may have more of it under way than is still free. So one alone gets half, two get a third
 * each, and whoever comes after them finds room at once, however much they want. Those that wait
 * are taken one from each in turn.
 */
export interface Turns {
  /**
   * Calls `start` when the turn has come, now or later, with what is to be called when the work is
   * over.
   *
   * @returns a function that gives up waiting; without effect once the turn has come.
   */
  wait(who: string, start: (over: () => void) => void): () => void;
}

type Start = (over: () => void) => void;

/** @param most is done at a time, by all together. */
export function createTurns(most: number): Turns {
  const underWay = new Map<string, number>();
  /** By who waits, in the order of their turns. */
  const waiting = new Map<string, Set<Start>>();
  let free = most;

  const has = (who: string) => underWay.get(who) ?? 0;

  function begin(who: string, start: Start): void {
    free -= 1;
    underWay.set(who, has(who) + 1);
    let isOver = false;
    start(() => {
      if (isOver) return;
      isOver = true;
      free += 1;
      const rest = has(who) - 1;
      if (rest > 0) underWay.set(who, rest);
      else underWay.delete(who);
      while (next());
    });
  }

  /** Begins the next. At most `most` are passed over: each of them has something under way. */
  function next(): boolean {
    for (const [who, starts] of waiting) {
      if (has(who) >= free) continue;
      const [start] = starts;
      waiting.delete(who);
      if (start === undefined) continue;
      starts.delete(start);
      if (starts.size > 0) waiting.set(who, starts);
      begin(who, start);
      return true;
    }
    return false;
  }

  return {
    wait(who, start) {
      const others = waiting.get(who);
      if (others === undefined && has(who) < free) {
        begin(who, start);
        return () => undefined;
      }
      const starts = others ?? new Set();
      starts.add(start);
      waiting.set(who, starts);
      return () => {
        starts.delete(start);
        if (starts.size === 0 && waiting.get(who) === starts) waiting.delete(who);
      };
    },
  };
}
