/**
 * Metrics, in the form that Prometheus scrapes.
 *
 * The parts count for themselves in plain numbers, which costs them next to nothing; they are read
 * here, at a scrape. The one thing that is measured as it happens is how long events were on their
 * way. However often they are scraped, they are put together, and the database is asked, once in
 * `KEPT_MS` at most.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { History } from '../stream/history.js';
import type { Budget } from '../stream/page-budget.js';
import { kept } from './kept.js';
import { openMetricsText } from './open-metrics.js';
import type { EngineFeed } from '../engine/engine-feed.js';
import type { ArchiveDatabase } from '../outbox/databases.js';
import { databaseFigures, type DatabaseFigures } from '../outbox/postgres-archive.js';
import type { Log } from '../feed/log.js';
import type { Polls } from '../stream/polls.js';
import type { Streams } from '../stream/streams.js';
import type { Tail } from '../feed/tail.js';
import type { Tracing } from '../tracing/tracing.js';
import type { Wakeups } from '../feed/wakeups.js';
import type { Undeliverable } from '../outbox/undeliverable.js';

export interface Metrics {
  /**
   * @param events with when their rows were inserted, in ms since 1970, by the database's clock.
   * @param at when that was, likewise. Default: now.
   */
  delivered(events: readonly { readonly createdAt: number }[], at?: number): void;
  /** The trace of an event that was counted as delivered after so long. */
  traced(seconds: number, traceId: string): void;
  /** A request was refused. @param code as the client was told, such as `forbidden`. */
  refused(code: string): void;
  /** What is scraped. */
  text(): Promise<string>;
  readonly contentType: string;
  /** The same in the form of OpenMetrics, with traces. Absent: there are none. */
  readonly openText?: (() => Promise<string>) | undefined;
  readonly registry: Registry;
}

/** What is configured of what is measured. */
export interface MetricsSettings {
  readonly windowBytes: number;
  readonly replayBytes: number;
}

/** What is measured. */
export interface Measured {
  readonly streams: Streams;
  readonly polls: Pick<Polls, 'totals'>;
  readonly log: Log;
  readonly history: History;
  readonly tail: Tail;
  readonly wakeups: Pick<Wakeups, 'watch' | 'awake'>;
  readonly undeliverable: Pick<Undeliverable, 'count'>;
  readonly budget: Pick<Budget, 'heldBytes'>;
  /**
   * What only the database knows is asked on the connections of history: nothing is delivered on
   * them.
   */
  readonly databases: Pick<ArchiveDatabase, 'history'>;
  /** Undefined: events come from PostgreSQL alone. */
  readonly engine?: Pick<EngineFeed, 'stats' | 'beatAgeSeconds'> | undefined;
  /** Undefined: it is off. */
  readonly tracing?: Pick<Tracing, 'totals'> | undefined;
}

/** From a millisecond to a minute: what is slower has been waiting for something that was away. */
const LATENCY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** How long the database may take to answer before its figures are left out. */
const DATABASE_TIMEOUT_MS = 1000;

/** Largest age of what is scraped: whoever comes sooner gets the same again. */
const KEPT_MS = 1000;

