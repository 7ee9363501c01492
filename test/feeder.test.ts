/** Feeders append each position once, in order and without a hole, whatever happens to them, to the engine and to the outbox. */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { through } from '../src/engine/entry.js';
import { createFakeEngine, noEngineFaults, randomEngineFaults } from './support/fake-engine-log.js';
import { faultsOf, leadsThrough, startMember, until, type Member } from './support/feeding-crew.js';
import { createMemoryOutbox, noFaults, randomFaults } from './support/memory-outbox.js';
import { randomOf, seedFromEnvironment } from './support/random.js';

function stage() {
  const outbox = createMemoryOutbox(noFaults);
  const engine = createFakeEngine(noEngineFaults);
  const members: Member[] = [];
  const start = async (
    ...origin: Parameters<typeof startMember> extends [unknown, unknown, unknown, ...infer Rest] ? Rest : never
  ) => {
    const member = await startMember(outbox, noFaults, engine, ...origin);
    members.push(member);
    return member;
  };
  const end = () => Promise.all(members.map(({ die }) => die()));
  return { outbox, engine, start, end };
}

test('what is published is in the log, in order, from where it began', async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  outbox.publish(['before']);
  await start();
  await until(() => engine.entries.length > 0, 'the log begins');
  const events = [...outbox.publish(['a', 'b']), ...outbox.publish(['c'])];
  await until(() => leadsThrough(engine, outbox), 'all is fed');
  const [begin, ...rest] = engine.entries.map(({ entry }) => entry);
  t.like(begin, { kind: 'begin', at: { position: 1n } });
  t.deepEqual(
    rest.flatMap((entry) => (entry?.kind === 'run' ? entry.events.map(({ id, frame }) => [id, String(frame)]) : [])),
    events.map(({ id, frame }) => [id, String(frame)]),
  );
});

test('frames above 256 KiB go by reference, and no entry has more than 1 MiB', async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  await start();
  await until(() => engine.entries.length > 0, 'the log begins');
  outbox.publish(['large'], 300 * 1024);
  outbox.publish(
    Array.from({ length: 40 }, () => 'middle'),
    100 * 1024,
  );
  outbox.publish(
    Array.from({ length: 3000 }, () => '\u0001'.repeat(255)),
    10,
  );
  await until(() => leadsThrough(engine, outbox), 'all is fed');
  const runs = engine.entries.flatMap(({ entry }) => (entry?.kind === 'run' ? [entry] : []));
  t.is(runs[0]?.events[0]?.frame, undefined);
  t.true(engine.largest <= 1024 ** 2, `${engine.largest}`);
  t.deepEqual(faultsOf(engine.entries, new Map(outbox.events.map(({ position, id }) => [position, id]))), []);
});

test('a redacted event is told of and its entry is gone, whether a feeder was there or not', async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  const first = await start();
  await until(() => engine.entries.length > 0, 'the log begins');
  const [event] = outbox.publish(['a']);
  await until(() => leadsThrough(engine, outbox), 'it is fed');
  outbox.publish(['b']);
  await until(() => leadsThrough(engine, outbox), 'it is fed');
  const position = event?.position ?? 0n;
  const has = (at: bigint) =>
    engine.entries.some(({ entry }) => entry?.kind === 'run' && entry.events.some((one) => one.position === at));
  t.true(has(position));
  outbox.redact(position);
  await until(() => !has(position), 'it is erased');
  t.true(has(position + 1n), 'the others stay');
  t.true(engine.entries.some(({ entry }) => entry?.kind === 'evict' && entry.redacted.includes(position)));
  await first.die();
  outbox.redact(position + 1n);
  await start();
  await until(() => !has(position + 1n), 'the next feeder erases what was redacted meanwhile');
  outbox.publish(['c']);
  await until(() => leadsThrough(engine, outbox), 'it is fed');
  const evicts = engine.accepted;
  await (await start()).feeding.tail.upToDate();
  await delay(200);
  t.is(engine.accepted, evicts, 'and none tells of it again');
});

test('what is deleted is gone from the log, too', async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  await start();
  await until(() => engine.entries.length > 0, 'the log begins');
  for (let count = 0; count < 5; count += 1) {
    outbox.publish(['a']);
    await until(() => leadsThrough(engine, outbox), 'it is fed');
  }
  outbox.deleteThrough(3n);
  await until(
    () => engine.entries.every(({ entry }) => entry?.kind !== 'run' || entry.prev >= 3n),
    'entries up to the floor are erased',
  );
  t.true(engine.entries.some(({ entry }) => entry?.kind === 'evict' && entry.floor.position === 3n));
});

