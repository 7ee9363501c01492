/** What the answers of several processes come to, as the console shows it. */
import type {
  SelectedChannels,
  SelectedConnections,
  ChannelFigures,
  ConnectionFigures,
  DeliveryFigures,
  Sort,
} from '../stream/survey.js';
import type { StreamStates } from '../stream/streams.js';
import { createTop } from '../stream/top.js';
import { obstacleText } from './obstacle-text.js';
import { fairly, MOST_REFUSALS } from './refusals.js';
import type { Answer, Gathered, NotedRefusal, OverviewAnswer, Totals } from './question.js';

export interface Overview extends Omit<OverviewAnswer, 'states' | 'latenciesMs' | 'reasons' | 'head'> {
  readonly at: string;
  readonly reasons: readonly (OverviewAnswer['reasons'][number] & {
    readonly message: string;
    readonly fix: string;
  })[];
  readonly head: { readonly id: string };
  readonly connections: StreamStates & { readonly total: number };
  /** A second, since the overview before. */
  readonly rates: Totals;
  readonly latencyMs: { readonly p50: number; readonly p99: number } | null;
  readonly database: { readonly connected: boolean; readonly trouble: string | null };
  /** Processes that have answered, and those that have not in time. */
  readonly workers: { readonly answered: number; readonly missing: number };
}

/** Codes of obstacles that are the database's. */
const OF_DATABASE: ReadonlySet<string> = new Set(['not_listening', 'cannot_read']);

const sum = <T>(items: readonly T[], value: (item: T) => number): number =>
  items.reduce((total, item) => total + value(item), 0);

/**
 * @param before what the totals were, and when, in ms of performance.now().
 * @returns undefined where nobody has answered.
 */
export function overviewOf(
  { answers, missing }: Gathered,
  before?: { readonly totals: Totals; readonly at: number },
): Overview | undefined {
  const all = answers.flatMap(({ overview }) => overview ?? []);
  const newest = all.reduce<OverviewAnswer | undefined>(
    (best, one) => (best && BigInt(best.head.position) >= BigInt(one.head.position) ? best : one),
    undefined,
  );
  if (newest === undefined) return undefined;
  const reasons = new Map(
    all.flatMap((one) => one.reasons).map((reason) => [reason.code, { ...reason, ...obstacleText(reason.code) }]),
  );
  const trouble = [...reasons.values()].find(({ code }) => OF_DATABASE.has(code));
  const totals: Totals = {
    // Each process reads all events.
    events: Math.max(...all.map((one) => one.totals.events)),
    deliveries: sum(all, (one) => one.totals.deliveries),
    bytes: sum(all, (one) => one.totals.bytes),
    refusals: sum(all, (one) => one.totals.refusals),
  };
  const delays = all.flatMap(({ eventLoopDelayMs }) => eventLoopDelayMs ?? []);
  return {
    at: new Date().toISOString(),
    uptimeSeconds: Math.max(...all.map((one) => one.uptimeSeconds)),
    ready: all.every(({ ready }) => ready),
    reasons: [...reasons.values()],
    head: { id: newest.head.id },
    connections: statesOf(all),
    rates: ratesOf(totals, before ?? { totals, at: 0 }),
    totals,
    latencyMs: quantiles(all.flatMap((one) => one.latenciesMs)),
    memory: {
      heapBytes: sum(all, (one) => one.memory.heapBytes),
      rssBytes: sum(all, (one) => one.memory.rssBytes),
      windowBytes: sum(all, (one) => one.memory.windowBytes),
      replayBytes: sum(all, (one) => one.memory.replayBytes),
    },
    database: { connected: trouble === undefined, trouble: trouble?.message ?? null },
    eventLoopDelayMs: delays.length === 0 ? null : Math.max(...delays),
    workers: { answered: all.length, missing },
  };
}

