/** Top: the highest of many, without sorting them all. */

export interface Top<T> {
  add(rank: number, item: T): void;
  /** The highest, that first; of equals, those that came first. */
  list(): T[];
}

/** @param limit how many are kept: 1 or more. Room for twice as many is taken. */
export function createTop<T>(limit: number): Top<T> {
  const items: { readonly rank: number; readonly n: number; readonly item: T }[] = [];
  let least = -Infinity;
  let n = 0;

  function trim(): void {
    items.sort((a, b) => (a.rank === b.rank ? a.n - b.n : a.rank < b.rank ? 1 : -1));
    if (items.length < limit) return;
    items.length = limit;
    least = items[limit - 1]?.rank ?? least;
  }

  return {
    add(rank, item) {
      if (items.length >= limit && rank <= least) return;
      items.push({ rank, n: (n += 1), item });
      if (items.length >= 2 * limit) trim();
    },
    list() {
      trim();
      return items.map(({ item }) => item);
    },
  };
}
