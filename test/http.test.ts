import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { OutgoingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { pino } from 'pino';
import { createApp, startServer } from '../src/http/server.js';
import { createDatabase, serverUrl } from './support/database.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, parseAnswer, request, type ErrorBody } from './support/request.js';
import { openStream } from './support/stream.js';

/** How long nothing must happen for it to count as not happening. */
const LEEWAY_MS = 300;
/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;

const STREAM = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store, no-transform',
  'x-accel-buffering': 'no',
};

/**
 * A relay, with a stream on channel `witness` that was open before whatever the test does. `unharmed` proves that it still
 * delivers, and that the test brought nothing into it.
 */
async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, env);
  const witness = await openStream(t, `${relay.url}/events?channel=witness`);
  await witness.until((frame) => frame.event === 'stream-open');
  const publish = (channel: string, data: string) =>
    database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text))', [channel, data]);
  return {
    database,
    relay,
    url: relay.url,
    publish,
    get: (path: string, headers: OutgoingHttpHeaders = {}) => request(relay.url, path, { headers }),
    async unharmed() {
      await publish('witness', 'still here');
      await witness.untilEvents(1);
      t.deepEqual(
        witness.events.map(({ data }) => data),
        ['still here'],
      );
    },
  };
}

interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly { readonly code: string; readonly since: string }[];
}

type Answered = Awaited<ReturnType<typeof request>>;

/** Checks an error's form: JSON, a code, and a sentence that says what to do. */
function isError(t: ExecutionContext, answer: Answered, status: number, code: string): ErrorBody {
  t.is(answer.status, status, answer.body);
  t.is(answer.headers['content-type'], 'application/json; charset=utf-8');
  const body = JSON.parse(answer.body) as ErrorBody;
  t.is(body.error, code);
  t.regex(body.message, /\w.*\.$/);
  return body;
}

test('a stream has exactly the headers that keep proxies from holding, changing or caching it', async (t) => {
  const { url, unharmed } = await setUp(t);
  for (const path of ['/events?channel=a', '/events/a', '/events/a/', '/events/?channel=a']) {
    const { headers } = await openStream(t, url + path);
    const { date, ...others } = headers;
    t.truthy(date);
    // The client has asked for "close".
    t.deepEqual(others, { ...STREAM, connection: 'close', 'transfer-encoding': 'chunked', vary: 'Origin' });
  }
  await unharmed();
});

test('HEAD has the headers of the stream, no body, and opens none', async (t) => {
  const { url, relay, unharmed } = await setUp(t);
  const answer = await request(url, '/events?channel=x', { method: 'HEAD' });
  t.is(answer.status, 200);
  t.like(answer.headers, STREAM);
  t.is(answer.body, '');
  t.is(relay.streams, 1);
  isError(t, { ...(await request(url, '/events', { method: 'GET' })) }, 400, 'no_channel');
  t.is((await request(url, '/events', { method: 'HEAD' })).status, 400);
  await unharmed();
});

test('OPTIONS tells what is allowed, a preflight only to allowed origins', async (t) => {
  const { url, unharmed } = await setUp(t, { ALLOWED_ORIGINS: 'https://app.example' });
  const options = (headers: OutgoingHttpHeaders) => request(url, '/events?channel=a', { method: 'OPTIONS', headers });
  const plain = await options({});
  t.is(plain.status, 204);
  t.is(plain.headers.allow, 'GET, HEAD, OPTIONS');
  t.is(plain.body, '');

  const preflight = { 'Access-Control-Request-Method': 'GET', 'Access-Control-Request-Headers': 'last-event-id' };
  const allowed = await options({ Origin: 'https://app.example', ...preflight });
  t.is(allowed.status, 204);
  t.like(allowed.headers, {
    'access-control-allow-origin': 'https://app.example',
    'access-control-allow-credentials': 'true',
    'access-control-allow-methods': 'GET, HEAD, OPTIONS',
    'access-control-allow-headers': 'last-event-id',
    vary: 'Origin, Access-Control-Request-Headers',
  });
  t.regex(String(allowed.headers['access-control-max-age']), /^\d+$/);

  const foreign = await options({ Origin: 'https://evil.example', ...preflight });
  t.deepEqual(
    Object.keys(foreign.headers).filter((name) => name.startsWith('access-control')),
    [],
  );
  t.is(foreign.headers.vary, 'Origin, Access-Control-Request-Headers');
  await unharmed();
});