/** Of all processes that have answered. */
export function statesOf(answers: readonly { readonly states?: StreamStates }[]): Overview['connections'] {
  const live = sum(answers, ({ states }) => states?.live ?? 0);
  const catchingUp = sum(answers, ({ states }) => states?.catchingUp ?? 0);
  const stalled = sum(answers, ({ states }) => states?.stalled ?? 0);
  return { total: live + catchingUp + stalled, live, catchingUp, stalled };
}

function ratesOf(totals: Totals, before: { readonly totals: Totals; readonly at: number }): Totals {
  const seconds = Math.max(0.001, (performance.now() - before.at) / 1000);
  // A process that was replaced has counted anew.
  const rate = (name: keyof Totals) =>
    Math.round((Math.max(0, totals[name] - before.totals[name]) / seconds) * 10) / 10;
  return { events: rate('events'), deliveries: rate('deliveries'), bytes: rate('bytes'), refusals: rate('refusals') };
}

function quantiles(latencies: readonly number[]): { p50: number; p99: number } | null {
  const sorted = [...latencies].sort((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
  return sorted.length === 0 ? null : { p50: at(0.5), p99: at(0.99) };
}

const RANKS: Readonly<Record<Sort, (connection: ConnectionFigures) => number>> = {
  lag: ({ lagEvents }) => lagEvents ?? Infinity,
  age: ({ ageSeconds }) => ageSeconds,
  waiting: ({ waitingBytes }) => waitingBytes,
};

/** @param n which of the selections that were asked for. */
export function connectionsOf(
  answers: readonly Answer[],
  n: number,
  { sort, limit }: { readonly sort: Sort; readonly limit: number },
) {
  const all: SelectedConnections[] = answers.flatMap(({ connections }) => connections?.[n] ?? []);
  const top = createTop<ConnectionFigures>(limit);
  for (const { connections } of all) for (const connection of connections) top.add(RANKS[sort](connection), connection);
  const connections = top.list();
  return {
    at: new Date().toISOString(),
    total: sum(all, ({ total }) => total),
    shown: connections.length,
    connections,
  };
}

/**
 * Those that most connections have asked for. Of each process that has more channels than it tells
 * of the rest is not there: then it is not complete.
 */
export function channelsOf(answers: readonly Answer[], n: number, limit: number) {
  const all: SelectedChannels[] = answers.flatMap(({ channels }) => channels?.[n] ?? []);
  const counts = new Map<string, ChannelFigures>();
  for (const { channels } of all) {
    for (const { channel, connections, lagging } of channels) {
      const known = counts.get(channel);
      counts.set(channel, {
        channel,
        connections: connections + (known?.connections ?? 0),
        lagging: lagging + (known?.lagging ?? 0),
      });
    }
  }
  const top = createTop<ChannelFigures>(limit);
  for (const figures of counts.values()) top.add(figures.connections, figures);
  const isComplete = all.every(
    ({ isComplete, total, channels }) => isComplete && (all.length === 1 || total === channels.length),
  );
  const [only] = all;
  const total = all.length === 1 ? (only?.total ?? 0) : Math.max(counts.size, ...all.map((one) => one.total), 0);
  return { at: new Date().toISOString(), total, isComplete, channels: top.list() };
}

/** The newest first. */
export function refusalsOf(answers: readonly Answer[]): NotedRefusal[] {
  const all = answers.flatMap(({ refusals }) => refusals ?? []).sort((a, b) => a.stamp - b.stamp);
  return fairly(all, MOST_REFUSALS).reverse();
}

/** Undefined: no process knows the event. */
export function deliveryOf(answers: readonly Answer[]): DeliveryFigures | undefined {
  const all = answers.flatMap(({ delivery }) => delivery ?? []);
  if (all.length === 0) return undefined;
  return {
    open: sum(all, (one) => one.open),
    passed: sum(all, (one) => one.passed),
    behind: sum(all, (one) => one.behind),
  };
}
