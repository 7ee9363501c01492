/**
 * The budget: how large a page may be, whether it comes from the window or from history.
 *
 * A page that its client does not take waits on the socket, and there may be thousands that don't. Each page is a share of
 * what is left, the smaller the more pages wait: a lone reader gets large pages and runs fast, a crowd of stalled ones gets
 * small ones, and together they stay near the limit (promise R5).
 */

/** No page is smaller: below this the cost of a read outweighs that of its events. */
const SMALLEST_PAGE = 8 * 1024;
const LARGEST_PAGE = 512 * 1024;
/** What is left is shared out as if so many more pages waited, which leaves room for those that are about to. */
const SPARE_SHARES = 16;

export interface Budget {
  /** Size of the next page, in bytes. */
  pageBytes(): number;
  /** Counts a page that waits on a socket, once however many wait for it, until each has called what it was returned. */
  hold(page: Buffer): () => void;
  /** Whether so little waits that a page may be read before its client has taken the one before. */
  readonly isRoomy: boolean;
  /** Bytes that wait now. */
  readonly heldBytes: number;
}

export function createBudget(limitBytes: number): Budget {
  let held = 0;
  /** How many sockets each page waits on: readers that share a read share its buffer. */
  const holders = new Map<Buffer, number>();
  return {
    pageBytes: () =>
      Math.max(SMALLEST_PAGE, Math.min(LARGEST_PAGE, Math.floor((limitBytes - held) / (SPARE_SHARES + holders.size)))),
    hold(page) {
      const others = holders.get(page) ?? 0;
      holders.set(page, others + 1);
      if (others === 0) held += page.length;
      let released = false;
      return () => {
        if (released) return;
        released = true;
        const left = (holders.get(page) ?? 0) - 1;
        if (left > 0) holders.set(page, left);
        else if (holders.delete(page)) held -= page.length;
      };
    },
    get isRoomy() {
      return held < limitBytes / 4;
    },
    get heldBytes() {
      return held;
    },
  };
}
