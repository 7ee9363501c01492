/**
 * NATS as a feed, against relays that read from PostgreSQL, in the same run: how much later an event comes, what relays cost PostgreSQL,
 * what they cost publishers, and how fast feeders are. Three servers of NATS, two feeders, all on this machine: where something is not
 * to be hidden by what they take from the same cores, CPU time is measured, or PostgreSQL has cores of its own.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { startNats, type NatsServers } from '../test/support/nats.js';
import {
  childrenOf,
  cpuOfPostgres,
  createFeeder,
  MAIN,
  pidsOfPostgres,
  pin,
  startAll,
  startRelays,
  stopAll,
  type Feeder,
} from './nats/processes.js';
import { openRelay, percentiles, timeInsert } from './latency.js';
import { withClient } from './publish/databases.js';
import { pairedRatio, takeTurns } from './publish/parties.js';
import { preparePgbench } from './publish/pgbench.js';
import type { Result } from './result.js';
import { cpuSeconds, median } from './usage.js';

export interface NatsOptions {
  readonly relays: number;
  readonly rounds: number;
  /** Of a turn. */
  readonly seconds: number;
  /** That are there when the feeder begins. */
  readonly backlog: number;
}

const MOST_LATER_MS = 3;
const MOST_LOAD = 1.2;
const LEAST_PUBLISHED = 0.95;
const LEAST_FED = 20_000;

const LATENCY = { rate: 100, turn: 50, rounds: 12, warmUp: 100 } as const;
/** Events in a second while the load of relays on PostgreSQL is measured: each is read by itself. */
const STEADY = { rate: 200, seconds: 8 } as const;
const PUBLISHERS = 8;
const SCRIPT = `INSERT INTO outbox (channel, data) VALUES ('orders', '{"order": 1, "note": "${'x'.repeat(250)}"}');`;
const ON_POSTGRES = '1 relay on PostgreSQL';
const FED_MS = 120_000;

/** Each result as soon as there is one. */
export async function* measureNats(databaseUrl: string, options: NatsOptions): AsyncGenerator<Result> {
  const teardowns: (() => unknown)[] = [];
  const t = { teardown: (teardown: () => unknown) => void teardowns.push(teardown) };
  try {
    const nats = await startNats(t, { servers: 3 });
    const env = { DATABASE_URL: databaseUrl, NATS_URL: nats.url, NATS_SECRET: 'x'.repeat(48) };
    await promisify(execFile)(process.execPath, [MAIN, 'feed', '--setup', '--replicas', '3'], { env });
    const feeders = [await createFeeder(env), await createFeeder(env)];
    t.teardown(() => stopAll(feeders));
    await startAll(feeders);
    const { NATS_URL, NATS_SECRET } = env;
    const stage = { databaseUrl, onNats: { NATS_URL, NATS_SECRET }, nats, feeders };
    yield await measureLatency(stage);
    yield await measureFeed(stage, options);
    yield await measureLoad(stage, options);
    yield await measurePublishing(stage, options);
  } finally {
    for (let teardown = teardowns.pop(); teardown; teardown = teardowns.pop()) await teardown();
  }
}

interface Stage {
  readonly databaseUrl: string;
  readonly onNats: Readonly<Record<string, string>>;
  readonly nats: NatsServers;
  readonly feeders: readonly Feeder[];
}

async function measureLatency({ databaseUrl, onNats }: Stage): Promise<Result> {
  const writer = new pg.Client({ connectionString: databaseUrl });
  await writer.connect();
  const parties = { straight: await openRelay(databaseUrl), nats: await openRelay(databaseUrl, onNats) };
  const times = { straight: [] as number[], nats: [] as number[] };
  const { rate, turn, rounds, warmUp } = LATENCY;
  for (const party of Object.values(parties)) for (let n = 0; n < warmUp; n += 1) await timeInsert(writer, party, rate);
  for (let round = 0; round < rounds; round += 1) {
    for (const name of ['straight', 'nats'] as const) {
      for (let n = 0; n < turn; n += 1) times[name].push(await timeInsert(writer, parties[name], rate));
    }
  }
  await Promise.all([parties.straight.close(), parties.nats.close(), writer.end()]);
  const figures = { straight: percentiles(times.straight), nats: percentiles(times.nats) };
  const later = figures.nats.p50 - figures.straight.p50;
  return {
    part: 'nats',
    title: `Insert to client, ${rounds * turn} events each at ${rate} a second (ms); later by ${later.toFixed(2)} ms at p50`,
    rows: [
      { relay: 'on PostgreSQL', ...figures.straight },
      { relay: 'on NATS', ...figures.nats },
    ],
    ratio: figures.nats.p50 / figures.straight.p50,
    bar: { is: `at most ${MOST_LATER_MS} ms later at p50`, holds: later <= MOST_LATER_MS },
  };
}

/** CPU of PostgreSQL, publishing included, for the same events. */
async function measureLoad({ databaseUrl, onNats, feeders }: Stage, { relays }: NatsOptions): Promise<Result> {
  const parties = new Map<string, { readonly count: number; readonly env: Readonly<Record<string, string>> }>([
    ['none', { count: 0, env: {} }],
    [ON_POSTGRES, { count: 1, env: {} }],
    [`${relays} relays on PostgreSQL`, { count: relays, env: {} }],
    [`${relays} relays on NATS, two feeders`, { count: relays, env: onNats }],
  ]);
  const loads = new Map<string, number>();
  for (const [name, { count, env }] of parties) {
    await (env === onNats ? startAll(feeders) : stopAll(feeders));
    const running = await startRelays(databaseUrl, count, env);
    const { rate, seconds } = STEADY;
    // The publisher's session is there before and after, so its time counts.
    const used = await withClient(databaseUrl, (client) =>
      cpuOfPostgres(databaseUrl, () => publishSteadily(client, rate, seconds)),
    );
    loads.set(name, (used / (rate * seconds)) * 1e6);
    await running?.stop();
  }
  const [base = Number.NaN] = [loads.get(ON_POSTGRES)];
  const ratio = ([...loads.values()].at(-1) ?? Number.NaN) / base;
  return {
    part: 'nats',
    title: `CPU of PostgreSQL, publishing included, at ${STEADY.rate} events a second; ratio to ${ON_POSTGRES}`,
    rows: [...loads].map(([name, load]) => ({ relays: name, 'µs for an event': load })),
    ratio,
    bar: { is: `at most ${MOST_LOAD}`, holds: ratio <= MOST_LOAD },
  };
}