test('a preflight of an allowed origin is granted the headers that it asks for, as htmx, tracing and others add their own', async (t) => {
  const { url, unharmed } = await setUp(t, { ALLOWED_ORIGINS: 'https://app.example' });
  const granted = async (asked: string, origin = 'https://app.example') => {
    const { status, headers } = await request(url, '/events?channel=a', {
      method: 'OPTIONS',
      headers: {
        Origin: origin,
        'Access-Control-Request-Method': 'GET',
        ...(asked === '' ? {} : { 'Access-Control-Request-Headers': asked }),
      },
    });
    t.is(status, 204);
    return headers['access-control-allow-headers'];
  };
  for (const asked of [
    'hx-current-url,hx-request,hx-target,hx-trigger',
    'baggage,sentry-trace,traceparent,tracestate',
    'content-type',
    'cache-control, pragma,\tx-requested-with',
    'datastar-request',
    'authorization,last-event-id',
    'x'.repeat(2048),
  ]) {
    t.is(await granted(asked), asked);
    t.is(await granted(asked, 'https://evil.example'), undefined);
  }
  // What is none, or more than any browser asks for.
  for (const asked of ['', 'a b', ',', 'a,,b', 'a:b', 'x'.repeat(2049), '"', 'a\u00e9'])
    t.is(await granted(asked), 'Authorization, Cache-Control, Last-Event-ID', asked);
  await unharmed();
});

test('a page of an allowed origin reads streams and errors with its cookies; any other is told nothing', async (t) => {
  const { url, get, unharmed } = await setUp(t, { ALLOWED_ORIGINS: 'https://app.example,http://localhost:8000' });
  const stream = await openStream(t, `${url}/events/a`, { Origin: 'http://localhost:8000' });
  t.like(stream.headers, {
    'access-control-allow-origin': 'http://localhost:8000',
    'access-control-allow-credentials': 'true',
    vary: 'Origin',
  });
  const error = await get('/events', { Origin: 'https://app.example' });
  t.is(error.status, 400);
  t.is(error.headers['access-control-allow-origin'], 'https://app.example');
  for (const origin of ['https://evil.example', 'https://app.example.evil.example', 'http://app.example', 'null']) {
    const foreign = await openStream(t, `${url}/events/a`, { Origin: origin });
    t.is(foreign.headers['access-control-allow-origin'], undefined, origin);
    t.is(foreign.headers['access-control-allow-credentials'], undefined, origin);
    t.is(foreign.headers.vary, 'Origin');
  }
  await unharmed();
});

test('with ALLOWED_ORIGINS=* every page reads, and none with its cookies', async (t) => {
  const { url, unharmed } = await setUp(t, { ALLOWED_ORIGINS: '*' });
  const stream = await openStream(t, `${url}/events/a`, { Origin: 'https://any.example' });
  t.is(stream.headers['access-control-allow-origin'], '*');
  t.is(stream.headers['access-control-allow-credentials'], undefined);
  t.is(stream.headers.vary, undefined);
  await unharmed();
});

test('channels that cannot be are refused with the reason', async (t) => {
  const { get, unharmed } = await setUp(t);
  isError(t, await get('/events'), 400, 'no_channel');
  isError(t, await get('/events?chanel=a'), 400, 'no_channel');
  for (const query of ['', 'a&channel=', '%00', 'a%0Ab', '%C2%85', '**', 'a*', '*:a', 'user:*:x']) {
    isError(t, await get(`/events?channel=${query}`), 400, 'bad_channel');
  }
  isError(t, await get(`/events/a%0Ab`), 400, 'bad_channel');
  isError(t, await get(`/events?channel=${'x'.repeat(10_000)}`), 400, 'bad_channel');
  isError(t, await get(`/events/${'x'.repeat(10_000)}`), 400, 'bad_channel');
  await unharmed();
});

test('too many channels are refused with the limit, however many they are', async (t) => {
  const { get, unharmed } = await setUp(t, { MAX_CHANNELS: '20' });
  const channels = (count: number) => Array.from({ length: count }, (_, index) => `channel=c${index}`).join('&');
  const { message } = isError(t, await get(`/events?${channels(21)}`), 400, 'too_many_channels');
  t.regex(message, /\b21\b.*\b20\b.*MAX_CHANNELS/);
  isError(t, await get(`/events?${channels(4_000)}`), 400, 'too_many_channels');
  t.is((await get(`/events?${channels(10_000)}`)).status, 431);
  await unharmed();
});

