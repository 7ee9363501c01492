import test from 'ava';
import { startConsole } from './support/console.js';
import { openRaw } from './support/request.js';
import { openStream } from './support/stream.js';

test('a body that is too large is told so, however large, and fills no log', async (t) => {
  const relay = await startConsole(t);
  const cookie = await relay.signIn();
  for (const [path, bytes] of [
    ['/console/session', 5000],
    ['/console/session', 5_000_000],
    ['/console/api/token', 70_000],
  ] as const) {
    const { status, body } = await relay.send('POST', path, 'x'.repeat(bytes), { cookie });
    t.is(status, 413, `${path} ${bytes}`);
    t.like(JSON.parse(body), { error: 'too_large' });
  }
  const left = openRaw(t, relay.url, 'POST /console/session HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"pass');
  left.socket.end();
  await left.ended;
  t.is((await relay.get('/console/api/session', { cookie })).status, 200);
  t.false(
    relay.log.some((line) => /"level":50/.test(line)),
    relay.log.join(''),
  );
});

test('HEAD of the live stream is answered, and takes the place of no page', async (t) => {
  const relay = await startConsole(t);
  const cookie = await relay.signIn();
  const head = `HEAD /console/api/live HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\nConnection: close\r\n\r\n`;
  for (let n = 0; n < 10; n += 1)
    t.regex(await openRaw(t, relay.url, head).ended, /^HTTP\/1.1 200 OK\r\n[^]*text\/event-stream/);
  const live = await openStream(t, `${relay.url}/console/api/live?views=overview`, { cookie });
  const { data } = await live.until(({ event }) => event === 'overview');
  t.like(JSON.parse(data ?? ''), { ready: true });
});

test('a cookie that another host has set before the session hides no session', async (t) => {
  const relay = await startConsole(t);
  const session = await relay.signIn();
  for (const tossed of ['junk', '', '9999999999999.' + 'A'.repeat(43)]) {
    const cookie = `outbox_relay_console=${tossed}; ${session}; outbox_relay_console=${tossed}`;
    t.is((await relay.get('/console/api/session', { cookie })).status, 200, tossed);
  }
});

test('what can be no channel chooses no connection, not even of those that read all', async (t) => {
  const relay = await startConsole(t, { PUBLIC_CHANNELS: '*' });
  const stream = await openStream(t, `${relay.url}/events?channel=*`);
  await stream.until(({ event }) => event === 'stream-open');
  for (const [channel, total] of [
    ['orders', 1],
    ['a*b', 0],
    ['x'.repeat(5000), 0],
    ['%00', 0],
  ] as const) {
    t.is((await relay.api<{ total: number }>(`connections?channel=${channel}`)).total, total, channel.slice(0, 10));
  }
});

test('the log takes each cursor that it gives', async (t) => {
  const relay = await startConsole(t);
  type Page = Readonly<Record<'before' | 'after', string | null>>;
  for (const place of ['before=0', 'before=9223372036854775807', 'after=0', 'after=9223372036854775807']) {
    const { before, after } = await relay.api<Page>(`log?${place}`);
    if (before !== null) await t.notThrowsAsync(relay.api(`log?before=${before}`), place);
    if (after !== null) await t.notThrowsAsync(relay.api(`log?after=${after}`), place);
  }
});

test('/console/ leads to the page, below whatever prefix a proxy has', async (t) => {
  const relay = await startConsole(t);
  const { status, headers } = await relay.get('/console/');
  t.is(status, 308);
  t.is(headers.location, '../console');
});
