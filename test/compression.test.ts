/**
 * COMPRESSION: streams that their clients have as gzip are the same streams, event by event, and bounded as others are.
 */
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { createDatabase } from './support/database.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, request } from './support/request.js';
import { openStream } from './support/stream.js';

const POLL_MS = 20;
const ASK_GZIP = { 'Accept-Encoding': 'gzip, deflate, br, zstd' };

async function setUp(t: ExecutionContext, env: Environment = { COMPRESSION: 'gzip' }) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, env);
  const publish = (count: number, size: number) =>
    database.query(
      "INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(repeat(md5(n::text), $2)) FROM generate_series(1, $1) AS n",
      [count, size],
    );
  /** Opens a stream and takes what has come apart as it comes. */
  const open = async (query = '', headers: http.OutgoingHttpHeaders = ASK_GZIP) => {
    const sent = http.get(`${relay.url}/events/a${query}`, { agent: false, headers });
    t.teardown(() => sent.destroy());
    const response = await new Promise<http.IncomingMessage>((resolve, reject) =>
      sent.on('response', resolve).on('error', reject),
    );
    let text = '';
    const body = response.headers['content-encoding'] === 'gzip' ? response.pipe(createGunzip()) : response;
    body.on('data', (bytes: Buffer) => (text += bytes.toString()));
    body.on('error', () => undefined);
    response.on('error', () => undefined);
    const until = async (part: string) => {
      while (!text.includes(part)) await delay(POLL_MS);
      return text;
    };
    const ids = () => [...text.matchAll(/^id: (\d+)\ndata: /gm)].map(([, id]) => id);
    return { response, until, ids };
  };
  return { database, relay, publish, open };
}

test('a compressed stream has each event as it is published, its replay, and control events', async (t) => {
  const { relay, publish, open } = await setUp(t, {
    COMPRESSION: 'gzip',
    HEARTBEAT_SECONDS: '0.3',
    WINDOW_MEGABYTES: '0.1',
  });
  await publish(3000, 20);
  const stream = await open('?last_event_id=earliest');
  t.deepEqual(
    [stream.response.headers['content-encoding'], stream.response.headers['vary']],
    ['gzip', 'Origin, Accept-Encoding'],
  );
  const plain = await openStream(t, `${relay.url}/events/a?last_event_id=earliest`);
  t.is(plain.headers['content-encoding'], undefined);
  t.is(plain.headers.vary, 'Origin, Accept-Encoding');
  await stream.until('event: stream-cursor');
  for (let n = 1; n <= 20; n += 1) {
    await publish(1, 1);
    await stream.until(`id: ${3000 + n}\ndata`);
  }
  await plain.untilEvents(3020);
  t.deepEqual(
    stream.ids(),
    plain.events.map(({ id }) => id),
  );
  await relay.stop();
  await stream.until('event: stream-pause');
});

test('only streams are compressed, where it is asked for and taken, and never in HTTP/1.0', async (t) => {
  const { relay, publish, open } = await setUp(t);
  await publish(1, 1);
  for (const accepted of ['', 'br', 'gzip;q=0', 'gzip; q=0.000, br', 'gzipped']) {
    const { response, until } = await open('', { 'Accept-Encoding': accepted });
    t.is(response.headers['content-encoding'], undefined, accepted);
    await until('stream-open');
  }
  const { response, until } = await open('', { 'Accept-Encoding': 'br, GZIP;q=0.5' });
  t.is(response.headers['content-encoding'], 'gzip');
  await until('stream-open');
  const old = openRaw(t, relay.url, 'GET /events/a HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n');
  await old.until('event: stream-open');
  t.false(/content-encoding/i.test(old.text));
  const head = await request(relay.url, '/events/a', { method: 'HEAD', headers: ASK_GZIP });
  t.deepEqual([head.status, head.headers['content-encoding'], head.body], [200, 'gzip', '']);
  const page = await request(relay.url, '/history/a', { headers: ASK_GZIP });
  t.is(page.headers['content-encoding'], undefined);
  const refused = await request(relay.url, '/events/a?since=soon', { headers: ASK_GZIP });
  t.deepEqual([refused.status, refused.headers['content-encoding']], [400, undefined]);
  const off = await setUp(t, {});
  const usual = await off.open();
  t.deepEqual([usual.response.headers['content-encoding'], usual.response.headers.vary], [undefined, 'Origin']);
});

test('R5: a client that takes nothing of a compressed stream holds one page, and is dropped', async (t) => {
  const { relay, database } = await setUp(t, {
    COMPRESSION: 'gzip',
    STALL_SECONDS: '2',
    REPLAY_MEGABYTES: '1',
    WINDOW_MEGABYTES: '0',
  });
  // What hardly gets smaller.
  await database.query(
    `INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb((SELECT string_agg(md5(n::text || m), '') FROM generate_series(1, 1000) AS m))
     FROM generate_series(1, 600) AS n`,
  );
  const path = '/events/a?last_event_id=earliest';
  const raw = openRaw(t, relay.url, `GET ${path} HTTP/1.1\r\nHost: relay\r\nAccept-Encoding: gzip\r\n\r\n`);
  raw.socket.pause();
  while (relay.byState().stalled === 0) await delay(POLL_MS);
  let most = 0;
  while (relay.streams > 0) {
    most = Math.max(most, relay.waitingBytes);
    await delay(POLL_MS);
  }
  t.true(most > 0 && most <= 1024 * 1024, `${most} bytes waited`);
  t.is(relay.waitingBytes, 0);
});
