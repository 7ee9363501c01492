/**
 * Deadlines of all streams: when a right or a stream's longest life ends. One timer serves them, in
 * sets by the second.
 */

export interface Deadlines<T> {
  /** @param at in ms since 1970; `Infinity` is never. */
  add(item: T, at: number): void;
  /** @param at as it was added. */
  remove(item: T, at: number): void;
  stop(): void;
}

/**
 * How often the timer fires. A deadline is met late by this and the rest of its second, at most.
 */
const TICK_MS = 250;

/** @param onDue called once for each item whose deadline has passed. */
export function startDeadlines<T>(onDue: (item: T) => void): Deadlines<T> {
  const bySecond = new Map<number, Set<T>>();
  const secondOf = (at: number) => Math.ceil(at / 1000);
  let earliest = Infinity;

  const timer = setInterval(() => {
    const now = Date.now() / 1000;
    if (earliest > now) return;
    earliest = Infinity;
    for (const [second, items] of bySecond) {
      if (second <= now) {
        bySecond.delete(second);
        for (const item of items) onDue(item);
      } else {
        earliest = Math.min(earliest, second);
      }
    }
  }, TICK_MS);
  // Without a server there is nothing to end: a relay that can't listen is not kept alive by this.
  timer.unref();

  return {
    add(item, at) {
      if (at === Infinity) return;
      const second = secondOf(at);
      earliest = Math.min(earliest, second);
      const items = bySecond.get(second);
      if (items) items.add(item);
      else bySecond.set(second, new Set([item]));
    },
    remove(item, at) {
      const second = secondOf(at);
      const items = bySecond.get(second);
      if (items?.delete(item) && items.size === 0) bySecond.delete(second);
    },
    stop: () => clearInterval(timer),
  };
}
