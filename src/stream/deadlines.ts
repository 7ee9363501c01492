/**
 * Ends what has its time: one timer for the deadlines of all streams, which lie in sets by the second.
 */

export interface Expiry<T> {
  /** @param at in milliseconds since 1970; `Infinity` is never. */
  add(item: T, at: number): void;
  remove(item: T, at: number): void;
  stop(): void;
}

/** How often it looks, in milliseconds. With the rest of its second, a deadline is met so much late. */
const TICK = 250;

export function startExpiry<T>(onExpired: (item: T) => void): Expiry<T> {
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
        for (const item of items) onExpired(item);
      } else {
        earliest = Math.min(earliest, second);
      }
    }
  }, TICK);

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
