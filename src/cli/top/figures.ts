/**
 * Figures of a relay at work: what two looks at its metrics say of the time between them.
 */
import { byLabel, sumOf, type Metrics } from '../relay/metrics-text.js';

export interface Look {
  /** By a clock that only goes forward, in ms. */
  readonly at: number;
  readonly metrics: Metrics;
}

/** Names are those of `top --json`. Undefined: the relay does not tell, or not yet. */
export interface Figures {
  /** Between the two looks. */
  readonly seconds: number;
  readonly eventsPerSecond: number | undefined;
  readonly deliveriesPerSecond: number | undefined;
  readonly bytesPerSecond: number | undefined;
  /** From the start of an event's transaction to its writing: of events since the look before. */
  readonly deliverySeconds: { readonly p50: number; readonly p99: number } | undefined;
  /** For how long the relay has not read all there is, and by how many positions it is behind. */
  readonly lagSeconds: number | undefined;
  readonly lagPositions: number | undefined;
  /** For how long a commit has held back what comes after it. */
  readonly heldSeconds: number | undefined;
  readonly connections: Readonly<Record<string, number>>;
  readonly pollsWaiting: number | undefined;
  readonly openedPerSecond: number | undefined;
  readonly listening: boolean | undefined;
  readonly notificationsArrive: boolean | undefined;
  readonly windowBytes: number | undefined;
  readonly windowLimitBytes: number | undefined;
  readonly waitingBytes: number | undefined;
  readonly waitingLimitBytes: number | undefined;
  /** Of one core. */
  readonly cpu: number | undefined;
  readonly memoryBytes: number | undefined;
  readonly eventLoopP99Seconds: number | undefined;
  /** Since the relay started, and of that in the last interval. */
  readonly refusals: Counted;
  readonly resets: Counted;
  readonly ended: Counted;
}

export type Counted = Readonly<Record<string, { readonly total: number; readonly recent: number }>>;

const OURS = 'outbox_relay_';

/** @param before undefined: there was no look before, or the relay was not there */
export function figuresOf(before: Look | undefined, now: Look): Figures {
  const { metrics } = now;
  const previous = before && !hasRestarted(before, now) ? before : undefined;
  const seconds = previous ? (now.at - previous.at) / 1000 : 0;
  const gauge = (name: string) => sumOf(metrics, name);
  const flag = (name: string) => {
    const value = gauge(OURS + name);
    return value === undefined ? undefined : value > 0;
  };
  const growth = (name: string) => {
    const [then, since] = [previous && sumOf(previous.metrics, name), gauge(name)];
    return then === undefined || since === undefined || seconds === 0 ? undefined : Math.max(0, since - then) / seconds;
  };
  const counted = (name: string, label: string): Counted => {
    const then = previous ? byLabel(previous.metrics, OURS + name, label) : {};
    return Object.fromEntries(
      Object.entries(byLabel(metrics, OURS + name, label))
        .filter(([, total]) => total > 0)
        .map(([key, total]) => [key, { total, recent: previous ? Math.max(0, total - (then[key] ?? 0)) : 0 }]),
    );
  };
  return {
    seconds,
    eventsPerSecond: growth(`${OURS}delivery_seconds_count`),
    deliveriesPerSecond: growth(`${OURS}events_sent_total`),
    bytesPerSecond: growth(`${OURS}bytes_sent_total`),
    deliverySeconds: previous && quantiles(previous.metrics, metrics),
    lagSeconds: gauge(`${OURS}tail_lag_seconds`),
    lagPositions: gauge(`${OURS}tail_lag_positions`),
    heldSeconds: gauge(`${OURS}held_seconds`),
    connections: byLabel(metrics, `${OURS}connections`, 'state'),
    pollsWaiting: gauge(`${OURS}polls_waiting`),
    openedPerSecond: growth(`${OURS}connections_opened_total`),
    listening: flag('listening'),
    notificationsArrive: flag('notifications_arrive'),
    windowBytes: gauge(`${OURS}window_bytes`),
    windowLimitBytes: gauge(`${OURS}window_limit_bytes`),
    waitingBytes: gauge(`${OURS}waiting_bytes`),
    waitingLimitBytes: gauge(`${OURS}waiting_limit_bytes`),
    cpu: growth('process_cpu_seconds_total'),
    memoryBytes: gauge('process_resident_memory_bytes'),
    eventLoopP99Seconds: gauge('nodejs_eventloop_lag_p99_seconds'),
    refusals: counted('refusals_total', 'code'),
    resets: counted('resets_total', 'reason'),
    ended: counted('connections_ended_total', 'reason'),
  };
}

/** What only grows has shrunk: it is another process, whose figures say nothing of the time before. */
function hasRestarted(before: Look, now: Look): boolean {
  return [`${OURS}connections_opened_total`, `${OURS}events_sent_total`, 'process_cpu_seconds_total'].some(
    (name) => (sumOf(now.metrics, name) ?? 0) < (sumOf(before.metrics, name) ?? 0),
  );
}

/** Upper bounds of the buckets that half and 99 % of the new observations are in. */
function quantiles(before: Metrics, now: Metrics): { p50: number; p99: number } | undefined {
  const name = `${OURS}delivery_seconds_bucket`;
  const then = byLabel(before, name, 'le');
  const buckets = Object.entries(byLabel(now, name, 'le'))
    .map(([bound, total]) => ({
      bound: bound === '+Inf' ? Infinity : Number(bound),
      total: total - (then[bound] ?? 0),
    }))
    .sort((a, b) => a.bound - b.bound);
  const all = buckets.at(-1)?.total ?? 0;
  if (all <= 0) return undefined;
  const within = (part: number) => buckets.find(({ total }) => total >= part * all)?.bound ?? Infinity;
  return { p50: within(0.5), p99: within(0.99) };
}
