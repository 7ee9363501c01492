/**
 * Streams that the relay ends: those that take nothing, and those that are old.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createDatabase } from './support/database.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw } from './support/request.js';
import { openStream } from './support/stream.js';

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;
const ROWS = 3000;

async function setUp(t: ExecutionContext, env: Environment) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { WINDOW_MEGABYTES: '1', ...env });
  return { database, relay, url: relay.url };
}

test('R5: a client that takes nothing for STALL_SECONDS is dropped; one that reads slowly, or is idle, is not', async (t) => {
  const { database, relay, url } = await setUp(t, { STALL_SECONDS: '1' });
  await database.query(
    `INSERT INTO outbox (channel, data) SELECT 'long', to_jsonb(repeat(md5(n::text), 100)) FROM generate_series(1, ${ROWS}) AS n`,
  );
  const path = '/events/long?last_event_id=earliest';
  const idle = await openStream(t, `${url}/events/other`);
  await idle.until(({ event }) => event === 'stream-open');
  const slow = openRaw(t, url, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  // Some now and then, with pauses that are shorter than the limit and together longer.
  let taken = 0;
  slow.socket.pause();
  const reading = setInterval(() => {
    slow.socket.resume();
    setTimeout(() => slow.socket.pause(), 5);
    taken += 1;
  }, 200);
  t.teardown(() => clearInterval(reading));
  const stuck = openRaw(t, url, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  stuck.socket.pause();
  while (relay.streams < 3) await delay(POLL_MS);
  while (relay.streams === 3) await delay(POLL_MS);
  t.is(relay.streams, 2);
  await delay(2000);
  clearInterval(reading);
  t.true(taken > 5);
  t.is(relay.streams, 2, 'the slow and the idle one stay');
  slow.socket.resume();
  await slow.until(`id: ${ROWS}\n`);
});

test('after MAX_CONNECTION_SECONDS, less up to a fifth, a client is told to come back after a pause of its own, and resumes exactly', async (t) => {
  const { database, url } = await setUp(t, { MAX_CONNECTION_SECONDS: '3', RETRY_SECONDS: '1' });
  const began = Date.now();
  const streams = await Promise.all(Array.from({ length: 10 }, () => openStream(t, `${url}/events/a`)));
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '1')");
  await Promise.all(streams.map((stream) => stream.ended));
  t.true(Date.now() - began >= 2400, 'they ended early');
  const pauses = streams.map(({ frames }) => frames.at(-1)?.retry ?? 0);
  const told = streams.map(({ frames }) => JSON.parse(frames.at(-1)?.data ?? '') as unknown);
  t.deepEqual(
    told,
    pauses.map((retryMs) => ({ reason: 'age', retryMs })),
  );
  t.true(pauses.every((pause) => pause >= 1000 && pause <= 3000));
  t.true(new Set(pauses).size > 5, 'they would all be back at once');
  for (const stream of streams) {
    t.is(stream.events.length, 1);
    t.false(stream.frames.some(({ event }) => event === 'stream-error'));
  }
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '2')");
  const resumed = await openStream(t, `${url}/events/a`, { 'Last-Event-ID': streams[0]?.lastEventId });
  t.deepEqual(
    (await resumed.untilEvents(1)).map(({ data }) => data),
    ['2'],
  );
});