test('whoever is told of a redaction knows from where on no entry has what was there before', async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  await start();
  await start();
  await until(() => engine.entries.length > 0, 'the log begins');
  const [event] = outbox.publish(['a']);
  await until(() => leadsThrough(engine, outbox), 'it is fed');
  const relay = engine.open();
  const before = await relay.feeders.changesSince(undefined, 0n);
  outbox.redact(event?.position ?? 0n);
  const changes = await relay.feeders.changesSince(before.state, 0n);
  t.true(changes.redacted.includes(event?.position ?? 0n));
  const evict = engine.entries.find(({ entry }) => entry?.kind === 'evict' && entry.redacted.length > 0);
  t.true(evict !== undefined && evict.sequence <= changes.sequence);
  t.true((await relay.feeders.isSameHistory({ ...outbox.head, createdAt: undefined })).isSame);
  t.false((await relay.feeders.isSameHistory({ position: 99n, id: '99', createdAt: undefined })).isSame);
});

test('a restore begins another history, and events that were deleted unread are told of', async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  const first = await start();
  await until(() => engine.entries.length > 0, 'the log begins');
  outbox.publish(['a', 'b', 'c']);
  await until(() => leadsThrough(engine, outbox), 'it is fed');
  outbox.restore(1n);
  outbox.publish(['d']);
  await until(() => leadsThrough(engine, outbox), 'the new history is fed');
  const epochs = new Set(engine.entries.map(({ entry }) => entry?.epoch));
  t.is(epochs.size, 2);
  t.true(engine.entries.some(({ entry }) => entry?.kind === 'restart' && entry.reason === 'unknown'));
  await first.die();
  outbox.publish(['e', 'f']);
  outbox.deleteThrough(outbox.head.position);
  outbox.publish(['g']);
  await start();
  await until(() => leadsThrough(engine, outbox), 'what follows the floor is fed');
  t.true(engine.entries.some(({ entry }) => entry?.kind === 'restart' && entry.reason === 'expired'));
});

test('a primary that was deposed is fenced by the first entry from its successor, and feeds again where it is promoted', async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  const origin = (timeline: number) => ({ system: 's', timeline, wal: 1n });
  let timeline = 1;
  const old = await start(() => origin(timeline));
  await until(() => engine.entries.length > 0, 'the log begins');
  await start(() => origin(2));
  await until(() => engine.entries.at(-1)?.entry?.timeline === 2, 'the successor has fenced it');
  outbox.publish(['a']);
  await until(() => leadsThrough(engine, outbox), 'it is fed');
  await until(() => old.feeding.feeder.fence !== undefined, 'the old one knows');
  t.false(old.feeding.readiness().ready);
  t.true(old.feeding.readiness().reasons.some(({ code }) => code === 'older_timeline'));
  timeline = 2;
  await until(() => old.feeding.feeder.fence === undefined && old.feeding.readiness().ready, 'it feeds again');
});

test("another outbox's stream is told, and nothing is appended to it", async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  outbox.publish(['a', 'b']);
  await start();
  await until(() => engine.entries.length > 0, 'the log begins');
  outbox.publish(['c']);
  await until(() => leadsThrough(engine, outbox), 'it is fed');
  const other = createMemoryOutbox(noFaults);
  for (let count = 0; count < 9; count += 1) other.publish(['x']);
  other.deleteThrough(9n);
  other.publish(['x']);
  const before = engine.accepted;
  const member = await startMember(other, noFaults, engine, () => ({ system: 'another', timeline: 1, wal: 1n }));
  t.teardown(member.die);
  await until(() => member.feeding.feeder.fence?.reason === 'other_outbox', 'it is told');
  t.is(engine.accepted, before);
  t.true(member.feeding.readiness().reasons.some(({ code }) => code === 'other_outbox'));
  await t.throwsAsync(() =>
    Promise.resolve(engine.open().feeders.changesSince('0', 0n)).then(() => member.feeding.tail.upToDate()),
  );
});

test('entries that cannot be read are counted, and the log goes on after them', async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  const { feeding } = await start();
  await until(() => engine.entries.length > 0, 'the log begins');
  engine.inject(Buffer.from('forged'));
  outbox.publish(['a']);
  await until(() => leadsThrough(engine, outbox), 'it is fed');
  t.is(feeding.feeder.totals.unreadable, 1);
  t.deepEqual(faultsOf(engine.entries, new Map(outbox.events.map(({ position, id }) => [position, id]))), []);
});

