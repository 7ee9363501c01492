/**
 * The budget: how large a page may be, whether it comes from the window or from history.
 *
 * A page that its client does not take waits on the socket, and there may be thousands that don't.
 * Each page is a share of what is left, the smaller the more pages wait: a lone reader gets large
 * pages and runs fast, a crowd of stalled ones gets small ones, and together they stay near the
 * limit (promise R5).
 *
 * An event that is larger than its page's share can't be cut. It waits for room of its own, first
 * come first served. One that is larger than the limit comes in when it is the only one and small
 * pages have left it room; or they have not, for too long.
 */

/** No page is smaller: below this the cost of a read outweighs that of its events. */
const SMALLEST_PAGE = 8 * 1024;
const LARGEST_PAGE = 512 * 1024;
/** Room is shared as if this many more pages waited, which leaves some for new readers. */
const SPARE_SHARES = 16;

/** Part of the limit for small pages while an event waits, and by which it may be exceeded. */
const SMALL_PART = 1 / 4;
/** Slowest pace of a client while others wait for room, in bytes a second. */
const SLOWEST_PACE = 256 * 1024;
/** Least time, in ms, that such a client has, and that an event waits for small pages. */
const PATIENCE_MS = 10_000;
/** A client that is dropped takes a moment to let go. */
const SHORTEST_PAUSE_MS = 100;

/** Room for an event: taken until it is released, or the page that was held with it is let go. */
export interface Room {
  /** The event is here, and counted as a page. */
  readonly handOver: () => void;
  readonly release: () => void;
}

export interface HoldOptions {
  /** What the page was admitted by. Its bytes are the page's from now on. */
  readonly room?: Room | undefined;
  /** Called when others have waited for too long: the client is to be dropped. */
  readonly onOverdue?: () => void;
}

export interface Budget {
  /** Size of the next page, in bytes. */
  pageBytes(): number;
  /** Counts what is being read; returns how it is given back. */
  reserve(bytes: number): () => void;
  /** Calls back once there is room for an event larger than its page. Returns a cancel function. */
  whenRoom(bytes: number, admitted: (room: Room) => void): () => void;
  /** Counts a page that waits on sockets, once for all, until each has called what it got. */
  hold(page: Buffer, options?: HoldOptions): () => void;
  /** Whether a page waits on a socket already, so that it costs nothing to send it to one more. */
  holds(page: Buffer): boolean;
  /** Whether so little waits that a page may be read before its client has taken the one before. */
  readonly isRoomy: boolean;
  /** Bytes that wait now. */
  readonly heldBytes: number;
}

/** A page that waits, and on whom. */
interface Held {
  readonly holders: Set<HoldOptions>;
  room: Room | undefined;
}

/** Who has room. */
interface Admitted {
  readonly room: Room;
  readonly since: number;
  readonly bytes: number;
}

/** Who waits for it. */
interface Waiting {
  readonly bytes: number;
  readonly since: number;
  readonly admitted: (room: Room) => void;
}

export function createBudget(limitBytes: number, { patienceMs = PATIENCE_MS } = {}): Budget {
  let held = 0;
  let reserved = 0;
  let reservations = 0;
  /** By the buffer: readers that share a read share it. */
  const pages = new Map<Buffer, Held>();
  const queue = new Set<Waiting>();
  const rooms = new Set<Admitted>();
  let patience: NodeJS.Timeout | undefined;

  function reserve(bytes: number): () => void {
    reserved += bytes;
    reservations += 1;
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      reserved -= bytes;
      reservations -= 1;
      admit();
    };
  }

  function dueOf({ since, bytes }: Admitted): number {
    return since + Math.max(patienceMs, (bytes / SLOWEST_PACE) * 1000);
  }

  function canEnter({ bytes, since }: Waiting): boolean {
    if (held + reserved + bytes <= limitBytes) return true;
    if (rooms.size > 0) return false;
    return held + reserved <= limitBytes * SMALL_PART || performance.now() - since >= patienceMs;
  }

  /** Lets in who waits, in order, as long as there is room. */
  function admit(): void {
    for (const next of queue) {
      if (!canEnter(next)) break;
      queue.delete(next);
      const handOver = reserve(next.bytes);
      const room: Room = {
        handOver,
        release() {
          rooms.delete(admitted);
          handOver();
          admit();
        },
      };
      const admitted = { room, since: performance.now(), bytes: next.bytes };
      rooms.add(admitted);
      next.admitted(room);
    }
    clearTimeout(patience);
    patience = undefined;
    const due = nextDue();
    if (due === undefined) return;
    patience = setTimeout(hurry, Math.max(SHORTEST_PAUSE_MS, due - performance.now()));
    patience.unref();
  }

  /** When who waits will have waited, or will have been kept waiting, for too long. */
  function nextDue(): number | undefined {
    const [next] = queue;
    if (next === undefined) return undefined;
    return rooms.size > 0 ? Math.min(...[...rooms].map(dueOf)) : next.since + patienceMs;
  }

  /** Sees to it that nobody who has room keeps it for ever while others wait. */
  function hurry(): void {
    const now = performance.now();
    for (const admitted of rooms) {
      if (dueOf(admitted) > now + 1) continue;
      // Its client may have come back to take it by the time that it has another turn.
      for (const page of pages.values()) {
        if (page.room === admitted.room) for (const { onOverdue } of [...page.holders]) onOverdue?.();
      }
    }
    admit();
  }

  return {
    pageBytes() {
      // Where an event waits for room, small pages leave it some.
      const limit = queue.size > 0 ? limitBytes * SMALL_PART : limitBytes;
      const share = Math.floor((limit - held - reserved) / (SPARE_SHARES + pages.size + reservations));
      return Math.max(SMALLEST_PAGE, Math.min(LARGEST_PAGE, share));
    },
    reserve,
    whenRoom(bytes, admitted) {
      const entry = { bytes, since: performance.now(), admitted };
      queue.add(entry);
      admit();
      return () => {
        if (queue.delete(entry)) admit();
      };
    },
    hold(page, options = {}) {
      let entry = pages.get(page);
      if (entry === undefined) {
        pages.set(page, (entry = { holders: new Set(), room: undefined }));
        held += page.length;
      }
      if (options.room && entry.room === undefined) {
        entry.room = options.room;
        options.room.handOver();
      } else if (options.room && entry.room !== options.room) {
        // Another reader was let in with the same event meanwhile: it is held once.
        options.room.release();
      }
      const { holders } = entry;
      const holder = { ...options };
      holders.add(holder);
      return () => {
        if (!holders.delete(holder) || holders.size > 0) return;
        const { room } = entry;
        pages.delete(page);
        held -= page.length;
        room?.release();
        admit();
      };
    },
    holds: (page) => pages.has(page),
    get isRoomy() {
      return held + reserved < limitBytes / 4;
    },
    get heldBytes() {
      return held;
    },
  };
}