export function createMetrics(settings: MetricsSettings, measured: Measured): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];

  /** @param aggregator how the values of several workers make one. */
  function gauge(name: string, help: string, value: () => number, aggregator: 'sum' | 'min' | 'max' = 'sum'): void {
    new Gauge({
      name: `outbox_relay_${name}`,
      help,
      registers,
      aggregator,
      collect() {
        this.set(value());
      },
    });
  }

  /** Sums that a part keeps: taken over as they are. */
  function counter(name: string, help: string, value: () => number): void {
    counters(name, help, undefined, () => ({ '': value() }));
  }

  function counters(
    name: string,
    help: string,
    label: string | undefined,
    values: () => Readonly<Record<string, number>>,
  ): void {
    new Counter({
      name: `outbox_relay_${name}_total`,
      help,
      registers,
      labelNames: label === undefined ? [] : [label],
      collect() {
        this.reset();
        for (const [key, value] of Object.entries(values())) {
          if (label === undefined) this.inc(value);
          else this.inc({ [label]: key }, value);
        }
      },
    });
  }

  const { streams, polls, log, history, tail } = measured;
  const { watch, awake } = measured.wakeups;
  const { totals } = streams;

  new Gauge({
    name: 'outbox_relay_connections',
    help: 'Open streams: live at the head, catching_up with it, or stalled by a client that takes nothing more.',
    labelNames: ['state'],
    registers,
    collect() {
      const { live, catchingUp, stalled } = streams.byState();
      this.set({ state: 'live' }, live);
      this.set({ state: 'catching_up' }, catchingUp);
      this.set({ state: 'stalled' }, stalled);
    },
  });
  counter('connections_opened', 'Streams opened.', () => totals.opened);
  counters('connections_ended', 'Streams that the relay ended, by reason.', 'reason', () => ({ ...totals.ended }));
  counter('events_sent', 'Events written, once for each stream.', () => totals.events);
  counter('bytes_sent', 'Bytes written to streams, with the chunks around their frames.', () => totals.bytes);
  counter(
    'undeliverable_events',
    'Events that can not be delivered and were passed by; the log names each.',
    () => measured.undeliverable.count,
  );
  gauge('polls_waiting', 'Requests for /history that wait for an event.', () => polls.totals.waiting);
  counter('polls', 'Answers to requests for /history.', () => polls.totals.answered);
  counter('polled_events', 'Events in these answers.', () => polls.totals.events);
  counter('replays', 'Streams that began behind the head.', () => totals.replays);
  counter(
    'repeated_resumes',
    'Streams that a client began at a cursor at which it had begun another before, behind the head: it may be unable to take what follows.',
    () => streams.repeatedResumes,
  );
  counters('resets', 'Cursors that could not be honoured, by reason.', 'reason', () => ({ ...totals.resets }));
  counter('history_reads', 'Pages read from the table for replays.', () => history.stats.reads);
  counter('history_reads_shared', 'Pages that a replay got from the read of another.', () => history.stats.shared);
  counter('cursor_lookups', 'Reads of the table for cursors that were not in memory.', () => history.stats.lookups);
  counter('history_events', 'Events read from the table for replays.', () => history.stats.events);
  counters('window_reads', 'Reads by cursor: hit in memory, or miss, which goes to the table.', 'result', () => {
    const { reads, shared } = history.stats;
    return { hit: log.reads, miss: reads + shared };
  });
  gauge('window_events', 'Events in memory.', () => log.size.events);
  gauge('window_bytes', 'Memory that they take.', () => log.size.bytes);
  gauge('window_limit_bytes', 'WINDOW_MEGABYTES.', () => settings.windowBytes);
  gauge('waiting_bytes', 'Pages that wait on slow clients.', () => measured.budget.heldBytes);
  gauge('waiting_limit_bytes', 'REPLAY_MEGABYTES.', () => settings.replayBytes);
  gauge('listening', '1 while the listening session is up.', () => (watch.trouble ? 0 : 1), 'min');
  gauge(
    'notifications_arrive',
    '1 while notifications are known to arrive; 0: polling.',
    () => (watch.notificationsWork ? 1 : 0),
    'min',
  );
  counter('listener_losses', 'Listening sessions that were lost.', () => watch.losses);
  gauge(
    'tail_lag_seconds',
    'For how long the tail has not read all there is, or not known whether it has.',
    () => (tail.behindSince ? (Date.now() - tail.behindSince.getTime()) / 1000 : 0),
    'max',
  );

  gauge(
    'held_seconds',
    'For how long a commit under way has held back events that come after it; 0: none does.',
    () => (tail.held ? (Date.now() - tail.held.since.getTime()) / 1000 : 0),
    'max',
  );
  gauge('awake', '1 while publishers do not notify, because this relay looks by itself.', () =>
    awake?.state === 'awake' ? 1 : 0,
  );

  const { engine } = measured;
  counters('feed_entries', 'Entries of the stream in NATS, by how they came: live, or read from it.', 'way', () => ({
    live: engine?.stats.live ?? 0,
    read: engine?.stats.read ?? 0,
  }));
  counter('feed_entries_skipped', 'Live entries that were there already.', () => engine?.stats.skipped ?? 0);
  counter(
    'feed_entries_unreadable',
    'Entries that are damaged, or that no feeder of ours has made; the log names each.',
    () => engine?.stats.unreadable ?? 0,
  );
  counter(
    'feed_events_filled',
    'New events that the stream in NATS did not have, and that were read from the database.',
    () => engine?.stats.filled ?? 0,
  );
  new Gauge({
    name: 'outbox_relay_feeder_beat_age_seconds',
    help: 'How long ago a feeder has said last that it feeds this relay. Missing before the first, and without NATS.',
    registers,
    aggregator: 'max',
    collect() {
      const age = engine?.beatAgeSeconds;
      if (age === undefined) this.remove();
      else this.set(age);
    },
  });

  const { tracing } = measured;
  counter('traced_events', 'Events that spans were made of; with TRACING.', () => tracing?.totals.traced ?? 0);
  counter(
    'traces_missed',
    'Events of which it could not be read whether they have a trace; with TRACING.',
    () => tracing?.totals.missed ?? 0,
  );

  const figures = kept(() => databaseFigures(measured.databases.history.db), KEPT_MS);

  /** What only the database knows; missing while it does not answer. */
  function asked(name: string, help: string, value: (figures: DatabaseFigures) => number): void {
    new Gauge({
      name: `outbox_relay_${name}`,
      help: `${help} Missing while the database does not answer.`,
      registers,
      aggregator: 'max',
      async collect() {
        const told = await answered(figures());
        if (told === undefined) this.remove();
        else this.set(value(told));
      },
    });
  }

  asked('tail_lag_positions', 'Positions between the newest committed event and the head of the log.', ({ head }) =>
    Math.max(0, Number(head - log.head.position)),
  );
  asked(
    'notify_queue_usage',
    "How full PostgreSQL's notification queue is, from 0 to 1: then commits fail.",
    ({ queueUsage }) => queueUsage,
  );

  const latency = new Histogram({
    name: 'outbox_relay_delivery_seconds',
    help: 'From the start of the transaction that inserted an event, by the clock of the database, to its writing.',
    buckets: LATENCY_SECONDS,
    enableExemplars: tracing !== undefined,
    // Where it keeps exemplars, prom-client takes it for registries of OpenMetrics alone: see
    // below.
    registers: [],
  });
  registry.registerMetric(latency);
  const refusals = new Counter({
    name: 'outbox_relay_refusals_total',
    help: 'Requests refused, by the code that the client was told.',
    labelNames: ['code'],
    registers,
  });

  return {
    registry,
    contentType: registry.contentType,
    delivered(events, at = Date.now()) {
      for (const { createdAt } of events) {
        // Of a row whose time is infinite nobody knows how long it took.
        if (!Number.isFinite(createdAt)) continue;
        const seconds = Math.max(0, at - createdAt) / 1000;
        if (tracing) latency.observe({ value: seconds });
        else latency.observe(seconds);
      }
    },
    traced: (seconds, traceId) => (latency as ExemplarKeeper).updateExemplar({}, seconds, { trace_id: traceId }),
    refused: (code) => refusals.inc({ code }),
    text: kept(() => registry.metrics(), KEPT_MS),
    openText: tracing && kept(async () => openMetricsText([await registry.getMetricsAsJSON()]), KEPT_MS),
  };
}

/**
 * What prom-client's types do not tell of a histogram: by the time that a trace is known, it was
 * observed.
 */
type ExemplarKeeper = Histogram & {
  updateExemplar(labels: object, value: number, exemplarLabels: object): void;
};

/** Undefined where there is no answer in time: a scrape must not wait for a database. */
async function answered<T>(answer: Promise<T>): Promise<T | undefined> {
  const late = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), DATABASE_TIMEOUT_MS).unref());
  return Promise.race([answer.catch(() => undefined), late]);
}
