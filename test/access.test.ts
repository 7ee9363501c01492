/**
 * Who may read what, as a client of a running relay sees it.
 */
import assert from 'node:assert/strict';
import type { OutgoingHttpHeaders } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { allows, channelFilter, matches } from '../src/event/channel-filter.js';
import { createDatabase } from './support/database.js';
import { holds } from './support/property.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, parseAnswer, request, type Answer, type ErrorBody } from './support/request.js';
import { openStream } from './support/stream.js';
import { inSeconds, SECRET, sign, tokenFor } from './support/token.js';

/** A relay that knows tokens, and nothing public. */
async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { PUBLIC_CHANNELS: '', JWT_SECRET: SECRET, ...env });
  return {
    url: relay.url,
    relay,
    publish: (channel: string) =>
      database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text))', [channel, channel]),
    get: (path: string, headers: OutgoingHttpHeaders = {}) => request(relay.url, path, { headers }),
  };
}

const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });
const cookie = (token: string, name = 'outbox_token') => ({ Cookie: `theme=dark; ${name}=${token}; csrftoken=x` });

function refused(t: ExecutionContext, answer: Answer, status: number, code: string): ErrorBody {
  t.is(answer.status, status, answer.body);
  const body = JSON.parse(answer.body) as ErrorBody;
  t.is(body.error, code);
  return body;
}

test('R8: a client without a token is told that it needs one, and for which channels', async (t) => {
  const { get } = await setUp(t, { PUBLIC_CHANNELS: 'news' });
  const answer = await get('/events?channel=news&channel=user:1');
  t.deepEqual(refused(t, answer, 401, 'unauthorized').channels, ['user:1']);
  t.is(answer.headers['www-authenticate'], 'Bearer');
  t.is(answer.headers['cache-control'], 'no-store');
  t.is((await get('/events/news')).status, 200);
});

test('R8: a token gives its channels, live and replayed, and no other', async (t) => {
  const { url, get, publish } = await setUp(t);
  for (const channel of ['user:42', 'user:43', 'org:7:a']) await publish(channel);
  const headers = bearer(await tokenFor(['user:42', 'org:7:*']));
  const stream = await openStream(t, `${url}/events?channel=user:42&channel=org:7:*&last_event_id=earliest`, headers);
  await stream.untilEvents(2);
  for (const channel of ['user:43', 'org:8:a', 'org:7', 'org:7:b', 'user:42']) await publish(channel);
  await stream.untilEvents(4);
  t.deepEqual(
    stream.events.map(({ data }) => data),
    ['user:42', 'org:7:a', 'org:7:b', 'user:42'],
  );
  const wide = await get('/events?channel=user:*&channel=user:42&channel=user:43&last_event_id=earliest', headers);
  t.deepEqual(refused(t, wide, 403, 'forbidden').channels, ['user:*', 'user:43']);
  t.is((await get('/events?channel=org:7:x:*', headers)).status, 200);
  t.is((await request(url, '/events/user:43', { method: 'HEAD', headers })).status, 403);
});

test('R8: public channels are open beside those of a token', async (t) => {
  const { get } = await setUp(t, { PUBLIC_CHANNELS: 'news,status:*' });
  const headers = bearer(await tokenFor(['user:42']));
  t.is((await get('/events?channel=user:42&channel=news&channel=status:*', headers)).status, 200);
  t.deepEqual(refused(t, await get('/events?channel=*', headers), 403, 'forbidden').channels, ['*']);
});

test('R8: a token that is not good is refused, also where nobody needs one', async (t) => {
  const { get } = await setUp(t, { PUBLIC_CHANNELS: 'news' });
  const expired = await tokenFor(['*'], { exp: inSeconds(-10) });
  const answer = await get('/events/news', bearer(expired));
  refused(t, answer, 401, 'expired_token');
  t.is(answer.headers['www-authenticate'], 'Bearer error="invalid_token"');
  refused(t, await get('/events/news', cookie(expired)), 401, 'expired_token');
  for (const authorization of ['Bearer', 'Bearer ', 'bearer x.y.z', 'Bearer   ', 'BEARER null']) {
    refused(t, await get('/events/news', { Authorization: authorization }), 401, 'invalid_token');
  }
  refused(t, await get('/events/news', cookie('')), 401, 'invalid_token');
});

