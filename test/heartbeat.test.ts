import { mock } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { startHeartbeat, type Beating } from '../src/stream/heartbeat.js';
import { createDatabase } from './support/database.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { isHeartbeat, openStream, type TestStream } from './support/stream.js';

const SECONDS = 0.3;
/** Three periods: in that time something that comes once in each would have come. */
const LEEWAY_MS = 3 * SECONDS * 1000;

async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { HEARTBEAT_SECONDS: String(SECONDS), ...env });
  const publish = async (channel: string, count = 1, size = 10): Promise<string[]> => {
    const { rows } = await database.query<{ id: string }>(
      `INSERT INTO outbox (channel, data) SELECT $1, to_jsonb(repeat('x', $3)) FROM generate_series(1, $2) RETURNING id`,
      [channel, count, size],
    );
    return rows.map((row) => row.id);
  };
  const open = async (query: string, id?: string) => {
    const stream = await openStream(t, `${relay.url}/events?${query}`, id === undefined ? {} : { 'Last-Event-ID': id });
    await stream.until((frame) => frame.event === 'stream-open');
    return stream;
  };
  return { database, relay, publish, open };
}

/** The ids of heartbeats that moved the cursor. */
const heartbeats = (stream: TestStream) =>
  stream.frames.filter((frame) => isHeartbeat(frame) && frame.id !== undefined).map((frame) => frame.id);

test('an idle stream is told the newest id of any channel', async (t) => {
  const { publish, open } = await setUp(t);
  const stream = await open('channel=quiet');
  await stream.until((frame) => isHeartbeat(frame) && frame.id === '0');
  const [id] = await publish('other');
  await stream.until((frame) => isHeartbeat(frame) && frame.id === id);
  t.is(stream.events.length, 0);
  t.is(stream.lastEventId, id ?? '');
  t.deepEqual(JSON.parse(stream.frames.at(-1)?.data ?? ''), { lastEventId: id });
});

test('R3: a client that resumes at the id of a heartbeat gets exactly what follows it', async (t) => {
  const { publish, open } = await setUp(t);
  const [seen] = await publish('a');
  const stream = await open('channel=a&last_event_id=earliest');
  const [passed] = await publish('other');
  await stream.until((frame) => isHeartbeat(frame) && frame.id === passed);
  stream.close();
  t.deepEqual(
    stream.events.map(({ id }) => id),
    [seen],
  );
  const [next] = await publish('a');
  const resumed = await open('channel=a', stream.lastEventId);
  await resumed.untilEvents(1);
  t.deepEqual(
    resumed.events.map(({ id }) => id),
    [next],
  );
  t.false(resumed.frames.some((frame) => frame.event === 'stream-reset'));
});

test('a heartbeat never runs ahead of a client that is still reading history, which gets them without an id', async (t) => {
  const { database, publish, open } = await setUp(t, { WINDOW_MEGABYTES: '0', REPLAY_MEGABYTES: '1' });
  const ids = await publish('a', 2000, 10_000);
  const stream = await open('channel=a&last_event_id=earliest');
  await stream.untilEvents(1);
  stream.pause();
  await database.withTablesLocked(async () => {
    stream.resume();
    await stream.until(isHeartbeat);
    t.true(stream.events.length < ids.length);
    t.deepEqual(heartbeats(stream), []);
  });
  await stream.until((frame) => isHeartbeat(frame) && frame.id === ids.at(-1));
  t.deepEqual(
    stream.events.map(({ id }) => id),
    ids,
  );
  const moved = stream.frames.findIndex((frame) => isHeartbeat(frame) && frame.id !== undefined);
  t.is(moved, stream.frames.length - 1, 'a heartbeat came before the last event');
});

test('a client whose cursor cannot be looked up yet gets heartbeats without an id', async (t) => {
  const { database, publish, open, relay } = await setUp(t);
  const [id] = await publish('a', 2);
  const waiting = await database.withTablesLocked(async () => {
    const stream = await openStream(t, `${relay.url}/events?channel=a&last_event_id=earliest`);
    const { id: none, data } = await stream.until(isHeartbeat);
    t.deepEqual([none, data], [undefined, '{"lastEventId":null}']);
    t.is(stream.lastEventId, '');
    return stream;
  });
  await waiting.untilEvents(2);
  t.is(waiting.events[0]?.id, id);
  const stream = await open('channel=a');
  await stream.until(isHeartbeat);
});

