/**
 * What goes over the socket, byte for byte: chunks that hold whole frames, and a body that breaks off and never ends.
 */
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createUnchunker, unchunked } from './support/chunks.js';
import { createDatabase } from './support/database.js';
import { startRelayProcess } from './support/relay-process.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, parseAnswer, type RawConnection } from './support/request.js';
import { openStream, parseFrame, type Frame, type TestStream } from './support/stream.js';
import { inSeconds, SECRET, tokenFor } from './support/token.js';

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;

async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, env);
  const publish = (text: string, count = 1) =>
    database.query(
      "INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb($1::text || n) FROM generate_series(1, $2) n",
      [text, count],
    );
  const ask = (query = '', version = '1.1', headers = '') =>
    openRaw(t, relay.url, `GET /events/a${query} HTTP/${version}\r\nHost: x\r\n${headers}\r\n`);
  return { database, relay, url: relay.url, publish, ask };
}

const bodyOf = ({ text }: RawConnection) => text.slice(text.indexOf('\r\n\r\n') + 4);
const framesIn = (body: string): Frame[] => body.split('\n\n').slice(0, -1).map(parseFrame);

/** What is in each chunk of a body, of which only whole chunks have come. */
function chunksIn(body: string): string[] {
  const chunks: string[] = [];
  for (let rest = body; rest !== '';) {
    const begin = rest.indexOf('\r\n') + 2;
    const end = begin + Number.parseInt(rest, 16);
    chunks.push(rest.slice(begin, end));
    rest = rest.slice(end + 2);
  }
  return chunks;
}

for (const [how, env] of [
  ['memory', {}],
  ['the table', { WINDOW_MEGABYTES: '0', REPLAY_MEGABYTES: '1' }],
] as const) {
  test(`a body is in chunks of whole frames, wherever it is cut: live ones, bursts, and replays from ${how}`, async (t) => {
    const { publish, ask } = await setUp(t, { ...env, HEARTBEAT_SECONDS: '0.3' });
    await publish('größer\n\nid: 9\r\n\r\n0\r\n\r\n', 500);
    const all = ask('?last_event_id=earliest');
    const some = ask('?last_event_id=250');
    for (const raw of [all, some]) await raw.until('id: 500\n');
    await publish('one');
    await publish('burst', 100);
    for (const raw of [all, some]) {
      await raw.until('id: 601\n');
      await raw.until('id: 601\nevent: stream-cursor');
      await raw.until('"601"}\n\n\r\n');
      const { headers } = parseAnswer(raw.text);
      t.is(headers['transfer-encoding'], 'chunked');
      // Where it says "close", Node's fetch takes a body that breaks off for a complete one.
      t.is(headers.connection, undefined);
      t.is(headers['content-length'], undefined);
      raw.socket.pause();
      const body = bodyOf(raw);
      const text = unchunked(body);
      for (const chunk of chunksIn(body)) t.regex(chunk, /^(id|event): [^]*\n\n$/, 'a frame is torn');
      // Cut anywhere, it is what it was.
      const unchunker = createUnchunker();
      let pieces = '';
      for (const byte of body) pieces += unchunker.take(byte);
      t.is(Buffer.from(pieces, 'latin1').toString(), text);
      const ids = framesIn(text).flatMap(({ id, event }) => (event === undefined ? [Number(id)] : []));
      const first = raw === all ? 1 : 251;
      t.deepEqual(
        ids,
        Array.from({ length: 602 - first }, (_, n) => first + n),
      );
    }
  });
}

test('a quiet stream hands out each frame at once, in a chunk that ends with it', async (t) => {
  const { publish, ask } = await setUp(t);
  const raw = ask();
  await raw.until('stream-open');
  for (const word of ['first', 'second', 'third']) {
    await publish(word);
    await raw.until(`data: ${word}1\n\n\r\n`);
    t.is(chunksIn(bodyOf(raw)).at(-1), `id: ${framesIn(unchunked(bodyOf(raw))).at(-1)?.id ?? ''}\ndata: ${word}1\n\n`);
  }
});

test('HTTP/1.0 gets the same frames without chunks, from memory, from the table and live', async (t) => {
  const { publish, ask } = await setUp(t, { WINDOW_MEGABYTES: '0', REPLAY_MEGABYTES: '1' });
  await publish('größer\r\n', 300);
  for (const headers of ['', 'TE: chunked\r\n', 'Connection: keep-alive\r\n']) {
    const old = ask('?last_event_id=earliest', '1.0', headers);
    const now = ask('?last_event_id=earliest');
    for (const raw of [old, now]) await raw.until('id: 300\n');
    await publish('burst', 50);
    await publish(`the last after ${headers.trim()}, `);
    for (const raw of [old, now]) await raw.until(`the last after ${headers.trim()}, 1\n\n`);
    t.is(parseAnswer(old.text).headers['transfer-encoding'], undefined, headers);
    t.is(parseAnswer(old.text).headers.connection, 'close');
    t.is(Buffer.from(bodyOf(old), 'latin1').toString(), unchunked(bodyOf(now)), headers);
  }
});

/** Opens a stream on channel `a`, and resolves when it has begun. */
async function opened(t: ExecutionContext, url: string, path = '/events/a', headers = {}): Promise<TestStream> {
  const stream = await openStream(t, url + path, headers);
  await stream.until(({ event }) => event === 'stream-open');
  return stream;
}

