/**
 * Growth: how the cost of an event grows with the connections that get it, and that of a delivery with the events that come in a second. Drawn
 * as a picture, whose knees RESULTS.md explains.
 */
import { writeFile } from 'node:fs/promises';
import pg from 'pg';
import { startObservedRelay, type ObservedRelay } from '../test/support/observed-relay.js';
import { chart, type Series } from './chart.js';
import { startGenerator, type RemoteGenerator } from './load/child.js';
import { publish } from './load/publish.js';
import type { Result } from './result.js';
import { cpuSeconds, median, openFilesLimit } from './usage.js';

export interface GrowthOptions {
  readonly connections: readonly number[];
  readonly rates: readonly number[];
  /** Where the picture goes. */
  readonly picture: string;
}

const SIZE = 300;
const OTHER_FILES = 100;
/** Rounds for each number of connections, and events in one of them. */
const ROUNDS = 3;
const EVENTS = 20;
const EVENTS_PER_SECOND = 5;
/** Readers while the rate grows, and for how long each rate is kept up, in seconds. */
const READERS = 100;
const SECONDS = 3;
/** INSERTs in a second, at the most: of higher rates, several events are in one. */
const MOST_INSERTS = 1000;
/** By how much the cost of a delivery may grow from the fewest connections to the most. */
const MOST_RATIO = 1.5;

export async function measureGrowth(databaseUrl: string, options: GrowthOptions): Promise<Result[]> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  // Else a busy disk decides how many events come in a second.
  await database.query('SET synchronous_commit = off');
  const relay = await startObservedRelay(
    { DATABASE_URL: databaseUrl, PUBLIC_CHANNELS: '*', HEARTBEAT_SECONDS: '3600', LOG_LEVEL: 'info' },
    { collects: false },
  );
  try {
    const most = openFilesLimit() - OTHER_FILES;
    const sizes = [...new Set(options.connections.map((size) => Math.min(size, most)))];
    const byRate = await growByRate(database, relay, options.rates);
    const byConnections = await growByConnections(database, relay, sizes);
    const series: Series[] = [
      {
        title: 'CPU for one event, by its readers',
        x: 'connections',
        y: 'CPU ms/event',
        points: byConnections.map(({ connections, milliseconds }) => [connections, milliseconds]),
      },
      {
        title: 'CPU for one delivery, by events in a second',
        x: `events/s, each to ${READERS} readers`,
        y: 'CPU µs/delivery',
        points: byRate.map(({ reached, microseconds }) => [reached, microseconds]),
      },
    ];
    await writeFile(options.picture, chart(series));
    const [fewest, last] = [byConnections[0], byConnections.at(-1)];
    const each = (of: typeof fewest) => (of ? of.milliseconds / of.connections : Number.NaN);
    const ratio = each(last) / each(fewest);
    const [slowest, fastest] = [byRate[0], byRate.at(-1)];
    const fall = (fastest?.microseconds ?? Number.NaN) / (slowest?.microseconds ?? Number.NaN);
    return [
      {
        part: 'growth, connections',
        title: `An event of ${SIZE} bytes, one at a time, medians of ${ROUNDS} rounds of ${EVENTS}; the ratio is that of µs/delivery`,
        rows: byConnections.map(({ connections, milliseconds }) => ({
          connections,
          'CPU ms/event': milliseconds,
          'CPU µs/delivery': (milliseconds * 1000) / connections,
        })),
        ratio,
        bar: {
          is: `a delivery to the most costs at most ${MOST_RATIO} of one to the fewest`,
          holds: ratio <= MOST_RATIO,
        },
      },
      {
        part: 'growth, rate',
        title: `Events of ${SIZE} bytes to ${READERS} readers, medians of ${ROUNDS} rounds of about ${SECONDS} s; the ratio is last to first`,
        rows: byRate.map(({ rate, reached, microseconds, share }) => ({
          'events/s': rate,
          reached,
          'CPU µs/delivery': microseconds,
          "relay's share of a core": share,
        })),
        ratio: fall,
        bar: { is: 'a delivery costs no more at the highest rate than at the lowest', holds: fall <= 1 },
      },
    ];
  } finally {
    await Promise.all([relay.stop(), database.end()]);
  }
}

async function growByConnections(database: pg.Client, relay: ObservedRelay, sizes: readonly number[]) {
  const generators: RemoteGenerator[] = [];
  const found: { connections: number; milliseconds: number }[] = [];
  let [open, published] = [0, 0];
  for (const connections of sizes) {
    generators.push(await startGenerator({ url: `${relay.url}/events/growth`, connections: connections - open }));
    open = connections;
    const costs: number[] = [];
    // The first round warms up.
    for (let round = -1; round < ROUNDS; round += 1) {
      await Promise.all(generators.map((generator) => generator.reset()));
      const before = cpuSeconds(relay.pid);
      await publish(database, {
        channel: 'growth',
        events: EVENTS,
        rate: EVENTS_PER_SECOND,
        size: SIZE,
        after: published,
        inserted: (events) => allArrived(generators, sizes, events),
      });
      published += EVENTS;
      if (round >= 0) costs.push(((cpuSeconds(relay.pid) - before) / EVENTS) * 1000);
    }
    found.push({ connections, milliseconds: median(costs) });
  }
  for (const generator of generators) await generator.close();
  return found;
}

/** Each generator has the connections by which a size is larger than the one before. */
async function allArrived(
  generators: readonly RemoteGenerator[],
  sizes: readonly number[],
  events: number,
): Promise<void> {
  await Promise.all(
    generators.map((generator, n) => generator.until(events * ((sizes[n] ?? 0) - (sizes[n - 1] ?? 0)))),
  );
}

async function growByRate(database: pg.Client, relay: ObservedRelay, rates: readonly number[]) {
  const generator = await startGenerator({ url: `${relay.url}/events/rate`, connections: READERS });
  const found: { rate: number; reached: number; microseconds: number; share: number }[] = [];
  let published = 0;
  for (const rate of rates) {
    const events = rate * SECONDS;
    const runs: { reached: number; microseconds: number; share: number }[] = [];
    for (let round = -1; round < ROUNDS; round += 1) {
      await generator.reset();
      const before = cpuSeconds(relay.pid);
      const began = performance.now();
      const burst = Math.max(1, Math.ceil(rate / MOST_INSERTS));
      await publish(database, { channel: 'rate', events, rate, burst, size: SIZE, after: published });
      published += events;
      await generator.until(events * READERS);
      const seconds = (performance.now() - began) / 1000;
      const cpu = cpuSeconds(relay.pid) - before;
      if (round < 0) continue;
      runs.push({ reached: events / seconds, microseconds: (cpu / (events * READERS)) * 1e6, share: cpu / seconds });
    }
    const middle = (name: keyof (typeof runs)[number]) => median(runs.map((run) => run[name]));
    found.push({ rate, reached: middle('reached'), microseconds: middle('microseconds'), share: middle('share') });
  }
  await generator.close();
  return found;
}