test('an Authorization of another kind is not for us', async (t) => {
  const { get } = await setUp(t, { PUBLIC_CHANNELS: 'news' });
  const basic = { Authorization: 'Basic dXNlcjpwYXNz' };
  t.is((await get('/events/news', basic)).status, 200);
  t.is((await get('/events/user:1', { ...basic, ...cookie(await tokenFor(['user:1'])) })).status, 200);
});

test('the header counts before the cookie, and the cookie before the query', async (t) => {
  const { get } = await setUp(t, { ALLOW_QUERY_TOKEN: 'true' });
  const [a, b, c] = await Promise.all([tokenFor(['a']), tokenFor(['b']), tokenFor(['c'])]);
  const named = async (query: string, headers: OutgoingHttpHeaders) =>
    refused(t, await get(`/events?channel=a&channel=b&channel=c${query}`, headers), 403, 'forbidden').channels;
  t.deepEqual(await named(`&token=${c}`, { ...cookie(b), ...bearer(a) }), ['b', 'c']);
  t.deepEqual(await named(`&token=${c}`, cookie(b)), ['a', 'c']);
  t.deepEqual(await named(`&token=${c}`, {}), ['a', 'b']);
  // Also where the first of them is no good.
  refused(t, await get(`/events/a?token=${a}`, bearer('x')), 401, 'invalid_token');
  refused(t, await get(`/events/a?token=${a}`, cookie('x')), 401, 'invalid_token');
});

test('a token in the address counts only with ALLOW_QUERY_TOKEN, and its bearer is told', async (t) => {
  const { get } = await setUp(t);
  const token = await tokenFor(['a']);
  const { message } = refused(t, await get(`/events/a?token=${token}`), 401, 'unauthorized');
  t.regex(message, /ALLOW_QUERY_TOKEN/);
  t.false(message.includes(token));
});

test('AUTH_COOKIE names the cookie; a quoted value is unquoted, and of several the first counts', async (t) => {
  const { get } = await setUp(t, { AUTH_COOKIE: 'sse' });
  const token = await tokenFor(['a']);
  t.is((await get('/events/a', cookie(token, 'sse'))).status, 200);
  t.is((await get('/events/a', cookie(`"${token}"`, 'sse'))).status, 200);
  t.is((await get('/events/a', { Cookie: `sse=${token}; sse=other` })).status, 200);
  refused(t, await get('/events/a', { Cookie: `sse=other; sse=${token}` }), 401, 'invalid_token');
  refused(t, await get('/events/a', cookie(token)), 401, 'unauthorized');
  refused(t, await get('/events/a', cookie(token, 'xsse')), 401, 'unauthorized');
});

test('the cookie is found behind hundreds of others, whatever these have of its name', async (t) => {
  const { get } = await setUp(t, { AUTH_COOKIE: 'sse' });
  const token = await tokenFor(['a']);
  const others = [
    'sse',
    'xsse=1',
    'ssex=2',
    'x=sse',
    'y=sse=3',
    '=sse',
    'x sse=4',
    ...Array<string>(700).fill('sse2=5'),
  ];
  t.is((await get('/events/a', { Cookie: [...others, `sse=${token}`].join('; ') })).status, 200);
  t.is((await get('/events/a', { Cookie: [...others, `sse=${token}`].join(';') })).status, 200);
  refused(t, await get('/events/a', { Cookie: others.join('; ') }), 401, 'unauthorized');
  refused(t, await get('/events/a', { Cookie: 'sse'.repeat(4000) }), 401, 'unauthorized');
});