test('a stream that breaks off never looks like a complete answer: at a shutdown, a kill, its age, the end of its right, when busy', async (t) => {
  const { database, relay, url } = await setUp(t, {
    MAX_CONNECTION_SECONDS: '6',
    MAX_CONNECTIONS: '3',
    JWT_SECRET: SECRET,
    PUBLIC_CHANNELS: 'a',
  });
  const aged = await opened(t, url);
  const token = await tokenFor(['b'], { exp: inSeconds(4) });
  const expired = await opened(t, url, '/events/b', { Authorization: `Bearer ${token}` });
  const other = await opened(t, url);
  const busy = await openStream(t, `${url}/events/a`);
  await Promise.all([busy.ended, expired.ended, aged.ended, other.ended]);
  while (relay.streams > 0) await delay(POLL_MS);
  const stopped = await opened(t, url);
  await relay.stop();
  await stopped.ended;

  const killable = await startRelayProcess(t, database.url);
  const killed = await opened(t, killable.url);
  await killable.end('SIGKILL');
  await killed.ended;

  const told: readonly (readonly [TestStream, string | undefined, object])[] = [
    [busy, 'stream-pause', { reason: 'busy', error: 'too_many_connections' }],
    [expired, 'stream-error', { condition: 'expired' }],
    [aged, 'stream-pause', { reason: 'age' }],
    [stopped, 'stream-pause', { reason: 'shutdown' }],
    [killed, 'stream-open', {}],
  ];
  for (const [stream, event, data] of told) {
    const last = stream.frames.at(-1);
    t.is(last?.event, event);
    t.false(stream.isComplete, event);
    t.like(JSON.parse(last?.data ?? ''), { ...data, retryMs: last?.retry });
    if (event !== 'stream-open') t.is(last?.id, undefined, 'its cursor has moved');
  }
});

test("Node's fetch, which keeps connections, sees that a stream has broken off, and that it is busy", async (t) => {
  const { url, relay } = await setUp(t, { MAX_CONNECTIONS: '1' });
  const headers = { Accept: 'text/event-stream' };
  const stream = await fetch(`${url}/events/a`, { headers });
  const busy = await fetch(`${url}/events/a`, { headers });
  await t.throwsAsync(busy.text(), { message: 'terminated' });
  await Promise.all([t.throwsAsync(stream.text(), { message: 'terminated' }), relay.stop()]);
});

test('no frame has an id without data, or a retry without a name, whatever becomes of a stream', async (t) => {
  const { database, url, publish } = await setUp(t, {
    HEARTBEAT_SECONDS: '0.2',
    MAX_CONNECTION_SECONDS: '3',
    MAX_CONNECTIONS: '4',
  });
  await publish('x', 20);
  const streams = [
    await opened(t, url),
    await opened(t, url, '/events/a?last_event_id=earliest'),
    await opened(t, url, '/events/a?last_event_id=nobody-knows'),
  ];
  const waiting = await database.withTablesLocked(async () => {
    const stream = await openStream(t, `${url}/events/a?last_event_id=earliest`);
    await stream.until(({ event }) => event === 'stream-cursor');
    return stream;
  });
  const busy = await openStream(t, `${url}/events/a`);
  const all = [...streams, waiting, busy];
  await Promise.all(all.map((stream) => stream.ended));
  const seen = new Set<string>();
  for (const frame of all.flatMap(({ frames }) => frames)) {
    t.true(frame.data !== undefined, JSON.stringify(frame));
    t.is(frame.comment, undefined);
    if (frame.event === undefined) continue;
    seen.add(frame.event);
    t.notThrows(() => JSON.parse(frame.data ?? '') as unknown, 'the data of a control event is JSON');
  }
  t.deepEqual([...seen].sort(), ['stream-cursor', 'stream-open', 'stream-pause', 'stream-reset']);
});

test('what is no stream is a complete answer: HEAD, and each refusal; the connection stays for the next request', async (t) => {
  const { url } = await setUp(t, { PUBLIC_CHANNELS: 'a' });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const sockets = new Set<unknown>();
  for (const [method, path, status] of [
    ['GET', '/events/b', 403],
    ['GET', '/events', 400],
    ['OPTIONS', '/events/a', 204],
    ['GET', '/healthz', 200],
    // The last: without a length Node's client takes no other answer from the connection.
    ['HEAD', '/events/a', 200],
  ] as const) {
    const request = http.request(url + path, { method, agent, headers: { Accept: 'text/event-stream' } }).end();
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    sockets.add(request.socket);
    t.is(response.statusCode, status, path);
    response.resume();
    await once(response, 'close');
    t.true(response.complete, path);
  }
  t.is(sockets.size, 1);
});

test('a client that waits for 100 Continue gets it, and then its stream in chunks', async (t) => {
  const { ask } = await setUp(t);
  const raw = ask('', '1.1', 'Expect: 100-continue\r\n');
  await raw.until('"retryMs":2000}\n\n\r\n');
  t.regex(raw.text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  const body = raw.text.slice(raw.text.lastIndexOf('\r\n\r\n') + 4);
  t.is(framesIn(unchunked(body))[0]?.event, 'stream-open');
});
