/**
 * Scaling: how much two workers deliver against one, when events come as fast as the database takes them. Each has a database, a publisher
 * and a generator of its own, and they take turns in one run.
 *
 * Publisher, database, generator and workers share the machine's cores: with few of those, what two workers add is what the others leave.
 */
import { readFileSync } from 'node:fs';
import os from 'node:os';
import pg from 'pg';
import { migrate } from '../src/migrate.js';
import { startObservedRelay } from '../test/support/observed-relay.js';
import { startGenerator } from './load/child.js';
import { publish } from './load/publish.js';
import type { Result } from './result.js';
import { cpuSeconds, median } from './usage.js';

export interface ScalingOptions {
  readonly connections: number;
  readonly rounds: number;
}

/** Enough in one INSERT, whose commit waits for no disk, that the relay is what is waited for. */
const PACE = { events: 4000, burst: 20, rate: 0, size: 300 } as const;
const WARM_UP_ROUNDS = 1;

interface Figures {
  readonly perSecond: number;
  readonly perCpuSecond: number;
  /** Of one core. */
  readonly relayShare: number;
  readonly generatorShare: number;
}

export async function measureScaling(serverUrl: string, { connections, rounds }: ScalingOptions): Promise<Result> {
  const parties = [await startParty(serverUrl, 1, connections), await startParty(serverUrl, 2, connections)] as const;
  try {
    const ratios: number[] = [];
    for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
      const figures = new Map<(typeof parties)[number], Figures>();
      for (const party of round % 2 === 0 ? parties : parties.toReversed()) figures.set(party, await party.turn());
      if (round < 0) continue;
      for (const [party, of] of figures) party.figures.push(of);
      ratios.push((figures.get(parties[1])?.perSecond ?? 0) / (figures.get(parties[0])?.perSecond ?? 0));
    }
    return {
      part: 'scaling',
      title: `${connections} clients of one channel, ${PACE.size} bytes, ${rounds} rounds of ${PACE.events} events as fast as they go: medians`,
      rows: parties.map(({ workers, figures }) => ({
        workers,
        'deliveries/s': Math.round(median(figures.map((of) => of.perSecond))),
        'deliveries/CPU s': Math.round(median(figures.map((of) => of.perCpuSecond))),
        "relay's share of a core": median(figures.map((of) => of.relayShare)),
        "generator's share of a core": median(figures.map((of) => of.generatorShare)),
      })),
      ratio: median(ratios),
      bar: { is: `none: ${os.availableParallelism()} cores are shared by all parties`, holds: true },
    };
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
    figures: [] as Figures[],
    async turn(): Promise<Figures> {
      await generator.reset();
      const before = cpuSeconds(...pids);
      await publish(database, { ...PACE, channel: 'busy', after: published });
      published += PACE.events;
      await generator.until(PACE.events * connections);
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
