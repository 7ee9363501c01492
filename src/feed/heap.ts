/**
 * A heap: gives back its least item first, at a cost that grows with the logarithm of their number.
 */

export interface Heap<T> {
  readonly size: number;
  push(item: T): void;
  /** Takes the least item out. */
  pop(): T | undefined;
}

/** @param isLess an order. Of equals either may come first. */
export function createHeap<T>(isLess: (a: T, b: T) => boolean): Heap<T> {
  const items: T[] = [];
  const isBelow = (a: number, b: number) => isLess(items[a] as T, items[b] as T);

  function swap(a: number, b: number): void {
    [items[a], items[b]] = [items[b] as T, items[a] as T];
  }

  return {
    get size() {
      return items.length;
    },
    push(item) {
      let at = items.push(item) - 1;
      for (let parent = (at - 1) >> 1; at > 0 && isBelow(at, parent); parent = (at - 1) >> 1) {
        swap(at, parent);
        at = parent;
      }
    },
    pop() {
      const [least] = items;
      const last = items.pop();
      if (items.length === 0 || last === undefined) return least;
      items[0] = last;
      for (let at = 0; ;) {
        const left = 2 * at + 1;
        if (left >= items.length) return least;
        const child = left + 1 < items.length && isBelow(left + 1, left) ? left + 1 : left;
        if (!isBelow(child, at)) return least;
        swap(at, child);
        at = child;
      }
    },
  };
}