/** PostgreSQL and publishers have half of the cores, and all others the rest. */
async function measurePublishing(
  { databaseUrl, onNats, feeders, nats }: Stage,
  { relays, rounds, seconds }: NatsOptions,
): Promise<Result> {
  const half = Math.max(1, Math.floor(os.cpus().length / 2));
  const [ours, theirs] = [`0-${half - 1}`, `${Math.min(half, os.cpus().length - 1)}-${os.cpus().length - 1}`];
  const folder = await mkdtemp(path.join(os.tmpdir(), 'outbox-bench-'));
  const pgbench = await preparePgbench(folder);
  const running = await startRelays(databaseUrl, relays, onNats);
  const postgres = await pidsOfPostgres(databaseUrl);
  await Promise.all(postgres.map((pid) => pin(pid, ours)));
  const others = [
    ...(running === undefined ? [] : [running.pid, ...childrenOf(running.pid)]),
    ...nats.servers.map(({ pid }) => pid),
  ];
  await Promise.all(others.map((pid) => pin(pid, theirs)));
  const turns = ['none', `${relays} relays on NATS, two feeders`] as const;
  const rates = await takeTurns(turns, rounds, async (turn) => {
    if (turn === 'none') {
      await stopAll(feeders);
      for (const pid of others) process.kill(pid, 'SIGSTOP');
    } else {
      for (const pid of others) process.kill(pid, 'SIGCONT');
      await nats.healthy();
      await startAll(feeders);
      for (const { pid } of feeders) if (pid !== undefined) await pin(pid, theirs);
      await delay(3_000);
    }
    // pgbench is started from here, and inherits it.
    await promisify(execFile)('taskset', ['-cp', ours, String(process.pid)]);
    return pgbench(databaseUrl, { clients: PUBLISHERS, seconds, script: SCRIPT });
  });
  for (const pid of others) process.kill(pid, 'SIGCONT');
  await Promise.all([...others, ...postgres, process.pid].map((pid) => pin(pid, `0-${os.cpus().length - 1}`)));
  await nats.healthy();
  await running?.stop();
  await rm(folder, { recursive: true, force: true });
  const ratio = pairedRatio(rates[turns[1]], rates[turns[0]]);
  return {
    part: 'nats',
    title: `Publishing, ${PUBLISHERS} clients, a row in a transaction, on ${half} of ${os.cpus().length} cores, the others have the rest (medians of ${rounds} turns of ${seconds} s)`,
    rows: turns.map((turn) => ({ relays: turn, tps: Math.round(median(rates[turn] ?? [])) })),
    ratio,
    bar: { is: `at least ${LEAST_PUBLISHED}`, holds: ratio >= LEAST_PUBLISHED },
  };
}

/** How fast a feeder brings what there is into the stream. */
async function measureFeed({ databaseUrl, feeders }: Stage, { backlog }: NatsOptions): Promise<Result> {
  await startAll(feeders);
  for (const feeder of feeders) feeder.signal('SIGSTOP');
  const last = await withClient(databaseUrl, async (client) => {
    await client.query(
      `INSERT INTO outbox (channel, data) SELECT 'orders', jsonb_build_object('n', n, 'note', repeat('x', 250)) FROM generate_series(1, $1::int) AS n`,
      [backlog],
    );
    const { rows } = await client.query<{ last: string }>('SELECT max(position) AS last FROM outbox');
    return BigInt(rows[0]?.last ?? 0);
  });
  const [feeder] = feeders;
  if (feeder?.pid === undefined) throw new RangeError('no feeder runs');
  const { pid } = feeder;
  const cpu = cpuSeconds(pid);
  const began = performance.now();
  feeder.signal('SIGCONT');
  const before = await feeder.fed();
  while ((await feeder.fed()) < last) {
    if (performance.now() - began > FED_MS) throw new Error(`the feeder has not fed ${backlog} events in ${FED_MS} ms`);
    await delay(20);
  }
  const seconds = (performance.now() - began) / 1000;
  const used = cpuSeconds(pid) - cpu;
  for (const each of feeders) each.signal('SIGCONT');
  const rate = backlog / seconds;
  return {
    part: 'nats',
    title: `A feeder that finds ${backlog} events of 300 bytes, three servers of NATS (began at ${before})`,
    rows: [
      {
        'events/s': Math.round(rate),
        seconds,
        'CPU s of the feeder': used,
        'events in a CPU second': Math.round(backlog / used),
      },
    ],
    ratio: rate / LEAST_FED,
    bar: { is: `at least ${LEAST_FED} events a second`, holds: rate >= LEAST_FED },
  };
}

async function publishSteadily(client: pg.Client, rate: number, seconds: number): Promise<void> {
  const began = performance.now();
  for (let n = 0; n < rate * seconds; n += 1) {
    await delay(Math.max(0, began + (n * 1000) / rate - performance.now()));
    await client.query({ name: 'steady', text: SCRIPT });
  }
}