test('the heartbeats of a client that does not read never run ahead of what it was sent', async (t) => {
  const { publish, open } = await setUp(t);
  const stream = await open('channel=a');
  stream.pause();
  const ids: string[] = [];
  for (let batch = 0; batch < 10; batch += 1) ids.push(...(await publish('a', 100, 10_000)));
  const [other] = await publish('other');
  await delay(LEEWAY_MS);
  stream.resume();
  await stream.until((frame) => isHeartbeat(frame) && frame.id === other);
  t.deepEqual(
    stream.events.map(({ id }) => id),
    ids,
  );
  let passed = 0;
  for (const frame of stream.frames) {
    if (frame.data !== undefined && frame.event === undefined) passed += 1;
    if (!isHeartbeat(frame) || frame.id === undefined || frame.id === other) continue;
    t.is(frame.id, passed === 0 ? '0' : (ids[passed - 1] ?? ''));
  }
});

/** A wheel whose time passes when the test says so; `beats` are the ticks of each stream's heartbeats. */
function setUpWheel(t: ExecutionContext) {
  mock.timers.enable({ apis: ['setInterval'] });
  const heartbeat = startHeartbeat({ seconds: 15 });
  t.teardown(() => {
    heartbeat.stop();
    mock.timers.reset();
  });
  let second = 0;
  const add = () => {
    const beats: number[] = [];
    const stream: Beating = { wroteAt: 0, beat: () => void beats.push(second) };
    heartbeat.add(stream);
    return { stream, beats, write: () => (stream.wroteAt = heartbeat.now) };
  };
  const pass = (seconds: number, each: () => void = () => {}) => {
    for (let passed = 0; passed < seconds; passed += 1) {
      second += 1;
      mock.timers.tick(1000);
      each();
    }
  };
  return { heartbeat, add, pass };
}

test.serial('an idle stream has a heartbeat in each period, and no two streams wait for each other', (t) => {
  const { add, pass } = setUpWheel(t);
  const first = add();
  pass(4);
  const second = add();
  pass(60);
  t.deepEqual(first.beats, [15, 30, 45, 60]);
  t.deepEqual(second.beats, [19, 34, 49, 64]);
});

test.serial('a stream that is written to has none, and one a period after the last write', (t) => {
  const { add, pass } = setUpWheel(t);
  const { beats, write } = add();
  pass(100, () => write());
  t.deepEqual(beats, []);
  pass(10);
  write();
  pass(14);
  t.deepEqual(beats, []);
  pass(16);
  t.deepEqual(beats, [125, 140]);
});

test.serial('a write shortly before the period ends puts the heartbeat off by a whole one', (t) => {
  const { add, pass } = setUpWheel(t);
  const { beats, write } = add();
  pass(14);
  write();
  pass(14);
  t.deepEqual(beats, []);
  pass(1);
  t.deepEqual(beats, [29]);
});

test.serial('a stream that has left has none, also if it leaves in the turn of one', (t) => {
  const { heartbeat, add, pass } = setUpWheel(t);
  const gone = add();
  pass(7);
  heartbeat.remove(gone.stream);
  const streams = [add(), add(), add()];
  for (const { stream, beats } of streams) {
    const beat = stream.beat.bind(stream);
    stream.beat = () => {
      beat();
      if (beats.length === 1) heartbeat.remove(stream);
    };
  }
  pass(100);
  t.deepEqual(gone.beats, []);
  for (const { beats } of streams) t.deepEqual(beats, [22]);
});

test.serial('no time passes on a wheel that has stopped', (t) => {
  const { heartbeat, add, pass } = setUpWheel(t);
  const { beats } = add();
  heartbeat.stop();
  pass(100);
  t.deepEqual(beats, []);
});
