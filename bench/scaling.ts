/**
 * Scaling: how much two workers deliver against one, as fast as it goes: one event after the other, each as soon as all have the last, so that
 * each costs a write for each client; and in bulk, where many events go out in one write. Each relay has a database, a publisher
 * and a generator of its own, and they take turns in one run.
 *
 * Publisher, database, generator and workers share the machine's cores: with few of those, what two workers add is what the others leave.
 */
import { readFileSync } from 'node:fs';
import os from 'node:os';
import pg from 'pg';
import { migrate } from '../src/postgres/migrate.js';
import { startObservedRelay } from '../test/support/observed-relay.js';
import { startGenerator } from './load/child.js';
import { publish } from './load/publish.js';
import type { Result } from './result.js';
import { cpuSeconds, median } from './usage.js';

export interface ScalingOptions {
  readonly connections: number;
  readonly rounds: number;
}

const SIZE = 300;
const PACES = [
  { name: 'one by one', events: 150, burst: 1, waits: true },
  { name: 'in bulk', events: 4000, burst: 20, waits: false },
] as const;
type Pace = (typeof PACES)[number];
const WARM_UP_ROUNDS = 1;

interface Figures {
  readonly perSecond: number;
  readonly perCpuSecond: number;
  /** Of one core. */
  readonly relayShare: number;
  readonly generatorShare: number;
}

export async function measureScaling(serverUrl: string, { connections, rounds }: ScalingOptions): Promise<Result[]> {
  const parties = [await startParty(serverUrl, 1, connections), await startParty(serverUrl, 2, connections)] as const;
  try {
    const results: Result[] = [];
    for (const pace of PACES) {
      const all = new Map(parties.map((party) => [party, [] as Figures[]]));
      for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
        for (const party of round % 2 === 0 ? parties : parties.toReversed()) {
          const figures = await party.turn(pace);
          if (round >= 0) all.get(party)?.push(figures);
        }
      }
      const middle = (party: (typeof parties)[number], name: keyof Figures) =>
        median((all.get(party) ?? []).map((figures) => figures[name]));
      const rates = (party: (typeof parties)[number]) => (all.get(party) ?? []).map(({ perSecond }) => perSecond);
      const one = rates(parties[0]);
      results.push({
        part: `scaling, ${pace.name}`,
        title: `${connections} clients of one channel, ${SIZE} bytes, ${pace.name}, ${rounds} rounds of ${pace.events}: medians`,
        rows: parties.map((party) => ({
          workers: party.workers,
          'deliveries/s': Math.round(middle(party, 'perSecond')),
          'deliveries/CPU s': Math.round(middle(party, 'perCpuSecond')),
          'cores of the relay': middle(party, 'relayShare'),
          'and of the generator': middle(party, 'generatorShare'),
        })),
        ratio: median(rates(parties[1]).map((rate, round) => rate / (one[round] ?? Number.NaN))),
        bar: { is: `none here, as all share ${os.availableParallelism()} cores`, holds: undefined },
      });
    }
    return results;
  } finally {
    for (const party of parties) await party.stop();
  }
}

async function startParty(serverUrl: string, workers: number, connections: number) {
  const url = await createDatabase(serverUrl, `workers_${workers}`);
  const database = new pg.Client({ connectionString: url });
  await database.connect();
  await database.query('SET synchronous_commit = off');
  const relay = await startObservedRelay(
    { DATABASE_URL: url, PUBLIC_CHANNELS: '*', WORKERS: String(workers), HEARTBEAT_SECONDS: '3600', LOG_LEVEL: 'info' },
    { collects: false },
  );
  const generator = await startGenerator({ url: `${relay.url}/events/busy`, connections });
  const pids = [relay.pid, ...childrenOf(relay.pid)];
  let published = 0;
  return {
    workers,
    async turn({ events, burst, waits }: Pace): Promise<Figures> {
      await generator.reset();
      const before = cpuSeconds(...pids);
      await publish(database, {
        channel: 'busy',
        size: SIZE,
        rate: 0,
        events,
        burst,
        after: published,
        ...(waits ? { inserted: (count: number) => generator.until(count * connections) } : {}),
      });
      published += events;
      await generator.until(events * connections);
      const cpu = cpuSeconds(...pids) - before;
      const { deliveries, seconds, perSecond, gaps, doubles, disorder, generator: own } = await generator.report();
      if (gaps + doubles + disorder > 0) throw new Error('events were lost, doubled or out of order');
      return { perSecond, perCpuSecond: deliveries / cpu, relayShare: cpu / seconds, generatorShare: own.share };
    },
    async stop() {
      await generator.close();
      await Promise.all([relay.stop(), database.end()]);
    },
  };
}

async function createDatabase(serverUrl: string, name: string): Promise<string> {
  const admin = new pg.Client({ connectionString: serverUrl });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${name}`);
  await admin.end();
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  await migrate(url.href, 'up');
  return url.href;
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}
