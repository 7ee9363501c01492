/**
 * LEGACY_PATHS: the addresses of relays over NOTIFY.
 */
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { readConfig } from '../src/config/config.js';
import { createDemo } from '../packages/demo/demo.js';
import { startRelay } from '../src/relay.js';
import { createDatabase } from './support/database.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { request, type ErrorBody } from './support/request.js';
import { openStream } from './support/stream.js';
import { SECRET, tokenFor } from './support/token.js';

const LEGACY = { LEGACY_PATHS: 'true' };

async function setUp(t: ExecutionContext, env: Environment = LEGACY) {
  const database = await createDatabase(t);
  const { url } = await startTestRelay(t, database.url, env);
  return {
    url,
    publish: (channel: string, data: string) =>
      database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text))', [channel, data]),
    get: (path: string, headers = {}, method = 'GET') => request(url, path, { headers, method }),
  };
}

const codeOf = (body: string) => (JSON.parse(body) as ErrorBody).error;

test('without LEGACY_PATHS a channel is not at /{channel}', async (t) => {
  const { get } = await setUp(t, {});
  for (const path of ['/orders', '/user:7', '/events-of-old']) {
    const { status, body } = await get(path);
    t.is(status, 404);
    t.is(codeOf(body), 'not_found');
  }
});

test('with it /{channel} is the stream of /events/{channel}: its headers, its events, its cursor', async (t) => {
  const { url, publish } = await setUp(t);
  for (const channel of ['orders', 'events-of-old', 'a/b', 'ü:7', 'index.html', 'Metrics2']) {
    const path = encodeURIComponent(channel);
    const [stream, other] = await Promise.all([
      openStream(t, `${url}/${path}`),
      openStream(t, `${url}/events/${path}`),
    ]);
    const { date, ...headers } = stream.headers;
    t.truthy(date);
    t.like(other.headers, headers);
    await Promise.all([stream, other].map((each) => each.until(({ event }) => event === 'stream-open')));
    await publish(channel, 'one');
    await publish(`${channel}!`, 'of another channel');
    await publish(channel, 'two');
    t.deepEqual(await stream.untilEvents(2), await other.untilEvents(2));
    const [one, two] = stream.events;
    t.deepEqual([one?.data, two?.data], ['one', 'two']);
    const resumed = await openStream(t, `${url}/${path}`, { 'Last-Event-ID': one?.id });
    t.deepEqual(await resumed.untilEvents(1), [two]);
  }
  const several = await openStream(t, `${url}/orders?channel=stock`);
  await several.until(({ event }) => event === 'stream-open');
  await publish('stock', 'more');
  t.is((await several.untilEvents(1))[0]?.data, 'more');
});

test('what has a path of its own is never shadowed, whatever the method', async (t) => {
  for (const env of [LEGACY, { ...LEGACY, METRICS_PORT: '0' }]) {
    const [{ get }, { get: plain }] = [await setUp(t, env), await setUp(t, { ...env, LEGACY_PATHS: 'false' })];
    for (const path of [
      '/',
      '/events',
      '/events/',
      '/history',
      '/history/',
      '/healthz',
      '/readyz',
      '/metrics',
      '/openapi.json',
      '/outbox-relay.js',
      '/outbox-relay-htmx.js',
      '/a/b',
      '/a/',
    ]) {
      for (const method of ['GET', 'HEAD', 'OPTIONS', 'POST']) {
        const [answer, expected] = [await get(path, {}, method), await plain(path, {}, method)];
        const { status, headers } = answer;
        t.deepEqual(
          [status, headers['content-type'], headers.allow],
          [expected.status, expected.headers['content-type'], expected.headers.allow],
        );
      }
    }
  }
});

test('nor are the pages of the demo', async (t) => {
  const database = await createDatabase(t);
  const demo = await createDemo({ databaseUrl: database.url, version: 'test', allowedOrigins: [] });
  t.teardown(demo.stop);
  const config = readConfig({ ...LEGACY, DATABASE_URL: database.url, PORT: '0', PUBLIC_CHANNELS: '*' });
  const relay = await startRelay({ config, logger: pino({ level: 'silent' }), extend: demo });
  t.teardown(() => relay.stop());
  t.regex((await request(relay.url, '/')).body, /^<!doctype html>/i);
  t.is((await request(relay.url, '/publish')).status, 405);
  t.is((await request(relay.url, '/favicon.ico')).status, 204);
  await openStream(t, `${relay.url}/orders`);
});

test('R8: /{channel} has the rights, methods and CORS of /events/{channel}', async (t) => {
  const { url, get } = await setUp(t, {
    ...LEGACY,
    JWT_SECRET: SECRET,
    PUBLIC_CHANNELS: 'news',
    ALLOWED_ORIGINS: 'https://app.example',
  });
  await openStream(t, `${url}/news`);
  await openStream(t, `${url}/orders`, { Authorization: `Bearer ${await tokenFor(['orders'])}` });
  const cookie = `outbox_token=${await tokenFor(['orders'])}`;
  const wrong = await tokenFor(['stock']);
  const requests = [
    ['/orders', {}, 'GET'],
    ['/orders', {}, 'HEAD'],
    ['/orders', { Authorization: 'Bearer nonsense' }, 'GET'],
    ['/orders', { Authorization: `Bearer ${wrong}` }, 'GET'],
    ['/*', { Authorization: `Bearer ${wrong}` }, 'GET'],
    ['/orders', { Cookie: cookie, Origin: 'https://evil.example' }, 'GET'],
    ['/orders', { Cookie: cookie, Origin: 'https://app.example' }, 'GET'],
    ['/orders', { Origin: 'https://app.example', 'Access-Control-Request-Method': 'GET' }, 'OPTIONS'],
    ['/orders', { Origin: 'https://evil.example', 'Access-Control-Request-Method': 'GET' }, 'OPTIONS'],
    ['/news', {}, 'HEAD'],
    ['/news', {}, 'POST'],
    ['/news', { 'Content-Length': '1' }, 'GET'],
    ['/a*', {}, 'GET'],
    ['/%ff', {}, 'GET'],
    ['/news?since=tomorrow', {}, 'GET'],
  ] as const;
  const statuses = new Set<number>();
  for (const [path, headers, method] of requests) {
    const [{ headers: sent, ...answer }, expected] = [
      await get(path, headers, method),
      await get(`/events${path}`, headers, method),
    ];
    const withoutDate = (all: typeof sent) => ({ ...all, date: undefined });
    t.deepEqual([answer.status, answer.body], [expected.status, expected.body], path);
    t.deepEqual(withoutDate(sent), withoutDate(expected.headers), path);
    statuses.add(answer.status);
  }
  t.deepEqual([...statuses].sort(), [200, 204, 400, 401, 403, 405]);
});
