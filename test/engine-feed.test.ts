/** The feed by way of an engine's log keeps to what its readers rely on, whatever the engine does that it may do. */
import test from 'ava';
import { pino } from 'pino';
import type { EngineLog } from '../src/engine/engine-log.js';
import type { Cursor } from '../src/event/event.js';
import { openLog } from '../src/feed/start-up.js';
import { startTail } from '../src/feed/tail.js';
import { startWakeups } from '../src/feed/wakeups.js';
import { createFakeEngine, noEngineFaults, randomEngineFaults, type EngineFaults } from './support/fake-engine-log.js';
import { onEngine } from './support/engine-stage.js';
import { declareFeedSuite, patiently } from './support/feed-conformance.js';
import { randomOf, seedFromEnvironment } from './support/random.js';

declareFeedSuite("the feed from an engine's log", (t) => {
  const engine = createFakeEngine();
  return onEngine(t, engine.open, 1);
});

/** Between two things that happen to the log. */
const HARM_MS = 100;

/** The same connection, on which each read and each question may fail, before it is answered or after. */
function failing(log: EngineLog, { call }: EngineFaults): EngineLog {
  const { feeders } = log;
  return Object.assign(Object.create(log) as EngineLog, {
    tip: () => call(log.tip),
    find: (position: bigint) => call(() => log.find(position)),
    read: (sequence: bigint) => call(() => log.read(sequence)),
    feeders: {
      changesSince: (...asked: Parameters<typeof feeders.changesSince>) => call(() => feeders.changesSince(...asked)),
      isSameHistory: (...asked: Parameters<typeof feeders.isSameHistory>) =>
        call(() => feeders.isSameHistory(...asked)),
    },
  });
}

declareFeedSuite("the feed from an engine's log that loses, doubles, delays and fails, with two feeders", (t) => {
  const seed = seedFromEnvironment();
  t.log(`SEED=${seed}`);
  const faults = randomEngineFaults(randomOf(seed, t.title).next);
  // Whether feeders get by with calls that fail, test/feeder.test.ts has.
  const engine = createFakeEngine({ ...faults, call: noEngineFaults.call });
  return onEngine(t, engine.open, 2, () => failing(engine.open(), faults));
});

test('R3, R6: who follows gets each event once and in order, whatever of the log is lost, doubled, late, damaged or gone', async (t) => {
  const seed = seedFromEnvironment();
  t.log(`SEED=${seed}`);
  const random = randomOf(seed, t.title);
  const faults = randomEngineFaults(random.next);
  const engine = createFakeEngine({ ...faults, call: noEngineFaults.call });
  const { feed, publish } = await onEngine(t, engine.open, 2, () => failing(engine.open(), faults));
  const log = await patiently(() => openLog(feed, 1_000_000));
  const tail = startTail({ feed, log, logger: pino({ level: process.env['TEST_LOG'] === '1' ? 'warn' : 'silent' }) });
  const delivered: string[] = [];
  tail.onDelivered((events) => delivered.push(...events.map(({ id }) => id)));
  const wakeups = await startWakeups({ sweepSeconds: 0.3, pollSeconds: 0.3, glanceSeconds: 0.3 }, { feed, tail });
  t.teardown(async () => {
    await wakeups.stop();
    await tail.stop();
  });

  const newest = () => engine.entries.at(-1)?.sequence ?? 0n;
  const harms = [
    () => engine.corrupt(newest()),
    () => engine.corrupt(newest() - 1n),
    () => engine.expire(newest() - 1n),
    () => engine.inject(Buffer.from('nobody has made this')),
    () => {
      engine.isAway = true;
      setTimeout(() => (engine.isAway = false), 100);
    },
  ];
  const harming = setInterval(() => random.sample(harms, 1)[0]?.(), HARM_MS);
  const published: Cursor[] = [];
  for (let round = 0; round < 12; round += 1) {
    published.push(...(await publish(Array.from({ length: random.integer(1, 30) }, () => 'a'))));
  }
  clearInterval(harming);
  const last = published.at(-1);
  await new Promise<void>((reached) => log.whenReached(last?.position ?? 0n, reached));
  // It is delivered a moment after that.
  await new Promise(setImmediate);
  t.deepEqual(
    delivered,
    published.map(({ id }) => id),
  );
});