test('a channel that is named twice counts once', async (t) => {
  const { url, publish, unharmed } = await setUp(t, { MAX_CHANNELS: '2' });
  const stream = await openStream(t, `${url}/events/a?channel=a&channel=b&channel=a`);
  await stream.until((frame) => frame.event === 'stream-open');
  for (const channel of ['a', 'b']) await publish(channel, channel);
  await stream.untilEvents(2);
  t.deepEqual(
    stream.events.map(({ data }) => data),
    ['a', 'b'],
  );
  await unharmed();
});

test('a channel in the path is the one that is meant, whatever is in its name, and with a slash at the end, too', async (t) => {
  const { url, publish, unharmed } = await setUp(t);
  const names = ['a/b', 'a b', 'a+b', 'a%b', 'ü😀', 'a?b#c', 'user:*'];
  const streams = await Promise.all(
    names.map((name, n) => openStream(t, `${url}/events/${encodeURIComponent(name)}${n % 2 === 0 ? '' : '/'}`)),
  );
  for (const stream of streams) await stream.until((frame) => frame.event === 'stream-open');
  for (const name of names) await publish(name.replace('*', '1'), name);
  for (const [index, stream] of streams.entries()) {
    await stream.untilEvents(1);
    t.deepEqual(
      stream.events.map(({ data }) => data),
      [names[index]],
    );
  }
  await unharmed();
});

test('an address that is not valid is refused', async (t) => {
  const { get, unharmed } = await setUp(t);
  for (const path of ['/events/%', '/events/%zz', '/events/%ff', '/events/a%E0%A4']) {
    isError(t, await get(path), 400, 'bad_request');
  }
  await unharmed();
});

test('a path that goes on after the channel is not taken for a channel that nobody publishes to', async (t) => {
  const { get, unharmed } = await setUp(t);
  for (const path of ['/events/orders/1', '/events/orders//', '/events//']) {
    isError(t, await get(path), 404, 'not_found');
  }
  await unharmed();
});

test('a request with a body is refused', async (t) => {
  const { url, unharmed } = await setUp(t);
  for (const body of [
    'Content-Length: 5\r\n\r\nhello',
    'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
    'Content-Length: 1000000\r\n\r\nhello',
  ]) {
    const connection = openRaw(t, url, `GET /events?channel=a HTTP/1.1\r\nHost: x\r\n${body}`);
    await connection.until('"}');
    isError(t, parseAnswer(connection.text), 400, 'unexpected_body');
  }
  await unharmed();
});

test('what is no GET, HEAD or OPTIONS is not allowed, and the answer names those', async (t) => {
  const { url, unharmed } = await setUp(t);
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
    for (const path of ['/events', '/events/a', '/events?channel=a']) {
      const answer = await request(url, path, { method });
      isError(t, answer, 405, 'method_not_allowed');
      t.is(answer.headers.allow, 'GET, HEAD, OPTIONS');
    }
    const answer = await request(url, '/healthz', { method });
    isError(t, answer, 405, 'method_not_allowed');
    t.is(answer.headers.allow, 'GET, HEAD');
  }
  await unharmed();
});

test('an unknown path is not found', async (t) => {
  const { get, unharmed } = await setUp(t);
  for (const path of ['/', '/event', '/events/a/b', '/healthz/x', `/${'x'.repeat(5000)}`]) {
    isError(t, await get(path), 404, 'not_found');
  }
  await unharmed();
});

test('a time that is none is refused', async (t) => {
  const { get, unharmed } = await setUp(t);
  for (const since of ['tomorrow', '2026-13-01', '2026-02-30T12:00', '-1', '12:00', '1e3', '2026-01-01T25:00Z']) {
    const { message } = isError(t, await get(`/events?channel=a&since=${since}`), 400, 'bad_since');
    t.regex(message, /ISO 8601/, since);
  }
  await unharmed();
});

test('headers that are too large are refused with 431 and the limit', async (t) => {
  const { url, get, unharmed } = await setUp(t);
  const large = await get('/events?channel=a', { Cookie: 'x'.repeat(70_000) });
  t.regex(isError(t, large, 431, 'headers_too_large').message, /65536 bytes/);
  isError(t, await get(`/events?channel=a&last_event_id=${'1'.repeat(1_000_000)}`), 431, 'headers_too_large');
  isError(t, await get('/events?channel=a', { 'Last-Event-ID': '1'.repeat(1_000_000) }), 431, 'headers_too_large');
  const endless = openRaw(t, url, Buffer.alloc(4_000_000, 'GET /'));
  t.is(parseAnswer(await endless.ended).status, 400);
  await unharmed();
});

