/**
 * Turns: how much all readers of the window together may do before the event loop goes on to
 * sockets, timers and probes.
 *
 * A resume looks at every event of the window, and a crowd of them would hold up all delivery for
 * seconds. So each reads a slice, keeps nothing of it but its position, and waits behind the others
 * for the next.
 */

/** Looks in one turn, each matching one event: 1 to 2 ms, by which a live event is delayed. */
export const LOOKS_PER_TURN = 4000;
/** Looks of one reader before the next has its turn. */
export const LOOKS_PER_SLICE = 1000;
/** Bytes that are copied into a page in the time of one look. */
const BYTES_PER_LOOK = 2048;
/**
 * Rounds of the event loop between two turns, where readers wait. In each round one new connection
 * is accepted, whatever its length: without them a crowd that walks the window would have all
 * others wait to be heard.
 */
const ROUNDS_BETWEEN = 16;
/** Looks that a read costs whatever it finds. */
const LOOKS_PER_READ = 10;

export interface Turns {
  /** How many events a reader may look at now; 0: it has to wait. */
  allowance(): number;
  /** Counts what was done. */
  spend(events: number, bytes: number): void;
  /** Calls back, in order, once something may be done. Returns a function that cancels. */
  wait(callback: () => void): () => void;
}

export function createTurns({ perTurn = LOOKS_PER_TURN, perSlice = LOOKS_PER_SLICE } = {}): Turns {
  const queue = new Set<() => void>();
  let left = perTurn;
  /** What the reader whose turn it is may still do. */
  let granted = 0;
  let isScheduled = false;

  function schedule(rounds = 0): void {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(pass, rounds);
  }

  function pass(rounds: number): void {
    if (rounds === 0) turn();
    else setImmediate(pass, rounds - 1);
  }

  function turn(): void {
    isScheduled = false;
    left = perTurn;
    for (const next of queue) {
      if (left <= 0) break;
      queue.delete(next);
      granted = Math.min(perSlice, left);
      next();
      granted = 0;
    }
    if (queue.size > 0) schedule(ROUNDS_BETWEEN);
  }

  return {
    allowance() {
      if (granted > 0 || queue.size > 0) return granted;
      return Math.max(0, Math.min(perSlice, left));
    },
    spend(events, bytes) {
      const looks = LOOKS_PER_READ + events + Math.ceil(bytes / BYTES_PER_LOOK);
      left -= looks;
      granted = Math.max(0, granted - looks);
      schedule();
    },
    wait(callback) {
      // Twice the same would be one.
      const entry = () => callback();
      queue.add(entry);
      schedule();
      return () => queue.delete(entry);
    },
  };
}

/** There is one event loop, and so many readers of any log share it. */
export const turns = createTurns();
