/**
 * Limits: who is beyond one is sent away for a while, in the form that they understand, and nobody else notices.
 */
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { counted } from '../src/access/client-address.js';
import { createLimits, type LimitsOptions } from '../src/access/connection-limits.js';
import { Denied } from '../src/access/denied.js';
import { createDatabase } from './support/database.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, parseAnswer, request, type ErrorBody } from './support/request.js';
import { openStream, type TestStream } from './support/stream.js';
import { SECRET, tokenFor } from './support/token.js';

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;

async function setUp(t: ExecutionContext, env: Environment) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { RETRY_SECONDS: '2', ...env });
  const open = (headers = {}) => openStream(t, `${relay.url}/events/a`, headers);
  const get = (headers = {}) => request(relay.url, '/events/a', { headers });
  const streams = async (count: number) => {
    while (relay.streams !== count) await delay(POLL_MS);
  };
  return { relay, open, get, streams };
}

/** Checks that any client of streams would come back after a while: a stream with nothing but a pause, which breaks off. */
async function sentAway(t: ExecutionContext, stream: TestStream, error = 'too_many_connections'): Promise<number> {
  await stream.ended;
  t.is(stream.headers['content-type'], 'text/event-stream; charset=utf-8');
  t.false(stream.isComplete, 'some clients would take it for the end of it all');
  t.is(stream.frames.length, 1);
  const { id, event, data, retry = 0 } = stream.frames[0] ?? {};
  t.deepEqual([id, event], [undefined, 'stream-pause']);
  t.like(JSON.parse(data ?? ''), { reason: 'busy', retryMs: retry, error });
  t.true(retry >= 6000 && retry <= 12_000, `${retry} ms`);
  return retry;
}

function isOpen(t: ExecutionContext, stream: TestStream): Promise<unknown> {
  return t.notThrowsAsync(stream.until(({ event }) => event === 'stream-open'));
}

test('past MAX_CONNECTIONS an EventSource is sent away for a while, each for one of its own, and anybody else gets 503', async (t) => {
  const { relay, open, get, streams } = await setUp(t, { MAX_CONNECTIONS: '3' });
  const held = [await open(), await open(), await open()];
  for (const stream of held) await isOpen(t, stream);
  const pauses = await Promise.all(Array.from({ length: 10 }, async () => sentAway(t, await open())));
  t.true(new Set(pauses).size > 5, 'they would all be back at once');

  const { status, headers, body } = await get();
  t.is(status, 503);
  t.is((JSON.parse(body) as ErrorBody).error, 'too_many_connections');
  t.true(Number(headers['retry-after']) >= 6);
  t.is((await request(relay.url, '/healthz')).status, 200, 'it is alive all the same');

  held[0]?.close();
  await streams(2);
  await isOpen(t, await open());
});

test('MAX_CONNECTIONS_PER_ADDRESS, where it is set, counts any address, and behind TRUST_PROXY the one it names', async (t) => {
  const { open, get, streams } = await setUp(t, { MAX_CONNECTIONS_PER_ADDRESS: '2', TRUST_PROXY: '1' });
  const from = (address: string) => ({ 'X-Forwarded-For': address });
  const held = [await open(from('203.0.113.7')), await open(from('198.51.100.1, 203.0.113.7'))];
  for (const stream of held) await isOpen(t, stream);
  t.is((await get(from('203.0.113.7'))).status, 429);
  // Only what the last proxy wrote is believed.
  t.is((await get(from('192.0.2.200, 203.0.113.7'))).status, 429);
  await isOpen(t, await open(from('203.0.113.8')));
  await isOpen(t, await open());
  await isOpen(t, await open());
  t.is((await get()).status, 429);
  held[1]?.close();
  await streams(4);
  await isOpen(t, await open(from('203.0.113.7')));
});

