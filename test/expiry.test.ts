/**
 * A right ends: when it does, so does the stream, in whatever state it is.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { startDeadlines } from '../src/stream/deadlines.js';
import { createDatabase } from './support/database.js';
import { json, startServer } from './support/http-server.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, request } from './support/request.js';
import { openStream, type TestStream } from './support/stream.js';
import { inSeconds, SECRET, sign, tokenFor } from './support/token.js';

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;
const ERROR = { event: 'stream-error', condition: 'expired' };

async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { PUBLIC_CHANNELS: '', JWT_SECRET: SECRET, ...env });
  return { database, relay, url: relay.url };
}

async function openFor(t: ExecutionContext, url: string, path: string, seconds: number) {
  const exp = inSeconds(seconds);
  const headers = { Authorization: `Bearer ${await tokenFor(['a'], { exp })}` };
  return { stream: await openStream(t, url + path, headers), headers, expiresAt: exp * 1000 };
}

/** Checks that the stream ended with the error, which moved no cursor. */
function endedAsExpired(t: ExecutionContext, { frames }: TestStream): void {
  const last = frames.at(-1);
  t.is(last?.event, ERROR.event);
  t.is((JSON.parse(last?.data ?? '{}') as { condition?: string }).condition, ERROR.condition);
  t.is(last?.id, undefined);
  t.true((last?.retry ?? 0) > 0, 'told when to come back');
  t.is(frames.filter(({ event }) => event === ERROR.event).length, 1);
}

test('R8: at its end a live stream is told so and closed, and does not come back without a fresh token', async (t) => {
  const { database, relay, url } = await setUp(t);
  const { stream, headers, expiresAt } = await openFor(t, url, '/events/a', 2);
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '1')");
  await stream.untilEvents(1);
  await stream.ended;
  endedAsExpired(t, stream);
  t.true(Date.now() >= expiresAt, 'it ended early');
  t.is((await request(url, '/events/a', { headers })).status, 401);
  while (relay.streams > 0) await delay(POLL_MS);

  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '2')");
  const fresh = { Authorization: `Bearer ${await tokenFor(['a'])}`, 'Last-Event-ID': stream.lastEventId };
  const resumed = await openStream(t, `${url}/events/a`, fresh);
  t.deepEqual(
    (await resumed.untilEvents(1)).map(({ data }) => data),
    ['2'],
  );
});

test('R8: no event is written after the end, however late the clock of the relay ticks', async (t) => {
  const { database, url } = await setUp(t);
  const { stream, expiresAt } = await openFor(t, url, '/events/a', 2);
  await stream.until(({ event }) => event === 'stream-open');
  let number = 0;
  while (Date.now() < expiresAt + 300) {
    number += 1;
    await database.query("INSERT INTO outbox (channel, data) VALUES ('a', to_jsonb($1::bigint))", [Date.now()]);
    await delay(5);
  }
  await stream.ended;
  endedAsExpired(t, stream);
  t.true(stream.events.length > 0 && stream.events.length < number, `${stream.events.length} of ${number}`);
  for (const { data } of stream.events) t.true(Number(data) < expiresAt, `${data} after ${expiresAt}`);
});

test('R8: a long replay ends in the middle when the right does, and goes on from there with a fresh one', async (t) => {
  const { database, relay, url } = await setUp(t, { WINDOW_MEGABYTES: '1', REPLAY_MEGABYTES: '1' });
  const rows = 60_000;
  await database.query(
    `INSERT INTO outbox (channel, data) SELECT 'a', jsonb_build_object('n', n, 'x', repeat(md5(n::text), 30))
     FROM generate_series(1, $1::int) AS n`,
    [rows],
  );
  const { stream, expiresAt } = await openFor(t, url, '/events/a?last_event_id=earliest', 2);
  // It reads as slowly as it takes not to be done.
  const slow = setInterval(() => {
    stream.pause();
    setTimeout(() => stream.resume(), 40);
  }, 50);
  t.teardown(() => clearInterval(slow));
  // What was written by then it takes at its own pace.
  setTimeout(() => clearInterval(slow), Math.max(0, expiresAt - Date.now()));
  await stream.ended;
  endedAsExpired(t, stream);
  t.true(stream.events.length > 0 && stream.events.length < rows, `${stream.events.length} events`);
  while (relay.streams > 0) await delay(POLL_MS);
  t.is(relay.waitingBytes, 0);

  const numbers = (of: TestStream) => of.events.map(({ data }) => (JSON.parse(data ?? '') as { n: number }).n);
  const resumed = await openStream(t, `${url}/events/a`, {
    Authorization: `Bearer ${await tokenFor(['a'])}`,
    'Last-Event-ID': stream.lastEventId,
  });
  await resumed.untilEvents(rows - stream.events.length);
  t.deepEqual(
    [...numbers(stream), ...numbers(resumed)],
    Array.from({ length: rows }, (_, index) => index + 1),
  );
});

test('R8: a client that reads nothing is cut off when its right has ended', async (t) => {
  const { database, relay, url } = await setUp(t, { WINDOW_MEGABYTES: '1' });
  await database.query(
    "INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(repeat(md5(n::text), 300)) FROM generate_series(1, 2000) AS n",
  );
  // Long enough to get in, however busy the machine is.
  const token = await tokenFor(['a'], { exp: inSeconds(5) });
  const { socket } = openRaw(
    t,
    url,
    `GET /events/a?last_event_id=earliest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  );
  socket.pause();
  while (relay.streams === 0) await delay(POLL_MS);
  while (relay.streams > 0) await delay(POLL_MS);
  t.is(relay.waitingBytes, 0);
});

test('R8: a right that the application gave ends as a token does', async (t) => {
  const app = await startServer(t, (_, response) => json(response, 200, { channels: ['a'], expires_in: 1 }));
  const { url } = await setUp(t, { JWT_SECRET: '', FORWARD_AUTH_URL: app.url });
  const stream = await openStream(t, `${url}/events/a`);
  await stream.ended;
  endedAsExpired(t, stream);
  // The answer that was kept has ended too.
  await openStream(t, `${url}/events/a`);
  t.is(app.requests.length, 2);
});

test('a token without an end gives a stream without an end', async (t) => {
  const { database, url } = await setUp(t, { JWT_REQUIRE_EXP: 'false' });
  const headers = { Authorization: `Bearer ${await sign({ channels: ['a'] })}` };
  const stream = await openStream(t, `${url}/events/a`, headers);
  await delay(1500);
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '1')");
  await stream.untilEvents(1);
  t.false(stream.frames.some(({ event }) => event === ERROR.event));
});

test('deadlines are met in any order, within a second and a tick, and not after they were taken back', async (t) => {
  const met = new Map<string, number>();
  const timer = startDeadlines<string>((name) => met.set(name, Date.now()));
  t.teardown(() => timer.stop());
  const start = Date.now();
  const deadlines = { later: start + 1600, past: start - 5000, soon: start + 200, gone: start + 300, never: Infinity };
  for (const [name, at] of Object.entries(deadlines)) timer.add(name, at);
  timer.remove('gone', deadlines.gone);
  timer.remove('unknown', deadlines.soon);
  while (met.size < 3) await delay(POLL_MS);
  t.deepEqual([...met.keys()], ['past', 'soon', 'later']);
  for (const name of ['soon', 'later'] as const) t.true((met.get(name) ?? 0) >= deadlines[name]);
});