test('a request that does not come to its end is answered with 408, and the connection closed', async (t) => {
  const { url, unharmed } = await setUp(t, { REQUEST_TIMEOUT_SECONDS: '0.3' });
  for (const start of ['GET /events?chan', 'GET /events?channel=a HTTP/1.1\r\nHost: x\r\nCookie: ']) {
    isError(t, parseAnswer(await openRaw(t, url, start).ended), 408, 'request_timeout');
  }
  await unharmed();
});

test('what is no HTTP is answered with 400, and the connection closed', async (t) => {
  const { url, unharmed } = await setUp(t);
  for (const bytes of [
    'hello\r\n\r\n',
    Buffer.concat([Buffer.from([0x16, 3, 1]), randomBytes(500)]),
    'GET /events HTTP/9.9\r\n\r\n',
    'GET /events?channel=a HTTP/1.1\r\nConnection: close\r\n\r\n',
    'GET /events HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n',
    'GET /events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
  ]) {
    isError(t, parseAnswer(await openRaw(t, url, bytes).ended), 400, 'bad_request');
  }
  await unharmed();
});

const SECOND: Readonly<Record<string, string>> = {
  'a second request': 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n',
  'a second stream': 'GET /events?channel=b HTTP/1.1\r\nHost: x\r\n\r\n',
  'what is no HTTP': '\0\r\n\r\nhello\r\n\r\n',
  'a request with too large headers': `GET / HTTP/1.1\r\nCookie: ${'x'.repeat(70_000)}\r\n\r\n`,
};

for (const [what, bytes] of Object.entries(SECOND)) {
  test(`${what} on a stream's connection brings no byte into the stream`, async (t) => {
    const { url, relay, unharmed } = await setUp(t);
    const first = 'GET /events?channel=a HTTP/1.1\r\nHost: x\r\n\r\n';
    // In one piece with the first, and later.
    const pipelined = openRaw(t, url, first + bytes);
    const later = openRaw(t, url, first);
    await later.until('event: stream-open');
    later.socket.write(bytes);
    for (const text of [await pipelined.ended, await later.ended]) {
      t.regex(text, /^(HTTP\/1\.1 200 OK\r\n|$)/);
      t.notRegex(text.slice(1), /HTTP|"error"|"status"/);
    }
    t.is(relay.streams, 1);
    await unharmed();
  });
}

test("a request that is never finished on a stream's connection harms nothing", async (t) => {
  const { url, publish, unharmed } = await setUp(t, { REQUEST_TIMEOUT_SECONDS: '1' });
  const connection = openRaw(t, url, 'GET /events?channel=a HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HT');
  await connection.until('event: stream-open');
  const text = await Promise.race([connection.ended, delay(1000 + 2 * LEEWAY_MS)]);
  if (text === undefined) {
    await publish('a', 'one');
    await connection.until('data: one');
  }
  t.is(connection.text.match(/HTTP\/1\.1/g)?.length, 1);
  await unharmed();
});

test('R8: what PUBLIC_CHANNELS does not contain is refused and named', async (t) => {
  const { url, get, publish, unharmed } = await setUp(t, { PUBLIC_CHANNELS: 'news,status:*,witness' });
  const refused = async (query: string) => {
    const { message, channels } = isError(t, await get(`/events?${query}`), 403, 'forbidden');
    for (const channel of channels ?? []) t.true(message.includes(channel));
    return channels;
  };
  t.deepEqual(await refused('channel=secret'), ['secret']);
  t.deepEqual(await refused('channel=news&channel=secret&channel=user:1'), ['secret', 'user:1']);
  t.deepEqual(await refused('channel=*'), ['*']);
  t.deepEqual(await refused('channel=news:*'), ['news:*']);
  t.deepEqual(await refused('channel=status'), ['status']);
  t.deepEqual(await refused('channel=statu:*'), ['statu:*']);
  isError(t, await get('/events/secret?since=tomorrow'), 403, 'forbidden');
  t.is((await request(url, '/events/secret', { method: 'HEAD' })).status, 403);

  const stream = await openStream(
    t,
    `${url}/events?channel=news&channel=status:a:*&channel=status:b&last_event_id=earliest`,
  );
  await stream.until((frame) => frame.event === 'stream-open');
  for (const channel of ['secret', 'status:c', 'status:a:1', 'news', 'status:b']) await publish(channel, channel);
  await stream.untilEvents(3);
  t.deepEqual(
    stream.events.map(({ data }) => data),
    ['status:a:1', 'news', 'status:b'],
  );
  await unharmed();
});

