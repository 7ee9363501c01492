/** What the relay does while others publish as much as they can, and when they have ended. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Result } from '../result.js';
import { cpuSeconds, median } from '../usage.js';
import { FULL_LOAD, OUTBOX, type Contest } from './parties.js';

/** Events whose latency is taken meanwhile. */
const PROBES = { events: 600, rate: 100 };
const MOST_LATENCY_MS = 50;

const BURSTS = 5;
/** Of a core, while a relay looks and finds nothing; and milliseconds until it does not look any more. */
const MOST_AWAKE = { share: 0.05, ms: 1000 };
const AWAKE_PATIENCE_MS = 10_000;
const AWAKE_SAMPLE_MS = 20;

export async function measureFullLoad({ version, pgbench, urls, relay }: Contest, title: string): Promise<Result[]> {
  const seconds = Math.ceil(PROBES.events / PROBES.rate) + 1;
  const loading = pgbench(urls[OUTBOX], { ...FULL_LOAD, seconds });
  // While pgbench connects, and the relay is woken.
  await delay(1000);
  const inserts = (await relay.publish(PROBES)).toSorted((a, b) => a - b);
  const insertedIn = (part: number) => inserts[Math.floor(part * inserts.length)] ?? Number.NaN;
  const { latency } = await relay.generator.report();
  const tps = Math.round(await loading);
  await relay.caughtUp();
  return [
    {
      part: 'publish',
      title: `PostgreSQL ${version}: ${title} (ms, ${PROBES.events} events, from before their INSERT)`,
      rows: [
        { until: 'committed', p50: insertedIn(0.5), p99: insertedIn(0.99), 'tps of the load': tps },
        { until: 'received', p50: latency.p50, p99: latency.p99, 'tps of the load': '' },
      ],
      ratio: latency.p99 / MOST_LATENCY_MS,
      bar: { is: `p99 at most ${MOST_LATENCY_MS} ms`, holds: latency.p99 <= MOST_LATENCY_MS },
    },
  ];
}

export async function measureAwake({ version, pgbench, urls, relay }: Contest, title: string): Promise<Result[]> {
  const shares: number[] = [];
  const times: number[] = [];
  for (let burst = 0; burst < BURSTS; burst += 1) {
    await pgbench(urls[OUTBOX], { ...FULL_LOAD, seconds: 1 });
    await relay.caughtUp();
    const began = performance.now();
    const before = cpuSeconds(relay.pid);
    const after = () => performance.now() - began;
    if (!(await relay.isAwake())) continue;
    while ((await relay.isAwake()) && after() < AWAKE_PATIENCE_MS) await delay(AWAKE_SAMPLE_MS);
    times.push(after());
    shares.push((cpuSeconds(relay.pid) - before) / (after() / 1000));
  }
  const longest = Math.max(...times);
  const share = median(shares);
  return [
    {
      part: 'publish',
      title: `PostgreSQL ${version}: ${title}: until it sleeps (ms), and its CPU time until then (of a core)`,
      rows: [{ bursts: BURSTS, 'awake after': times.length, 'median ms': median(times), 'longest ms': longest, share }],
      ratio: share / MOST_AWAKE.share,
      bar: {
        is: `awake after each; ${MOST_AWAKE.share} of a core (median) and ${MOST_AWAKE.ms} ms at the most`,
        holds: times.length === BURSTS && share <= MOST_AWAKE.share && longest <= MOST_AWAKE.ms,
      },
    },
  ];
}
