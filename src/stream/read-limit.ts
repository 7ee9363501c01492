/**
 * How many reads of the database are under way at a time: fewer while the event loop is late.
 *
 * A late event loop can't take what more reads bring. And where relay and database share a machine,
 * reads of history take the CPU that live events need: four of them on two cores delay each commit,
 * each live read and each write.
 */

/** The event loop is late when a timer of `TICK_MS` fires so much late. */
const LATE_MS = 8;
/** How often it is looked at while reads are under way. */
export const TICK_MS = 10;
/** Ticks in time after which one more read is allowed. */
const TICKS_PER_RAISE = 20;

export interface ReadLimit {
  /** Most reads at a time; at least 1. */
  readonly allowed: number;
  /** Counts a tick that came so many milliseconds late. */
  observe(lateMs: number): void;
}

/** @param most reads at a time, while the event loop is in time. */
export function createReadLimit(most: number): ReadLimit {
  let allowed = most;
  return {
    get allowed() {
      return Math.floor(allowed);
    },
    observe(lateMs) {
      allowed = lateMs > LATE_MS ? Math.max(1, allowed / 2) : Math.min(most, allowed + 1 / TICKS_PER_RAISE);
    },
  };
}
