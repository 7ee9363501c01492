import { once } from 'node:events';
import http, { IncomingMessage } from 'node:http';
import { Socket, type AddressInfo } from 'node:net';
import test from 'ava';
import { createLive, type View } from '../src/console/live.js';
import type { Peers } from '../src/console/question.js';
import { createRefusals, fairly } from '../src/console/refusals.js';
import { refusalsOf } from '../src/console/together.js';
import { channelFilter } from '../src/event/channel-filter.js';
import { startConsole } from './support/console.js';
import { openStream } from './support/stream.js';
import { SECRET, tokenFor } from './support/token.js';

interface Listed {
  readonly code: string;
  readonly path: string;
  readonly message: string;
}

test('who is refused over and over does not push out what others were refused', async (t) => {
  const relay = await startConsole(t, { TRUST_PROXY: '1', PUBLIC_CHANNELS: 'news' });
  await relay.get('/events?channel=private', { 'x-forwarded-for': '203.0.113.7' });
  await relay.get('/events?channel=private', { 'x-forwarded-for': '203.0.113.8' });
  for (let n = 0; n < 500; n += 1) {
    await relay.get(`/events?channel=p${n}`, { 'x-forwarded-for': `2001:db8::${n % 10}` });
    if (n % 2 === 0) await relay.get(`/scan/${n}`, { 'x-forwarded-for': '198.51.100.9' });
  }
  const { refusals } = await relay.api<{ refusals: (Listed & { address: string; stamp: number })[] }>('refusals');
  t.is(refusals.length, 200);
  t.is(refusals.filter(({ message }) => message.includes('private')).length, 2);
  t.true(refusals.some(({ path }) => path === '/scan/498'));
  t.true(refusals.some(({ message }) => message.includes('p499')));
  t.deepEqual(
    refusals.map(({ stamp }) => stamp),
    refusals.map(({ stamp }) => stamp).sort((a, b) => b - a),
  );
});

const noted = (n: number, address: string, code = 'not_found') => ({
  ...{ n, stamp: n, at: '', status: 404, code, message: '', method: 'GET', path: `/${n}` },
  ...{ address, origin: null, count: 1 },
});

test('of the refusals of several processes those of a flood are left out first, too', (t) => {
  const flood = Array.from({ length: 200 }, (_, n) => noted(1000 + n, '198.51.100.9'));
  const all = refusalsOf([{ refusals: [noted(1, '203.0.113.7'), noted(2, '203.0.113.7')] }, { refusals: flood }]);
  t.is(all.length, 200);
  t.deepEqual(
    all.slice(-3).map(({ n }) => n),
    [1002, 2, 1],
  );
});

test('where nobody is refused more often than others the newest are kept', (t) => {
  const entries = Array.from({ length: 300 }, (_, n) => noted(n, `203.0.${n}.7`));
  t.deepEqual(fairly(entries, 200), entries.slice(100));
  const equal = Array.from({ length: 300 }, (_, n) => noted(n, '203.0.113.7'));
  t.deepEqual(fairly(equal, 200), equal.slice(100));
});

test('no token is in the list of refusals, wherever its client has put it', async (t) => {
  const relay = await startConsole(t, { JWT_SECRET: SECRET, PUBLIC_CHANNELS: 'news' });
  const token = await tokenFor(['user:1'], { console: true });
  const opaque = 'f00d1234f00d1234';
  const paths = [
    `/events%3Fchannel=a%26token=${opaque}`,
    `/events%3fchannel=a&token=${token}`,
    `/events/${token}`,
    `/events?channel=${token}`,
    `/console/api/log?limit=${token}`,
    `/nothing#${opaque}`,
  ];
  const authorization = `Bearer ${token}`;
  for (const path of paths) {
    const { status } = await relay.get(path, path.startsWith('/console') ? { authorization } : {});
    t.true(status >= 400, path);
  }
  await relay.get('/events?channel=user:2', { origin: `https://${token}.example` });
  const { refusals } = await relay.api<{ refusals: Listed[] }>('refusals');
  t.true(refusals.length >= paths.length);
  const said = JSON.stringify(refusals);
  for (const secret of [token, token.slice(0, 36), ...token.split('.'), opaque]) t.false(said.includes(secret), secret);
});

test('stamps of refusals stay by the clock, however many come in a millisecond', (t) => {
  const refusals = createRefusals({ trustProxy: 0, processNumber: 3 });
  const request = new IncomingMessage(new Socket());
  for (let n = 0; n < 20_000; n += 1) {
    request.url = `/${n}`;
    refusals.note({ status: 404, code: 'not_found', message: '', request });
  }
  t.is(refusals.total, 20_000);
  const stamps = refusals.after(0).map(({ stamp }) => stamp);
  t.is(stamps.length, 200);
  t.true(Math.max(...stamps) < (Date.now() + 2000) * 1024);
});

test('a refusal that a process tells later than another one is told, and each once', async (t) => {
  const at = Date.now() * 1024 + 1e6;
  const [one, two, three] = [
    noted(at + 5 * 1024 + 1, '::1'),
    noted(at + 3 * 1024 + 2, '::1'),
    noted(at + 9 * 1024 + 1, '::1'),
  ];
  const rounds = [[one], [one, two], [one, two, three]] as const;
  let round = 0;
  const peers: Peers = {
    count: 2,
    ask({ refusalsAfter = 0 }) {
      const told = rounds[Math.min(round, rounds.length - 1)] ?? [];
      round += 1;
      return Promise.resolve({
        answers: [{ refusals: told.filter(({ stamp }) => stamp > refusalsAfter) }],
        missing: 0,
      });
    },
  };
  const live = createLive({ peers, heartbeatSeconds: 15, retrySeconds: 1, stallSeconds: 30 });
  const viewer = { kind: 'open', subject: undefined, channels: channelFilter([]), expiresAt: Infinity } as const;
  const wanted = { views: new Set<View>(), sort: 'lag', channel: undefined, refusalsAfter: undefined, viewer } as const;
  const server = http.createServer((request, response) => live.open(request, response, wanted)).listen(0);
  t.teardown(() => server.close());
  await once(server, 'listening');
  const stream = await openStream(t, `http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  await stream.until(({ data }) => data?.includes(`/${three.n}`) === true);
  const ids = stream.frames
    .filter(({ event }) => event === 'refusal')
    .map(({ data }) => (JSON.parse(data ?? '') as { n: number }).n);
  t.deepEqual(ids, [one.n, two.n, three.n]);
  live.close();
});