test('R8: without PUBLIC_CHANNELS nobody may read anything', async (t) => {
  const database = await createDatabase(t);
  const { url } = await startTestRelay(t, database.url, { PUBLIC_CHANNELS: '' });
  for (const channel of ['a', '*', 'a:*']) {
    isError(t, await request(url, `/events?channel=${channel}`), 403, 'forbidden');
  }
});

test('healthz says that it lives, readyz whether it delivers, and where it does not a code and since when, and no more', async (t) => {
  const { database, url, get, unharmed } = await setUp(t);
  // A database cannot be closed from inside.
  const admin = new pg.Client(serverUrl());
  await admin.connect();
  t.teardown(() => admin.end());
  const healthy = await get('/healthz');
  t.is(healthy.status, 200);
  t.deepEqual(JSON.parse(healthy.body), { status: 'ok' });
  const ready = async () => {
    const answer = await get('/readyz');
    return { status: answer.status, ...(JSON.parse(answer.body) as Readiness) };
  };
  t.deepEqual(await ready(), { status: 200, ready: true, reasons: [] });

  await admin.query(`ALTER DATABASE ${database.name} ALLOW_CONNECTIONS false`);
  await database.kill('outbox-relay%');
  let state = await ready();
  // Where the read that fails takes long, it is behind before that.
  const codes = () => state.reasons.map(({ code }) => code);
  while (!codes().includes('not_listening') || !codes().includes('cannot_read')) {
    await delay(POLL_MS);
    state = await ready();
  }
  t.is(state.status, 503);
  t.false(state.ready);
  t.deepEqual(codes(), ['not_listening', 'cannot_read']);
  for (const reason of state.reasons) {
    t.deepEqual(Object.keys(reason), ['code', 'since'], "the database's own words are not for everybody");
    t.regex(reason.since, /^\d{4}-\d\d-\d\dT.*Z$/);
  }
  t.is((await request(url, '/readyz', { method: 'HEAD' })).status, 503);
  t.is((await get('/healthz')).status, 200);

  await admin.query(`ALTER DATABASE ${database.name} ALLOW_CONNECTIONS true`);
  while ((await ready()).status !== 200) await delay(POLL_MS);
  await unharmed();
});

test('R5: who takes nothing of an answer is dropped in time, and who takes it slowly gets all of it', async (t) => {
  // More than lies between two sockets.
  const body = Buffer.alloc(64 * 2 ** 20, 'x');
  const logger = pino({ level: 'silent' });
  const app = createApp({ logger, retrySeconds: 1, onRefused: () => undefined });
  app.use((context) => {
    context.body = body;
  });
  const options = { host: '127.0.0.1', port: 0, maxConnections: 10, maxHeaderBytes: 16_384, logger };
  const server = await startServer(app, { ...options, requestTimeoutSeconds: 4, shutdownSeconds: 1 });
  t.teardown(server.close);
  /** Pauses after each so many bytes: more than the sockets hold, so that the server sees what is taken. */
  async function take(pauseBytes: number, pauseMs: number): Promise<number> {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
    let bytes = 0;
    let next = pauseBytes;
    socket.on('data', (chunk) => {
      bytes += chunk.length;
      if (bytes >= body.length) socket.destroy();
      if (bytes < next) return;
      next += pauseBytes;
      socket.pause();
      setTimeout(() => socket.resume(), pauseMs);
    });
    socket.on('error', () => undefined);
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'close');
    return bytes;
  }
  const [stalled, slow] = await Promise.all([take(2 ** 25, 10_000), take(2 ** 23, 200)]);
  t.true(stalled < body.length, 'a client that took nothing for ten seconds got all of it');
  t.true(slow >= body.length, `a slow client got ${slow} bytes`);
});

test('clients that leave in the middle of anything harm nothing', async (t) => {
  const { url, relay, unharmed } = await setUp(t);
  const whole = 'GET /events?channel=a&last_event_id=earliest HTTP/1.1\r\nHost: x\r\n\r\n';
  for (let length = 1; length <= whole.length; length += 6) {
    openRaw(t, url, whole.slice(0, length)).socket.end();
    const { socket } = openRaw(t, url, whole.slice(0, length));
    socket.once('connect', () => socket.resetAndDestroy());
  }
  const last = openRaw(t, url, whole);
  await last.until('event: stream-open');
  last.socket.resetAndDestroy();
  while (relay.streams > 1) await delay(POLL_MS);
  await unharmed();
});
