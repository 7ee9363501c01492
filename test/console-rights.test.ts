import test from 'ava';
import { startConsole, PASSWORD } from './support/console.js';
import { createDatabase } from './support/database.js';
import { startTestRelay } from './support/relay.js';
import { request } from './support/request.js';
import { openStream, type TestStream } from './support/stream.js';
import { inSeconds, SECRET, sign, tokenFor } from './support/token.js';

const API = ['session', 'live', 'connections', 'channels', 'refusals', 'log', 'events/1', 'doctor'] as const;
const PATHS = [
  '/console',
  '/console/',
  '/console/console.js',
  '/console/session',
  ...API.map((name) => `/console/api/${name}`),
];
const WITH_TOKENS = { JWT_SECRET: SECRET, PUBLIC_CHANNELS: 'news' };

test('R8: while the console is off all of its paths answer 404, where streams are at /{channel}, too', async (t) => {
  const database = await createDatabase(t);
  for (const env of [{}, { CONSOLE: 'false' }, { LEGACY_PATHS: 'true' }, { CONSOLE_PASSWORD: PASSWORD }]) {
    const relay = await startTestRelay(t, database.url, env);
    for (const path of PATHS) {
      for (const method of ['GET', 'POST', 'DELETE', 'OPTIONS']) {
        const { status, body } = await request(relay.url, path, { method });
        t.is(status, 404, `${method} ${path}`);
        t.like(JSON.parse(body), { error: 'not_found' });
      }
    }
  }
});

test('R8: who has not signed in is told of nothing but the ways in', async (t) => {
  const relay = await startConsole(t, WITH_TOKENS);
  const other = await startConsole(t, { CONSOLE_PASSWORD: 'quite another password' });
  const session = await relay.signIn();
  const [name, value = ''] = session.split('=');
  const [end = '', signature = ''] = value.split('.');
  const forged = [
    `${name}=${Number(end) + 1000}.${signature}`,
    `${name}=${end}.${'A'.repeat(43)}`,
    `${name}=${Date.now() - 1000}.${signature}`,
    `${name}=${value}x`,
    `${name}=`,
    `other=${value}`,
    await other.signIn('quite another password'),
  ];
  for (const api of API) {
    const path = `/console/api/${api}`;
    for (const cookie of ['', ...forged]) {
      const { status, body } = await relay.get(path, cookie === '' ? {} : { cookie });
      t.is(status, 401, `${path} ${cookie}`);
      t.like(JSON.parse(body), { error: 'unauthorized', signIn: { password: true, token: true } });
    }
  }
  t.is((await relay.get('/console/api/session', { cookie: session })).status, 200);
  t.is((await relay.send('POST', '/console/api/token', '{"token":"x"}')).status, 401);
});

test('R8: a token opens the console where its claim is true, and while it is good', async (t) => {
  const relay = await startConsole(t, { ...WITH_TOKENS, JWT_CONSOLE_CLAIM: 'operator' });
  const status = async (token: string) =>
    (await relay.get('/console/api/session', { authorization: `Bearer ${token}` })).status;
  t.is(await status(await tokenFor(['a'], { operator: true })), 200);
  for (const claims of [
    {},
    { operator: false },
    { operator: 'true' },
    { operator: 1 },
    { console: true },
    { operator: [true] },
  ]) {
    t.is(await status(await tokenFor(['*'], claims)), 403, JSON.stringify(claims));
  }
  t.is(await status(await sign({ channels: [], operator: true, exp: inSeconds(-1) })), 401);
  t.is(await status(await sign({ channels: [], operator: true })), 401);
  t.is(await status('nonsense'), 401);
  const cookie = `outbox_token=${await tokenFor([], { operator: true })}`;
  t.is((await relay.get('/console/api/session', { cookie })).status, 200);
  t.is((await relay.get('/console/api/session', { cookie: `outbox_token=${await tokenFor(['a'])}` })).status, 401);
});

test('R8: a viewer whose right ends is told so, and its stream ends', async (t) => {
  const relay = await startConsole(t, WITH_TOKENS);
  let authorization = '';
  // On a busy machine a short right ends before it is used.
  const open = async (seconds: number): Promise<TestStream> => {
    authorization = `Bearer ${await sign({ channels: [], console: true, exp: inSeconds(seconds) })}`;
    const opened = openStream(t, `${relay.url}/console/api/live`, { authorization });
    return seconds > 30 ? opened : opened.catch(() => open(2 * seconds));
  };
  const live = await open(3);
  const frame = await live.until(({ event }) => event === 'stream-error');
  t.like(JSON.parse(frame.data ?? ''), { condition: 'expired' });
  await live.ended;
  t.is((await relay.get('/console/api/session', { authorization })).status, 401);
});