test('with TRUST_PROXY=n the n-th address from the end counts, whatever a client put before it, in one header or several', async (t) => {
  const { relay } = await setUp(t, { MAX_CONNECTIONS_PER_ADDRESS: '1', TRUST_PROXY: '2' });
  const from = (...lines: string[]) => {
    const headers = lines.map((line) => `X-Forwarded-For: ${line}\r\n`).join('');
    return openRaw(t, relay.url, `GET /events/a HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);
  };
  await from('203.0.113.7, 10.0.0.1').until('stream-open');
  for (const lines of [
    ['203.0.113.7, 10.0.0.1'],
    ['192.0.2.1, 203.0.113.7, 10.0.0.9'],
    ['192.0.2.2', '203.0.113.7, 10.0.0.9'],
    ['192.0.2.3', '203.0.113.7', '10.0.0.9'],
    ['192.0.2.4,203.0.113.7:4711,\t10.0.0.9:80'],
    ['unknown, ::ffff:203.0.113.7, 10.0.0.9'],
  ]) {
    const refused = from(...lines);
    await refused.until('\r\n\r\n');
    t.is(parseAnswer(refused.text).status, 429, lines.join(' | '));
  }
  await from('203.0.113.7, 203.0.113.8, 10.0.0.1').until('stream-open');
  await from('[2001:db8::1]:4711, 10.0.0.1').until('stream-open');
  await from('[2001:db8::2]:4712, 10.0.0.1').until('HTTP/1.1 429');
});

test('R5: connections that ask for nothing are bounded by address, and keep nobody else out', async (t) => {
  const { relay, open, get } = await setUp(t, { MAX_CONNECTIONS_PER_ADDRESS: '3', REQUEST_TIMEOUT_SECONDS: '3600' });
  const held = [await open(), await open(), await open()];
  for (const stream of held) await isOpen(t, stream);
  const idle = Array.from({ length: 150 }, () => openRaw(t, relay.url, ''));
  // 103 of them stay; the others are cut at once.
  let ended = 0;
  for (const connection of idle) void connection.ended.then(() => (ended += 1));
  while (ended < 47) await delay(POLL_MS);
  await t.throwsAsync(get());
  const elsewhere = await new Promise<number | undefined>((resolve, reject) => {
    const asked = http.get(`${relay.url}/events/a`, { localAddress: '127.0.0.2', agent: false }, (response) => {
      resolve(response.statusCode);
      asked.destroy();
    });
    asked.once('error', reject);
  });
  t.is(elsewhere, 200);
  t.is(ended, 47);
  for (const { socket } of idle) socket.destroy();
  while ((await get().catch(() => undefined))?.status !== 429) await delay(POLL_MS);
});

test('without TRUST_PROXY nobody can say that they come from elsewhere', async (t) => {
  const { open, get } = await setUp(t, { MAX_CONNECTIONS_PER_ADDRESS: '1' });
  await isOpen(t, await open({ 'X-Forwarded-For': '203.0.113.7' }));
  t.is((await get({ 'X-Forwarded-For': '203.0.113.8' })).status, 429);
});

test('MAX_CONNECTIONS_PER_SUBJECT counts those of one sub, and those without one not at all', async (t) => {
  const { open, get, streams } = await setUp(t, { JWT_SECRET: SECRET, MAX_CONNECTIONS_PER_SUBJECT: '2' });
  const bearer = async (sub?: string) => ({
    Authorization: `Bearer ${await tokenFor(['a'], sub === undefined ? {} : { sub })}`,
  });
  const first = await open(await bearer('ann'));
  await isOpen(t, first);
  await isOpen(t, await open(await bearer('ann')));
  t.is((await get(await bearer('ann'))).status, 429);
  await sentAway(t, await open(await bearer('ann')));
  for (const sub of ['bob', undefined, undefined, undefined]) await isOpen(t, await open(await bearer(sub)));
  first.close();
  await streams(5);
  await isOpen(t, await open(await bearer('ann')));
});

test('a request that was refused, or is over, takes no place', async (t) => {
  const { relay, open, streams } = await setUp(t, {
    MAX_CONNECTIONS: '2',
    MAX_CONNECTIONS_PER_ADDRESS: '2',
    PUBLIC_CHANNELS: 'a',
    JWT_SECRET: SECRET,
  });
  const wrong = { Authorization: 'Bearer x' };
  for (let n = 0; n < 5; n++) {
    t.is((await request(relay.url, '/events/secret')).status, 401);
    t.is((await request(relay.url, '/events/a', { headers: wrong })).status, 401);
    t.is((await request(relay.url, '/events/a?since=x')).status, 400);
    t.is((await request(relay.url, '/events/a', { method: 'HEAD' })).status, 200);
    const raw = openRaw(t, relay.url, 'GET /events/a HTTP/1.1\r\nHost: x\r\n\r\n');
    await raw.until('stream-open');
    raw.socket.destroy();
    await streams(0);
  }
  await isOpen(t, await open());
  await isOpen(t, await open());
});

test('MAX_HEADER_KILOBYTES bounds the address and the headers together', async (t) => {
  const { relay } = await setUp(t, { MAX_HEADER_KILOBYTES: '4' });
  const send = (bytes: number) =>
    openRaw(t, relay.url, `GET /healthz?${'x'.repeat(bytes)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`).ended;
  t.is(parseAnswer(await send(3000)).status, 200);
  const { status, body } = parseAnswer(await send(5000));
  t.is(status, 431);
  t.true((JSON.parse(body) as ErrorBody).message.includes('4096'));
});

const NONE: LimitsOptions = {
  maxConnections: 1_000_000,
  maxConnectionsPerAddress: undefined,
  maxConnectionsPerSubject: 1_000_000,
};

/** How many from these addresses, in turn, are let in. */
function letIn(options: LimitsOptions, addresses: readonly string[]): number {
  const limits = createLimits(options);
  let count = 0;
  for (const address of addresses) {
    try {
      limits.take(counted(address));
      count += 1;
    } catch (error) {
      if (!(error instanceof Denied)) throw error;
    }
  }
  return count;
}

const times = (address: string, count: number) => Array.from({ length: count }, () => address);

test('by default a public address has 2,000 connections, and a private one, which may be a proxy, as many as there are', (t) => {
  for (const address of ['8.8.8.8', '::ffff:8.8.8.8', '2001:4860::1']) {
    t.is(letIn(NONE, times(address, 3000)), 2000, address);
  }
  for (const address of ['127.0.0.1', '10.1.2.3', '172.17.0.1', '192.168.1.1', '::1', 'fd00::1', '::ffff:10.0.0.1']) {
    t.is(letIn(NONE, times(address, 3000)), 3000, address);
  }
});

test('in IPv6 a /64 is one address, and an address is the same however it is written', (t) => {
  const two = { ...NONE, maxConnectionsPerAddress: 2 };
  t.is(letIn(two, ['2001:db8::1', '2001:db8::2', '2001:db8:0:0:ffff::3', '2001:DB8::']), 2);
  t.is(letIn(two, ['2001:db8::1', '2001:db8:0:1::1', '2001:db8:0:2::1']), 3);
  t.is(letIn(two, ['192.0.2.1', '::ffff:192.0.2.1', '::ffff:c000:201']), 2);
  t.is(letIn(two, ['unknown', 'unknown', 'unknown', '_hidden']), 3);
});
