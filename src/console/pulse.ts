/**
 * Pulse: how many events there were, and how long they were on their way. Times are taken while
 * somebody looks, and for a few seconds after.
 */
import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks';

export interface Pulse {
  /**
   * @param events with when their rows were inserted, in ms since 1970, by the database's clock.
   */
  delivered(events: readonly { readonly createdAt: number }[]): void;
  readonly events: number;
  /** What was measured in the last second. Somebody looks. */
  take(): { readonly latenciesMs: readonly number[]; readonly eventLoopDelayMs: number | null };
  stop(): void;
}

/** Times that are kept, and how many of them are told. */
const SAMPLES = 512;
const TOLD = 100;
/** How far back what is told goes. */
const SPAN_MS = 1000;
/** Time after which nobody looks any more. */
const WATCHED_MS = 5000;
/** How often the event loop is looked at; it is not late by as much. */
const RESOLUTION_MS = 10;

export function createPulse(): Pulse {
  let events = 0;
  let samples: { at: number; latencyMs: number }[] = [];
  let next = 0;
  let loop: IntervalHistogram | undefined;
  let unwatched: NodeJS.Timeout | undefined;

  function stop(): void {
    clearTimeout(unwatched);
    loop?.disable();
    loop = undefined;
    samples = [];
    next = 0;
  }

  return {
    delivered(fresh) {
      events += fresh.length;
      if (loop === undefined) return;
      const at = Date.now();
      for (const { createdAt } of fresh.slice(-SAMPLES)) {
        if (!Number.isFinite(createdAt)) continue;
        samples[next] = { at, latencyMs: Math.max(0, at - createdAt) };
        next = (next + 1) % SAMPLES;
      }
    },
    get events() {
      return events;
    },
    take() {
      clearTimeout(unwatched);
      unwatched = setTimeout(stop, WATCHED_MS).unref();
      if (loop === undefined) {
        loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
        loop.enable();
        return { latenciesMs: [], eventLoopDelayMs: null };
      }
      const delayMs = loop.count === 0 ? null : Math.max(0, loop.percentile(99) / 1e6 - RESOLUTION_MS);
      loop.reset();
      const since = Date.now() - SPAN_MS;
      const sorted = samples
        .filter(({ at }) => at >= since)
        .map(({ latencyMs }) => latencyMs)
        .sort((a, b) => a - b);
      return { latenciesMs: evenly(sorted, TOLD), eventLoopDelayMs: delayMs === null ? null : round(delayMs) };
    },
    stop,
  };
}

/** So many of them, evenly spaced, the first and the last included. */
function evenly(sorted: readonly number[], count: number): number[] {
  if (sorted.length <= count) return sorted.map(round);
  return Array.from({ length: count }, (_, n) =>
    round(sorted[Math.round((n * (sorted.length - 1)) / (count - 1))] ?? 0),
  );
}

const round = (ms: number): number => Math.round(ms * 10) / 10;
