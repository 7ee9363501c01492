/**
 * Forward authentication against an application that is slow, down, or lies.
 */
import type { OutgoingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { json } from './support/http-server.js';
import { openRaw, type ErrorBody } from './support/request.js';
import { openStream } from './support/stream.js';
import { SECRET, tokenFor } from './support/token.js';
import { type Answer, by, keepsWaiting, session, setUp, user, view } from './support/application.js';

/** How long nothing must happen for it to count as not happening. */
const LEEWAY_MS = 300;

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;

test('the application is asked with the credentials and the channels of the client, and its word counts', async (t) => {
  const { app, url, get, publish } = await setUp(t);
  const headers = { ...session('ann'), Authorization: 'Basic YTpi' };
  const stream = await openStream(t, `${url}/events?channel=user:ann&channel=news&channel=status`, headers);
  const asked = app.requests[0];
  t.is(asked?.method, 'GET');
  t.is(asked?.headers.cookie, headers.Cookie);
  t.is(asked?.headers.authorization, headers.Authorization);
  const { pathname, searchParams } = new URL(asked?.url ?? '', app.url);
  t.is(pathname, '/may-listen');
  t.is(searchParams.get('from'), 'relay');
  t.deepEqual(searchParams.getAll('channel'), ['news', 'status', 'user:ann']);

  await stream.until(({ event }) => event === 'stream-open');
  for (const channel of ['user:bob', 'user:ann']) await publish(channel);
  t.is((await stream.untilEvents(1))[0]?.data, 'user:ann');

  const wide = await get('/events?channel=user:*&channel=user:ann', session('ann'));
  t.is(wide.status, 403);
  t.deepEqual((JSON.parse(wide.body) as ErrorBody).channels, ['user:*']);
  t.deepEqual(new URL(app.requests[1]?.url ?? '', app.url).searchParams.getAll('channel'), ['user:*']);
});

test('401 and 403 of the application are passed on with their body', async (t) => {
  const { get } = await setUp(t);
  const anonymous = await get('/events/user:ann');
  t.is(anonymous.status, 401);
  t.is(anonymous.headers['content-type'], 'application/json');
  t.is(anonymous.headers['cache-control'], 'no-store');
  t.deepEqual(JSON.parse(anonymous.body), { error: 'log in', page: '/login' });
  const banned = await get('/events/user:ann', { ...session('banned'), Accept: 'text/event-stream' });
  t.is(banned.status, 403);
  t.deepEqual(JSON.parse(banned.body), { error: 'banned' });
});

test('about public channels, and for those who bring a token, it is not asked', async (t) => {
  const { app, get } = await setUp(t, view, { JWT_SECRET: SECRET });
  t.is((await get('/events/status', session('ann'))).status, 200);
  t.is((await get('/events/a', { Authorization: `Bearer ${await tokenFor(['a'])}` })).status, 200);
  t.is((await get('/events/user:ann', { ...session('ann'), Authorization: 'Bearer x.y.z' })).status, 401);
  t.is(app.requests.length, 0);
  t.is((await get('/events/user:ann', session('ann'))).status, 200);
  t.is(app.requests.length, 1);
});

test("a foreign page does not get to act with its visitor's cookies", async (t) => {
  const { app, get } = await setUp(t, view, { ALLOWED_ORIGINS: 'https://app.example' });
  const from = (Origin: string) => get('/events/user:ann', { ...session('ann'), Origin });
  t.is((await from('https://evil.example')).status, 403);
  t.is(app.requests.length, 0);
  t.is((await from('https://app.example')).status, 200);
});

/** Answers that are none. */
const LIES: Readonly<Record<string, Answer>> = {
  'an error': (_, response) => json(response, 500, { channels: ['*'] }),
  'a redirect to the log-in page': (_, response) => response.writeHead(302, { Location: '/login' }).end(),
  'not found': (_, response) => json(response, 404, { channels: ['*'] }),
  'a page': (_, response) => response.end('<html>Welcome'),
  nothing: (_, response) => response.end(),
  'a list': (_, response) => json(response, 200, ['*']),
  'no channels': (_, response) => json(response, 200, { expires_in: 60 }),
  'channels that are no list': (_, response) => json(response, 200, { channels: '*' }),
  'channels that are no names': (_, response) => json(response, 200, { channels: [1] }),
  'channels that are no channels': (_, response) => json(response, 200, { channels: ['a*'] }),
  'an end in the past': (_, response) => json(response, 200, { channels: ['*'], expires_in: -1 }),
  'an end that is none': (_, response) => json(response, 200, { channels: ['*'], expires_in: '60' }),
  'an end beyond all numbers': (_, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json' }).end('{"channels":["*"],"expires_in":1e400}');
  },
  'an end in milliseconds': (_, response) => json(response, 200, { channels: ['*'], expires_in: Date.now() }),
  'more than it should': (_, response) => json(response, 200, { channels: ['*'], padding: 'x'.repeat(300_000) }),
  'half an answer': (_, response) => {
    response.writeHead(200, { 'Content-Length': 1000 });
    response.write('{"channels": ["*"]');
    setTimeout(() => response.destroy(), 20);
  },
  'no answer in time': () => undefined,
  'a closed connection': (_, response) => response.destroy(),
};

test('anything but an answer counts as trouble: an EventSource is told to come back, anybody else gets 503', async (t) => {
  let answer: Answer = view;
  const { relay, get } = await setUp(t, (asked, response) => answer(asked, response), {
    FORWARD_AUTH_TIMEOUT_SECONDS: '0.5',
    FORWARD_AUTH_CACHE_SECONDS: '0',
    RETRY_SECONDS: '2',
  });
  for (const [what, lie] of Object.entries(LIES)) {
    answer = lie;
    const other = await get('/events/user:ann', session('ann'));
    t.is(other.status, 503, what);
    t.is((JSON.parse(other.body) as ErrorBody).error, 'auth_unavailable');
    t.true(Number(other.headers['retry-after']) >= 6);

    const stream = await openStream(t, `${relay.url}/events/user:ann`, session('ann'));
    await stream.ended;
    t.deepEqual(stream.events, [], what);
    const [{ event, data, retry = 0 } = {}] = stream.frames;
    t.is(event, 'stream-pause', what);
    t.like(JSON.parse(data ?? ''), { reason: 'busy', error: 'auth_unavailable', retryMs: retry }, what);
    t.true(retry >= 6000 && retry <= 12_000, `${what}: ${retry}`);
  }
  answer = view;
  t.is((await get('/events/user:ann', session('ann'))).status, 200, 'it recovers');
  t.is(relay.streams === 0 || relay.streams === 1, true);
});

test('an application that is down is trouble too, and no answer is kept of it', async (t) => {
  const { app, get } = await setUp(t);
  await app.close();
  t.is((await get('/events/user:ann', session('ann'))).status, 503);
  t.is((await get('/events/status', session('ann'))).status, 200);
});

test('R5: of clients that have left nothing is asked that was not under way, and their places are free', async (t) => {
  const { answer, open } = keepsWaiting();
  const { app, relay, get } = await setUp(t, answer, {
    TRUST_PROXY: '1',
    MAX_CONNECTIONS_PER_ADDRESS: '400',
    FORWARD_AUTH_TIMEOUT_SECONDS: '30',
  });
  const ask = (n: number) =>
    openRaw(
      t,
      relay.url,
      `GET /events/news HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.1\r\nCookie: session=x${n}\r\n\r\n`,
    );
  const asked = Array.from({ length: 400 }, (_, n) => ask(n));
  await app.requested(32);
  // Whether or not all of them have arrived: more cannot be put while those are under way.
  for (const { socket } of asked) socket.destroy();
  const from = { ...session('legit'), ...by('203.0.113.1') };
  while ((await get('/events/status', from)).status !== 200) await delay(POLL_MS);
  await delay(LEEWAY_MS);
  open();
  while ((await get('/events/news', from)).status !== 200) await delay(POLL_MS);
  t.is(app.requests.filter(({ headers }) => user(headers) !== 'legit').length, 32);
});

test('a question that waits in the line of one address is put at once when it is asked from another', async (t) => {
  const { answer, open } = keepsWaiting();
  const { app, get } = await setUp(t, answer, { TRUST_PROXY: '1', FORWARD_AUTH_TIMEOUT_SECONDS: '30' });
  const crowd = Array.from({ length: 300 }, (_, n) =>
    get('/events/news', { ...session(`x${n}`), ...by('203.0.113.1') }),
  );
  await app.requested(32);
  const waits = get('/events/user:legit', { ...session('legit'), ...by('203.0.113.1') });
  const elsewhere = await get('/events/user:legit', { ...session('legit'), ...by('203.0.113.2') });
  t.is(elsewhere.status, 200);
  t.is((await waits).status, 200);
  t.is(app.requests.filter(({ headers }) => user(headers) === 'legit').length, 1);
  open();
  await Promise.all(crowd);
});

test('an answer is kept for FORWARD_AUTH_CACHE_SECONDS, for the same credentials and channels', async (t) => {
  const { app, get } = await setUp(t, view, { FORWARD_AUTH_CACHE_SECONDS: '60' });
  const ask = async (headers: OutgoingHttpHeaders, channel = 'user:ann') => {
    await get(`/events/${channel}`, headers);
    return app.requests.length;
  };
  t.is(await ask(session('ann')), 1);
  t.is(await ask(session('ann')), 1);
  t.is(await ask(session('bob')), 2);
  t.is(await ask(session('ann'), 'news'), 3);
  t.is(await ask({ ...session('ann'), Authorization: 'x' }), 4);
  t.is(await ask({}), 5);
  t.is(await ask({}), 5, 'a refusal is kept too');

  const brief = await setUp(t, view, { FORWARD_AUTH_CACHE_SECONDS: '0.1' });
  await brief.get('/events/user:ann', session('ann'));
  await delay(200);
  await brief.get('/events/user:ann', session('ann'));
  t.is(brief.app.requests.length, 2, 'and no longer');
});

test('a flood of refusals evicts no grant from the cache', async (t) => {
  // So large that a bound on the bytes of all answers together would be exceeded by as many as this.
  const refusal = 'x'.repeat(250_000);
  const mostlyRefuses: Answer = (asked, response) => {
    if (user(asked.headers)?.startsWith('stranger')) json(response, 403, { refusal });
    else view(asked, response);
  };
  const { app, get } = await setUp(t, mostlyRefuses, { FORWARD_AUTH_CACHE_SECONDS: '60' });
  const statusFor = async (name: string) => (await get('/events/user:ann', session(name))).status;
  const questionsAbout = (name: string) => app.requests.filter(({ headers }) => user(headers) === name).length;
  t.is(await statusFor('ann'), 200);
  for (let n = 0; n < 150; n += 1) t.is(await statusFor(`stranger${n}`), 403);
  t.is(await statusFor('stranger149'), 403);
  t.is(questionsAbout('stranger149'), 1, 'refusals are kept, too');
  t.is(await statusFor('ann'), 200);
  t.is(questionsAbout('ann'), 1);
});

test('FORWARD_AUTH_CACHE_SECONDS=0 keeps nothing', async (t) => {
  const { app, get } = await setUp(t, view, { FORWARD_AUTH_CACHE_SECONDS: '0' });
  for (const count of [1, 2, 3]) {
    await get('/events/user:ann', session('ann'));
    t.is(app.requests.length, count);
  }
});

test('a client that is let in while the relay stops, and keeps its side open, does not hold it up', async (t) => {
  let letIn: () => void = () => undefined;
  const answer: Answer = (_, response) => (letIn = () => json(response, 200, { channels: ['news'] }));
  const { app, relay } = await setUp(t, answer, { SHUTDOWN_SECONDS: '40' });
  const { hostname, port } = new URL(relay.url);
  const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
  t.teardown(() => socket.destroy());
  socket.write('GET /events/news HTTP/1.1\r\nHost: x\r\n\r\n');
  socket.resume();
  await app.requested(1);
  const began = Date.now();
  const stopped = relay.stop();
  letIn();
  await stopped;
  t.true(Date.now() - began < 20_000, 'it was waited for until the end of SHUTDOWN_SECONDS');
});