test('R8: a cookie whose name is ours but for what is no blank in HTTP is another, and a token holds none', async (t) => {
  const { url } = await setUp(t);
  const token = await tokenFor(['a']);
  const status = async (line: string) => {
    const bytes = Buffer.from(`GET /events/a HTTP/1.1\r\nHost: x\r\n${line}\r\nConnection: close\r\n\r\n`, 'latin1');
    const connection = openRaw(t, url, bytes);
    await connection.until('\r\n\r\n');
    connection.socket.destroy();
    return parseAnswer(connection.text).status;
  };
  t.is(await status(`Cookie: a=b;\t outbox_token \t=  ${token}\t; c=d`), 200);
  for (const blank of ['\u00a0', '\u0085', '\u00a0 ', ' \u00a0']) {
    t.is(await status(`Cookie: outbox_token${blank}=${token}`), 401, JSON.stringify(blank));
    t.is(await status(`Cookie: ${blank}outbox_token=${token}`), 401, JSON.stringify(blank));
    t.is(await status(`Cookie: outbox_token=${token}${blank}; x=y`), 401, JSON.stringify(blank));
    t.is(await status(`Authorization: Bearer ${blank}${token}`), 401, JSON.stringify(blank));
    t.is(await status(`Authorization: Bearer ${token}${blank}`), 401, JSON.stringify(blank));
  }
  for (const at of [1, 30, token.length - 3]) {
    const holed = `${token.slice(0, at)} ${token.slice(at)}`;
    t.is(await status(`Authorization: Bearer ${holed}`), 401);
  }
});

test('a cookie of nothing but blanks costs no more than its length', async (t) => {
  const { get } = await setUp(t, { PUBLIC_CHANNELS: 'news' });
  const Cookie = `a${' '.repeat(30_000)}x=1; b=${' '.repeat(30_000)}y`;
  const answers = await Promise.all(Array.from({ length: 20 }, () => get('/events/news', { Cookie })));
  t.true(answers.every(({ status }) => status === 200));
});

test('a cookie counts only for pages of our own origin and of ALLOWED_ORIGINS', async (t) => {
  const { url, get } = await setUp(t, { ALLOWED_ORIGINS: 'https://app.example', PUBLIC_CHANNELS: 'news' });
  const token = await tokenFor(['a']);
  const from = (Origin: string) => get('/events/a', { ...cookie(token), Origin });
  t.is((await from('https://app.example')).status, 200);
  t.is((await from(url)).status, 200);
  for (const origin of [
    'https://evil.example',
    'https://app.example.evil.example',
    'http://app.example',
    'null',
    'x',
    `capacitor://${new URL(url).host}`,
    `${url}.`,
    `${url}/`,
    `http://u@${new URL(url).host}`,
  ]) {
    refused(t, await from(origin), 403, 'foreign_origin');
  }
  // A header is not sent by the browser on its own: whoever sets it has the token.
  t.is((await get('/events/a', { ...bearer(token), Origin: 'https://evil.example' })).status, 200);
  // Nor is it let in as anybody else would be: its reader would take it for the user's own.
  refused(t, await get('/events/news', { ...cookie(token), Origin: 'https://evil.example' }), 403, 'foreign_origin');
});

test('ALLOWED_ORIGINS=* lets no page act with its cookies', async (t) => {
  const { get } = await setUp(t, { ALLOWED_ORIGINS: '*' });
  const token = await tokenFor(['a']);
  const answer = await get('/events/a', { ...cookie(token), Origin: 'https://evil.example' });
  refused(t, answer, 403, 'foreign_origin');
  t.is(answer.headers['access-control-allow-credentials'], undefined);
  t.is((await get('/events/a', { ...bearer(token), Origin: 'https://evil.example' })).status, 200);
});

test("a proxy's word about the host is the client's own where the proxy says nothing: only Host counts for a page's origin", async (t) => {
  const { get } = await setUp(t, { TRUST_PROXY: '1' });
  const headers = { ...cookie(await tokenFor(['a'])), Origin: 'https://evil.example' };
  refused(t, await get('/events/a', { ...headers, 'X-Forwarded-Host': 'evil.example' }), 403, 'foreign_origin');
});