test('a log that loses its end, or all that it has, is fed again', async (t) => {
  const { outbox, engine, start, end } = stage();
  t.teardown(end);
  await start();
  await until(() => engine.entries.length > 0, 'the log begins');
  for (const channels of [['a'], ['b', 'c'], ['d']]) {
    outbox.publish(channels);
    await until(() => leadsThrough(engine, outbox), 'it is fed');
  }
  engine.truncate(2);
  await until(() => leadsThrough(engine, outbox), 'its end is fed again');
  t.deepEqual(faultsOf(engine.entries, new Map(outbox.events.map(({ position, id }) => [position, id]))), []);
  engine.cutAnew();
  await until(() => leadsThrough(engine, outbox), 'it begins anew');
  outbox.publish(['e']);
  await until(() => leadsThrough(engine, outbox), 'and goes on');
});

for (const round of [1, 2, 3, 4]) {
  test(`three feeders that die at any step, on an engine and an outbox that fail, leave no hole and no double: ${round}`, async (t) => {
    const seed = seedFromEnvironment();
    t.log(`SEED=${seed}`);
    const random = randomOf(seed, t.title);
    const faults = randomFaults(randomOf(seed, 'outbox').next);
    const outbox = createMemoryOutbox(faults);
    const engine = createFakeEngine(randomEngineFaults(randomOf(seed, 'engine').next));
    const published = new Map<bigint, string>();
    const publish = (count: number) => {
      const commits = Array.from({ length: count }, () =>
        outbox.begin(Array.from({ length: random.integer(1, 4) }, () => 'a')),
      );
      for (const commit of random.sample(commits, count)) {
        if (random.chance(0.1)) commit.fail();
        else for (const { position, id } of commit.succeed()) published.set(position, id);
      }
    };
    const start = () => startMember(outbox, faults, engine);
    let members: Member[] = await Promise.all([start(), start(), start()]);
    for (let step = 0; step < 60; step += 1) {
      publish(random.integer(0, 5));
      await delay(random.integer(0, 15));
      if (random.chance(0.2) && outbox.events.length > 0)
        outbox.redact(random.pick([outbox.events.at(-1)?.position ?? 1n, outbox.events[0]?.position ?? 1n]));
      if (random.chance(0.05)) outbox.deleteThrough(outbox.head.position - BigInt(random.integer(0, 20)));
      if (random.chance(0.1)) {
        engine.isAway = true;
        await delay(random.integer(0, 30));
        engine.isAway = false;
      }
      if (random.chance(0.15)) {
        const [dying, ...others] = random.sample(members, members.length);
        await dying?.die();
        members = [...others, await start()];
      }
    }
    await until(() => leadsThrough(engine, outbox), 'all is fed');
    await Promise.all(members.map(({ die }) => die()));
    // What was erased leaves a hole in the sequences, and in the chain.
    const { entries } = engine;
    const parts: (typeof entries)[number][][] = [];
    for (const entry of entries) {
      const part = parts.at(-1);
      if (part?.at(-1)?.sequence === entry.sequence - 1n) part.push(entry);
      else parts.push([entry]);
    }
    for (const part of parts) t.deepEqual(faultsOf(part, published), []);
    t.log(`${engine.accepted} entries accepted`);
    t.true(engine.accepted > 5);
    const unknown = entries.filter(({ entry }) => entry?.kind === 'restart' && entry.reason === 'unknown');
    t.deepEqual(unknown, [], 'nothing was lost');
    const ends = entries.flatMap(({ entry }) => (entry ? [through(entry).position] : []));
    t.deepEqual(
      ends,
      [...ends].sort((a, b) => Number(a - b)),
      'in order',
    );
  });
}

test('an engine that takes entries whatever they expect is found: what is judged here can fail', async (t) => {
  const outbox = createMemoryOutbox(noFaults);
  const engine = createFakeEngine(randomEngineFaults(randomOf(1, 'engine').next), undefined, true);
  const published = new Map<bigint, string>();
  const members = await Promise.all([1, 2, 3].map(() => startMember(outbox, noFaults, engine)));
  await until(() => {
    for (const { position, id } of outbox.publish(['a', 'b'])) published.set(position, id);
    return faultsOf(engine.entries, published).length > 0;
  }, 'an entry does not follow from the one before');
  await Promise.all(members.map(({ die }) => die()));
  t.true(faultsOf(engine.entries, published).length > 0);
});