test('R8: pages of other origins can neither read nor sign in nor out, and get no CORS', async (t) => {
  const relay = await startConsole(t, { ALLOWED_ORIGINS: 'https://friend.example' });
  const cookie = await relay.signIn();
  const foreign = [
    { origin: 'https://friend.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
    { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors' },
  ];
  for (const headers of foreign) {
    const answers = [
      await relay.get('/console/api/session', { cookie, ...headers }),
      await relay.send('POST', '/console/session', JSON.stringify({ password: PASSWORD }), headers),
      await relay.send('DELETE', '/console/session', '', { cookie, ...headers }),
      await relay.send('POST', '/console/api/token', '{}', { cookie, ...headers }),
    ];
    for (const { status, headers: got } of answers) {
      t.is(status, 403, JSON.stringify(headers));
      t.is(got['access-control-allow-origin'], undefined);
      t.is(got['set-cookie'], undefined);
    }
  }
  const own = { cookie, origin: relay.url, 'sec-fetch-site': 'same-origin' };
  t.is((await relay.get('/console/api/session', own)).status, 200);
  const led = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' };
  t.is((await relay.get('/console', led)).status, 200);
  t.is((await relay.get('/console/api/session', { cookie, ...led })).status, 403);
});

test('every answer of the console forbids what it has no need of, errors included', async (t) => {
  const relay = await startConsole(t);
  const cookie = await relay.signIn();
  for (const path of [...PATHS, '/console/nothing', '/console/api/log?limit=x']) {
    const { headers } = await relay.get(path, { cookie });
    t.regex(String(headers['content-security-policy']), /default-src 'none'.*frame-ancestors 'none'/, path);
    t.notRegex(String(headers['content-security-policy']), /unsafe/);
    t.is(headers['x-content-type-options'], 'nosniff');
    t.is(headers['x-frame-options'], 'DENY');
    t.is(headers['referrer-policy'], 'no-referrer');
    t.regex(String(headers['cache-control']), path.startsWith('/console/api') ? /no-store/ : /no-store|no-cache/);
    t.is(headers['access-control-allow-origin'], undefined);
  }
});

test('a session is a cookie out of the reach of scripts, and ends in the browser that signs out', async (t) => {
  const relay = await startConsole(t, { TRUST_PROXY: '1' });
  const body = JSON.stringify({ password: PASSWORD });
  const { headers } = await relay.send('POST', '/console/session', body);
  t.regex(
    headers['set-cookie']?.[0] ?? '',
    /^outbox_relay_console=\d+\.[\w-]{43}; Path=\/console; Max-Age=28800; HttpOnly; SameSite=Strict$/,
  );
  const secure = await relay.send('POST', '/console/session', body, { 'x-forwarded-proto': 'https' });
  t.regex(secure.headers['set-cookie']?.[0] ?? '', /; Secure$/);
  const out = await relay.send('DELETE', '/console/session', '');
  t.regex(out.headers['set-cookie']?.[0] ?? '', /^outbox_relay_console=; Path=\/console; Max-Age=0;/);
});

test('who guesses passwords is refused after some, and others are not; sessions go on', async (t) => {
  const relay = await startConsole(t, { TRUST_PROXY: '1' });
  const cookie = await relay.signIn();
  const attempt = async (address: string, password: string) =>
    relay.send('POST', '/console/session', JSON.stringify({ password }), { 'x-forwarded-for': address });
  const statuses: number[] = [];
  for (let n = 0; n < 12; n += 1) statuses.push((await attempt('203.0.113.7', `guess ${n}`)).status);
  t.deepEqual(statuses, [...Array<number>(10).fill(401), 429, 429]);
  const refused = await attempt('203.0.113.7', PASSWORD);
  t.is(refused.status, 429);
  t.regex(String(refused.headers['retry-after']), /^\d+$/);
  t.is((await attempt('203.0.113.8', PASSWORD)).status, 204);
  t.is((await relay.get('/console/api/session', { cookie })).status, 200);
  for (let n = 0; n < 190; n += 1) await attempt(`198.51.${n}.1`, 'guess');
  t.is((await attempt('192.0.2.1', PASSWORD)).status, 429);
  t.is((await relay.get('/console/api/session', { cookie })).status, 200);
});

test('R8: data is hidden of channels that the viewer may not read, unless CONSOLE_SHOWS has it', async (t) => {
  interface Page {
    readonly events: readonly {
      readonly channel: string;
      readonly data: string | null;
      readonly hidden: string | null;
    }[];
  }
  const shown = async (env: Record<string, string>, channels: readonly string[]) => {
    const relay = await startConsole(t, { ...WITH_TOKENS, ...env });
    await relay.database.query(
      "INSERT INTO outbox (channel, data) VALUES ('news', '1'), ('user:1', '2'), ('user:2', '3')",
    );
    const reader = await openStream(t, `${relay.url}/events?channel=news&last_event_id=0`);
    await reader.untilEvents(1);
    const authorization = `Bearer ${await tokenFor(channels, { console: true })}`;
    const { events } = JSON.parse((await relay.get('/console/api/log', { authorization })).body) as Page;
    for (const [n, { data, hidden }] of [...events].reverse().entries()) {
      const life = JSON.parse(
        (await relay.get(`/console/api/events/${n + 1}`, { authorization })).body,
      ) as Page['events'][0];
      t.deepEqual([life.data, life.hidden === null], [data, hidden === null]);
      t.is(data === null, hidden !== null);
    }
    return events.map(({ data }) => data).reverse();
  };
  t.deepEqual(await shown({}, []), ['1', null, null]);
  t.deepEqual(await shown({}, ['user:2']), ['1', null, '3']);
  t.deepEqual(await shown({}, ['user:*']), ['1', '2', '3']);
  t.deepEqual(await shown({ CONSOLE_SHOWS: 'data' }, []), ['1', '2', '3']);
});

test('R8: addresses and users are hidden, unless CONSOLE_SHOWS has them', async (t) => {
  for (const [shows, addresses, subject] of [
    ['', ['203.0.113.x', '2001:db8:x', 'x'], null],
    ['addresses', ['203.0.113.7', '2001:db8::1', 'unknown'], 'anna'],
  ] as const) {
    const relay = await startConsole(t, {
      ...WITH_TOKENS,
      TRUST_PROXY: '1',
      METRICS_PORT: '0',
      ...(shows ? { CONSOLE_SHOWS: shows } : {}),
    });
    const authorization = `Bearer ${await tokenFor(['orders'], { sub: 'anna' })}`;
    for (const address of ['203.0.113.7', '2001:db8::1', 'unknown']) {
      const stream = await openStream(t, `${relay.url}/events?channel=orders`, {
        authorization,
        'x-forwarded-for': address,
      });
      await stream.until(({ event }) => event === 'stream-open');
      await relay.get('/events?channel=orders', { 'x-forwarded-for': address });
    }
    const { connections } = await relay.api<{ connections: { address: string; subject: string | null }[] }>(
      'connections?sort=age',
    );
    t.deepEqual(connections.map(({ address }) => address).sort(), [...addresses].sort());
    t.deepEqual([...new Set(connections.map((connection) => connection.subject))], [subject]);
    const { refusals } = await relay.api<{ refusals: { address: string; code: string }[] }>('refusals');
    const refused = refusals.filter(({ code }) => code === 'unauthorized').map(({ address }) => address);
    t.deepEqual([...new Set(refused)].sort(), [...addresses].sort());
  }
});

test('no secret that is brought to the console is in a log, an answer or the list of refusals', async (t) => {
  const relay = await startConsole(t, { ...WITH_TOKENS, LOG_LEVEL: 'trace' });
  const cookie = await relay.signIn();
  const token = await tokenFor(['user:1'], { console: true });
  await relay.send('POST', '/console/session', JSON.stringify({ password: 'a wrong passphrase' }));
  await relay.get(`/events?channel=user:1&token=${token}`);
  await relay.get('/events?channel=user:1', { authorization: `Bearer ${token}x` });
  const trial = await relay.send(
    'POST',
    '/console/api/token',
    JSON.stringify({ token, channels: ['user:1', 'other'] }),
    { cookie },
  );
  t.like(JSON.parse(trial.body), { verdict: 'good', channels: ['user:1'], console: true });
  const bad = await relay.send('POST', '/console/api/token', JSON.stringify({ token: `${token}x` }), { cookie });
  t.like(JSON.parse(bad.body), { verdict: 'bad', channels: [], console: false });
  const refusals = (await relay.get('/console/api/refusals', { cookie })).body;
  t.regex(refusals, /invalid_token/);
  const said = [refusals, trial.body, bad.body, ...relay.log].join('\n');
  for (const secret of [
    token,
    token.split('.')[2] ?? '',
    PASSWORD,
    'a wrong passphrase',
    cookie.split('=')[1] ?? '',
    SECRET,
  ]) {
    t.false(said.includes(secret), secret);
  }
});
