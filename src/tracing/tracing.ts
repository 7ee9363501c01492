/**
 * Tracing: spans of what is delivered, for events that were published within a span.
 *
 * Events are noted as they have been delivered, and some moments later it is asked of all of them
 * together which have a traceparent: in one query at a time, on the connections of history. So
 * nothing on an event's way waits for it, nor knows of it where tracing is off. Replays have no
 * spans: what is read again an hour later is no part of what the publisher did.
 */
import type { Logger } from 'pino';
import type { FreshEvent } from '../event/event.js';
import type { Log } from '../feed/log.js';
import type { ArchiveDatabase } from '../outbox/databases.js';
import type { FeedReader } from '../outbox/feed.js';
import { readTraceparents } from '../outbox/traceparents.js';
import { createRetry } from '../postgres/retry.js';
import { noteDeliveries, type Delivered } from './deliveries.js';
import { startExporting } from './exporting.js';
import { tracingSettings } from './settings.js';
import { addSpans } from './spans.js';

export interface Tracing {
  /** What the tail is to read from, and to append to. */
  readonly observed: { readonly feed: FeedReader; readonly log: Log };
  readonly totals: TracingTotals;
  /** What to call once new events have been delivered: tells `metrics`, and takes note. */
  deliveredTo(metrics: TracedMetrics): (events: readonly FreshEvent[]) => void;
  /** Sends what there is, for two seconds at most. Safe to call twice. */
  stop(): Promise<void>;
}

/** Sums since the start, of events. */
export interface TracingTotals {
  /** Spans were made of them. */
  readonly traced: number;
  /** Whether they have a trace was not asked, or not answered. */
  readonly missed: number;
}

export interface TracedMetrics {
  /** @param at when, in ms since 1970 */
  delivered(events: readonly FreshEvent[], at: number): void;
  /** An event of that trace took so long. */
  traced(seconds: number, traceId: string): void;
}

export interface TracingParts {
  readonly feed: FeedReader;
  readonly log: Log;
  readonly databases: Pick<ArchiveDatabase, 'history'>;
  readonly logger: Logger;
}

/** Pause between two queries, in ms; and what each may ask for, and take. */
const PAUSE_MS = 100;
const MOST_ASKED = 1000;
const PATIENCE_MS = 2000;
/** Most events that wait to be asked for. */
const MOST_WAITING = 5000;
/** Time that the last spans have to be made and sent. */
const FAREWELL_MS = 2000;

/**
 * @returns undefined where tracing is off: then no module of OpenTelemetry's is loaded
 * @throws OperatorError `bad-environment`, `tracing-client-missing`
 */
export async function startTracing(
  config: { readonly tracing: boolean },
  { feed, log, databases, logger }: TracingParts,
): Promise<Tracing | undefined> {
  const settings = tracingSettings(config.tracing, process.env);
  if (settings === undefined) return undefined;
  const exporting = await startExporting(settings, logger);
  const observed = noteDeliveries(feed, log);
  const totals = { traced: 0, missed: 0 };
  const waiting: (Delivered & { readonly seconds: number })[] = [];
  const stopping = new AbortController();
  let metrics: TracedMetrics | undefined;
  let timer: NodeJS.Timeout | undefined;
  let asking: Promise<void> | undefined;
  let isEnding = false;
  const retry = createRetry({
    firstPauseMs: PAUSE_MS,
    longestPauseMs: PATIENCE_MS,
    log: {
      logger,
      onFailure: 'traces of events cannot be read: spans of them are missing; events are delivered as ever',
      onRecovery: 'traces of events can be read again',
    },
  });

  function take(at: number): void {
    const events = observed.take();
    const room = MOST_WAITING - waiting.length;
    totals.missed += Math.max(0, events.length - room);
    for (const event of events.slice(0, room)) waiting.push({ ...event, seconds: (at - event.createdAt) / 1000 });
    askSoon(PAUSE_MS);
  }

  function askSoon(pauseMs: number): void {
    if (waiting.length === 0 || timer || asking || isEnding) return;
    timer = setTimeout(() => {
      timer = undefined;
      asking = ask().then((pause) => {
        asking = undefined;
        askSoon(pause);
      });
    }, pauseMs);
  }

  /** @returns the pause before the next */
  async function ask(): Promise<number> {
    const asked = waiting.splice(0, MOST_ASKED);
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(PATIENCE_MS)]);
    try {
      const positions = asked.map(({ position }) => position);
      const traceparents = await readTraceparents(databases.history.db, positions, signal);
      retry.succeeded();
      for (const event of asked) {
        const traceparent = traceparents.get(event.position);
        const traceId = traceparent === undefined ? undefined : addSpans(exporting, event, traceparent);
        if (traceId === undefined) continue;
        totals.traced += 1;
        if (Number.isFinite(event.seconds)) metrics?.traced(Math.max(0, event.seconds), traceId);
      }
      return PAUSE_MS;
    } catch (error) {
      totals.missed += asked.length;
      return stopping.signal.aborted ? 0 : retry.failed(error);
    }
  }

  async function finish(): Promise<void> {
    isEnding = true;
    clearTimeout(timer);
    await asking;
    if (waiting.length > 0) await ask();
    await exporting.close();
  }

  let stopped: Promise<void> | undefined;
  return {
    observed,
    totals,
    deliveredTo(told) {
      metrics = told;
      return (events) => {
        const at = Date.now();
        told.delivered(events, at);
        take(at);
      };
    },
    stop: () => (stopped ??= withinPatience(finish()).finally(() => stopping.abort())),
  };
}

/** What a collector or a database does not take by then is lost. */
async function withinPatience(work: Promise<void>): Promise<void> {
  const late = new Promise<void>((resolve) => setTimeout(resolve, FAREWELL_MS).unref());
  await Promise.race([work.catch(() => undefined), late]);
}
