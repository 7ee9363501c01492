/**
 * A histogram of durations: so many counters, whatever the number of durations, each of which is known to 3 %.
 */

/** Counters for each doubling. */
const STEPS = 32;
const STEP_BITS = 5;
const COUNTERS = (32 - STEP_BITS + 1) * STEPS;

export interface Histogram {
  /** @param microseconds up to an hour; what is longer counts as that, and what is negative as nothing. */
  add(microseconds: number): void;
  /** The duration, in milliseconds, that so large a part of them does not exceed; 0 where there are none. */
  percentile(part: number): number;
  clear(): void;
}

export function createHistogram(): Histogram {
  const counts = new Float64Array(COUNTERS);
  let total = 0;
  let most = 0;

  return {
    add(microseconds) {
      const value = Math.min(0xffffffff, Math.max(0, Math.round(microseconds)));
      const shift = Math.max(0, 31 - STEP_BITS - Math.clz32(value));
      const index = shift * STEPS + Math.floor(value / 2 ** shift);
      counts[index] = (counts[index] ?? 0) + 1;
      total += 1;
      if (value > most) most = value;
    },
    percentile(part) {
      let left = Math.ceil(total * part);
      for (let index = 0; index < COUNTERS; index += 1) {
        left -= counts[index] ?? 0;
        if (left > 0 || total === 0) continue;
        const shift = Math.max(0, Math.floor(index / STEPS) - 1);
        return Math.min(most, (index - shift * STEPS + 1) * 2 ** shift - 1) / 1000;
      }
      return 0;
    },
    clear() {
      counts.fill(0);
      total = 0;
      most = 0;
    },
  };
}
