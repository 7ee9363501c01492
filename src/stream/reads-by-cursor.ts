/**
 * Reads of one filter that have not ended, by the position after which they begin. Finding one
 * takes comparisons in proportion to the logarithm of their number: a crowd that comes back with as
 * many cursors has as many reads.
 */

export interface ReadsByCursor<Read> {
  readonly size: number;
  /** Adds a read. One that begins at the same position is not to be there. */
  add(read: Read): void;
  /** Harmless when it is not there. */
  remove(read: Read): void;
  /** The one that begins nearest at or before `after`. Those that it finds unusable are removed. */
  nearest(after: bigint): Read | undefined;
}

/** @param isUsable once false for a read, it stays so. */
export function createReadsByCursor<Read extends { readonly after: bigint }>(
  isUsable: (read: Read) => boolean,
): ReadsByCursor<Read> {
  /** Ascending. */
  const reads: Read[] = [];

  /** Index of the last that begins at or before `after`; -1 where all begin later. */
  function indexUpTo(after: bigint): number {
    let low = 0;
    let high = reads.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((reads[middle] as Read).after <= after) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  return {
    get size() {
      return reads.length;
    },
    add: (read) => reads.splice(indexUpTo(read.after) + 1, 0, read),
    remove(read) {
      const index = indexUpTo(read.after);
      if (reads[index] === read) reads.splice(index, 1);
    },
    nearest(after) {
      for (let index = indexUpTo(after); index >= 0; index -= 1) {
        const read = reads[index] as Read;
        if (isUsable(read)) return read;
        reads.splice(index, 1);
      }
      return undefined;
    },
  };
}
