/**
 * Channels: what an event costs where thousands of others idle on channels of their own. Two relays read the same outbox: one has the
 * crowd, one has not, and both have the same readers on the busy channel. So each event is measured twice, in the same moment.
 *
 * Heartbeats are switched off: they are a cost of the idle, not of the event.
 */
import pg from 'pg';
import { startObservedRelay } from '../test/support/observed-relay.js';
import { startGenerator, type RemoteGenerator } from './load/child.js';
import { publish } from './load/publish.js';
import type { Result } from './result.js';
import { cpuSeconds, median, residentBytes } from './usage.js';

export interface ChannelsOptions {
  readonly idle: number;
  readonly readers: number;
  readonly rounds: number;
}

const PACE = { events: 300, rate: 100, size: 300 } as const;
const WARM_UP_ROUNDS = 3;
const MOST_RATIO = 1.2;

export async function measureChannels(
  databaseUrl: string,
  { idle, readers, rounds }: ChannelsOptions,
): Promise<Result> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  const start = () =>
    startObservedRelay(
      { DATABASE_URL: databaseUrl, PUBLIC_CHANNELS: '*', HEARTBEAT_SECONDS: '3600', LOG_LEVEL: 'info' },
      { collects: false },
    );
  const relays = { alone: await start(), crowded: await start() };
  const generators: RemoteGenerator[] = [];
  try {
    const busy: RemoteGenerator[] = [];
    for (const { url } of Object.values(relays)) {
      busy.push(await startGenerator({ url: `${url}/events/busy`, connections: readers }));
    }
    generators.push(...busy);
    generators.push(await startGenerator({ url: `${relays.crowded.url}/events/idle-{n}`, connections: idle }));
    const costs = { alone: [] as number[], crowded: [] as number[] };
    const ratios: number[] = [];
    for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
      await Promise.all(busy.map((generator) => generator.reset()));
      const before = { alone: cpuSeconds(relays.alone.pid), crowded: cpuSeconds(relays.crowded.pid) };
      await publish(database, { ...PACE, channel: 'busy', after: (round + WARM_UP_ROUNDS) * PACE.events });
      await Promise.all(busy.map((generator) => generator.until(PACE.events * readers)));
      const cost = (name: 'alone' | 'crowded') => ((cpuSeconds(relays[name].pid) - before[name]) / PACE.events) * 1e6;
      const [alone, crowded] = [cost('alone'), cost('crowded')];
      if (round < 0) continue;
      costs.alone.push(alone);
      costs.crowded.push(crowded);
      ratios.push(crowded / alone);
    }
    const ratio = median(ratios);
    return {
      part: 'channels',
      title: `An event for ${readers} readers of one channel, ${rounds} rounds of ${PACE.events}: medians`,
      rows: (['alone', 'crowded'] as const).map((name) => ({
        others: name === 'alone' ? 'none' : `${idle} idle, each on a channel of its own`,
        'CPU µs/event': median(costs[name]),
        'resident MiB': residentBytes(relays[name].pid) / 1024 ** 2,
      })),
      ratio,
      bar: { is: `at most ${MOST_RATIO}`, holds: ratio <= MOST_RATIO },
    };
  } finally {
    for (const generator of generators) await generator.close();
    await Promise.all([relays.alone.stop(), relays.crowded.stop(), database.end()]);
  }
}