test('a page of an app with a scheme of its own, named in ALLOWED_ORIGINS, reads with its cookies', async (t) => {
  const { get } = await setUp(t, { ALLOWED_ORIGINS: 'capacitor://localhost, https://App.Example/' });
  const token = await tokenFor(['a']);
  for (const Origin of ['capacitor://localhost', 'https://app.example']) {
    const answer = await get('/events/a', { ...cookie(token), Origin });
    t.is(answer.status, 200);
    t.is(answer.headers['access-control-allow-origin'], Origin);
  }
  refused(t, await get('/events/a', { ...cookie(token), Origin: 'ionic://localhost' }), 403, 'foreign_origin');
});

test('a refusal quotes no credential', async (t) => {
  const { get } = await setUp(t, { ALLOW_QUERY_TOKEN: 'true', ALLOWED_ORIGINS: 'https://app.example' });
  const wrong = await sign({ channels: ['a'], exp: inSeconds(-5), jti: 'must-not-be-seen' });
  for (const answer of [
    await get('/events/a', bearer(wrong)),
    await get('/events/a', cookie(wrong)),
    await get(`/events/a?token=${wrong}`),
    await get(`/nothing?token=${wrong}`, cookie(wrong)),
    await get(`/events?token=${wrong}`, cookie(wrong)),
    await get('/events/a', { ...cookie(wrong), Origin: 'https://evil.example' }),
  ]) {
    t.true(answer.status >= 400);
    for (const part of wrong.split('.')) t.false((answer.body + JSON.stringify(answer.headers)).includes(part));
  }
});

test('a preflight for a cursor too long for a simple request is answered without a token', async (t) => {
  const { url } = await setUp(t, { ALLOWED_ORIGINS: 'https://app.example' });
  const { status, headers } = await request(url, '/events/a', {
    method: 'OPTIONS',
    headers: {
      Origin: 'https://app.example',
      'Access-Control-Request-Method': 'GET',
      'Access-Control-Request-Headers': 'authorization,last-event-id',
    },
  });
  t.is(status, 204);
  t.is(headers['access-control-allow-origin'], 'https://app.example');
  t.is(headers['access-control-allow-credentials'], 'true');
  t.is(headers['access-control-allow-headers'], 'authorization,last-event-id');
  t.is(headers.vary, 'Origin, Access-Control-Request-Headers');
});

/** Names of few letters, so that patterns and channels meet often. */
const segment = fc.constantFrom('a', 'b', 'ab', '');
const channel = fc
  .array(segment, { minLength: 1, maxLength: 4 })
  .map((segments) => segments.join(':'))
  .filter((name) => name !== '');
const pattern = fc.oneof(
  channel,
  channel.map((name) => `${name}:*`),
  fc.constant('*'),
);

test('R8: whoever is allowed a pattern is allowed each channel of it, and who is refused lacks one', (t) => {
  // The meaning of a pattern, by its text alone.
  const isIn = (name: string, of: string) =>
    of === '*' || (of.endsWith(':*') ? name.startsWith(of.slice(0, -1)) : name === of);
  holds(
    t,
    fc.property(
      fc.array(pattern, { maxLength: 4 }),
      pattern,
      fc.array(channel, { minLength: 1, maxLength: 30 }),
      (allowed, wanted, channels) => {
        const covered = (name: string) => allowed.some((of) => isIn(name, of));
        if (allows(channelFilter(allowed), wanted)) {
          for (const name of channels) assert(!isIn(name, wanted) || covered(name), name);
        } else {
          // A channel of the pattern that no right can name, or the one channel that it is.
          const probe = wanted.endsWith('*') ? `${wanted.slice(0, -1)}zz` : wanted;
          assert(matches(channelFilter([wanted]), probe) && !covered(probe), probe);
        }
      },
    ),
    { numRuns: 5000 },
  );
});
