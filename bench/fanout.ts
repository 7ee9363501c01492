/**
 * Fan-out: what it costs the relay to bring an event to thousands of clients, in CPU time, against a bare writer of the same bytes to as many
 * sockets. Both have a generator of their own and take turns in one run, so their ratio holds on a noisy machine too. The relay's
 * part has all in it: the notification, the read from the table, the encoding.
 */
import pg from 'pg';
import { startObservedRelay } from '../test/support/observed-relay.js';
import { startBareWriter } from './load/bare.js';
import { startGenerator, type RemoteGenerator } from './load/child.js';
import { publish } from './load/publish.js';
import type { Result } from './result.js';
import { cpuSeconds, median } from './usage.js';

export interface FanoutOptions {
  readonly connections: number;
  readonly rounds: number;
}

/** Bytes of an event's data. */
const SIZE = 300;
/**
 * Each event, or burst, is waited for before the next one is published, so that no two of them go out in one write; and, for both
 * alike, the generator has to be woken: a write to one that sleeps costs the writer more.
 */
const PACES = [
  { name: 'one at a time', burst: 1, events: 60, rate: 30, leastPerCpuSecond: 0 },
  { name: 'bursts of 10', burst: 10, events: 400, rate: 200, leastPerCpuSecond: 350_000 },
] as const;
const LEAST_RATIO = 0.85;
const WARM_UP_ROUNDS = 2;

interface Party {
  readonly pid: number;
  readonly generator: RemoteGenerator;
  send(pace: { burst: number; events: number; rate: number }): Promise<void>;
}

export async function measureFanout(databaseUrl: string, { connections, rounds }: FanoutOptions): Promise<Result[]> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  const relay = await startObservedRelay(
    { DATABASE_URL: databaseUrl, PUBLIC_CHANNELS: '*', HEARTBEAT_SECONDS: '3600', LOG_LEVEL: 'info' },
    { collects: false },
  );
  const bare = await startBareWriter();
  const generators: RemoteGenerator[] = [];
  const open = async (url: string) => {
    const generator = await startGenerator({ url, connections });
    generators.push(generator);
    return generator;
  };
  try {
    let published = 0;
    const forRelay = await open(`${relay.url}/events/fanout`);
    const forBare = await open(bare.url);
    const parties = {
      relay: {
        pid: relay.pid,
        generator: forRelay,
        async send(pace) {
          await publish(database, {
            ...pace,
            channel: 'fanout',
            size: SIZE,
            after: published,
            inserted: (events) => forRelay.until(events * connections),
          });
          published += pace.events;
        },
      },
      bare: {
        pid: bare.pid,
        generator: forBare,
        send: (pace) => bare.write({ ...pace, size: SIZE }, (events) => forBare.until(events * connections)),
      },
    } satisfies Record<string, Party>;

    const results: Result[] = [];
    for (const { name, leastPerCpuSecond, ...pace } of PACES) {
      const rates = { relay: [] as number[], bare: [] as number[] };
      const ratios: number[] = [];
      for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
        const order = round % 2 === 0 ? (['relay', 'bare'] as const) : (['bare', 'relay'] as const);
        const rate = { relay: 0, bare: 0 };
        for (const party of order) rate[party] = await turn(parties[party], pace, connections);
        if (round < 0) continue;
        rates.relay.push(rate.relay);
        rates.bare.push(rate.bare);
        ratios.push(rate.relay / rate.bare);
      }
      const ratio = median(ratios);
      const perCpuSecond = median(rates.relay);
      const reports = { relay: await parties.relay.generator.report(), bare: await parties.bare.generator.report() };
      results.push({
        part: `fanout, ${name}`,
        title: `An event of ${SIZE} bytes to ${connections} clients, ${name}, ${rounds} rounds of ${pace.events}: medians`,
        rows: (['relay', 'bare'] as const).map((party) => ({
          party: party === 'bare' ? 'bare writer' : 'relay',
          'deliveries/CPU s': Math.round(median(rates[party])),
          'generator: deliveries/CPU s': Math.round(reports[party].generator.perCpuSecond),
          'p50 ms': reports[party].latency.p50,
          'p99 ms': reports[party].latency.p99,
        })),
        ratio,
        bar: {
          is: `ratio at least ${LEAST_RATIO}${leastPerCpuSecond > 0 ? ` and ${leastPerCpuSecond} deliveries/CPU s` : ''}`,
          holds: ratio >= LEAST_RATIO && perCpuSecond >= leastPerCpuSecond,
        },
      });
    }
    return results;
  } finally {
    for (const generator of generators) await generator.close();
    await Promise.all([relay.stop(), bare.stop(), database.end()]);
  }
}

/** @returns deliveries per CPU second of the party's process. @throws where one went wrong. */
async function turn(
  { pid, generator, send }: Party,
  pace: { burst: number; events: number; rate: number },
  connections: number,
): Promise<number> {
  const expected = pace.events * connections;
  await generator.reset();
  const before = cpuSeconds(pid);
  await send(pace);
  await generator.until(expected);
  const spent = cpuSeconds(pid) - before;
  const { deliveries, gaps, doubles, disorder } = await generator.report();
  if (deliveries !== expected || gaps + doubles + disorder > 0) {
    throw new Error(`${deliveries} of ${expected} came, ${gaps} gaps, ${doubles} doubles, ${disorder} out of order`);
  }
  return expected / spent;
}
