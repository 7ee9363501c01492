import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, CLOSED, launchBrowser, openPage, type Seen, startPages } from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { sign } from '../support/fuzz-truth.js';
import { startProxy } from '../support/proxy.js';
import type { Environment } from '../support/relay.js';
import { startRelayProcess } from '../support/relay-process.js';
import { openStream, type TestStream } from '../support/stream.js';

const SECRET = 'the secret of the browser tests, 32 bytes and more';
/** How often the relay is asked for a place of which it gives no signal. */
const POLL_MS = 20;

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

/** A relay, an origin that it allows and one that it does not, and a publisher that knows what it published. */
async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const [pages, foreign] = await Promise.all([startPages(t), startPages(t)]);
  const relay = await startRelayProcess(t, database.url, { ALLOWED_ORIGINS: pages.origin, ...env });
  const published: { id: string; data: string }[] = [];
  return {
    relay,
    pages,
    foreign,
    published,
    async publish(...all: string[]) {
      for (const data of all) {
        const { rows } = await database.query<{ id: string }>(
          `INSERT INTO outbox (channel, data) VALUES ('orders', to_jsonb($1::text)) RETURNING id::text`,
          [data],
        );
        published.push({ id: rows[0]?.id ?? '', data });
      }
    },
  };
}

const RIGHTS = { PUBLIC_CHANNELS: '', JWT_SECRET: SECRET };

/** A token for the channel, good for so many seconds. */
function tokenFor(seconds: number): string {
  const exp = Math.floor(Date.now() / 1000) + seconds;
  return sign({ alg: 'HS256' }, { channels: ['orders'], exp }, SECRET);
}

function controls(seen: Seen, name: string): string[] {
  return seen.controls.filter((control) => control.name === name).map(({ data }) => data);
}

/** Takes the only place there is, as soon as it is free. */
async function takePlace(t: ExecutionContext, url: string): Promise<TestStream> {
  for (;;) {
    const stream = await openStream(t, `${url}/events/orders`, { Accept: '*/*' }).catch((error: unknown) => {
      if (!String(error).includes('429')) throw error;
    });
    if (stream) return stream;
    await delay(POLL_MS);
  }
}

test.serial('an EventSource that is sent away over a limit comes back by itself, and misses nothing', async (t) => {
  const env = { MAX_CONNECTIONS_PER_ADDRESS: '1', TRUST_PROXY: '0' };
  const { relay, pages, published, publish } = await setUp(t, env);
  const proxy = await startProxy(t, relay.url);
  const { page, listen, until, untilEvents } = await openPage(t, browser, pages.origin);
  await listen(`${proxy.url}/events/orders`);
  await until('seen.controls.length === 1');
  await publish('before 1', 'before 2');
  await untilEvents(2);

  proxy.refuse();
  const holder = await takePlace(t, relay.url);
  await publish('while cut off');
  const statuses: number[] = [];
  page.on('response', (response) => statuses.push(response.status()));
  const { opens } = await until('seen.errors.length > 0');
  proxy.heal();
  // Each refusal is a 200 that ends.
  await until(`seen.opens >= ${opens + 2}`);
  await publish('while refused');
  const refused = await until(`seen.opens >= ${opens + 3}`);
  t.is(refused.events.length, 2);
  t.is(controls(refused, 'stream-open').length, 1);

  holder.close();
  await untilEvents(4);
  await publish('after');
  const seen = await untilEvents(5);
  t.deepEqual(seen.events, published);
  t.deepEqual(controls(seen, 'stream-reset'), []);
  t.true(seen.errors.every((state) => state === 0));
  t.deepEqual([...new Set(statuses)], [200]);
});

test.serial('a page of an allowed origin reads with a cookie that it cannot see; no other page does', async (t) => {
  const { relay, pages, foreign, published, publish } = await setUp(t, RIGHTS);
  const url = `${relay.url}/events/orders`;
  const open = await openPage(t, browser, `${pages.origin}/set?token=${tokenFor(60)}`);
  t.is(await open.page.evaluate('document.cookie'), '');
  await open.listen(url, true);
  await open.until('seen.controls.length === 1');
  await publish('for the user');
  t.deepEqual((await open.untilEvents(1)).events, published);

  const without = await openPage(t, browser, `${pages.origin}/set?token=${tokenFor(60)}`);
  await without.listen(url, false);
  t.deepEqual((await without.until(`seen.readyState === ${CLOSED}`)).errors, [CLOSED]);

  // The cookie is of the same site, so the browser sends it along from here, too.
  let sent = '';
  const proxy = await startProxy(t, relay.url, { onSent: (chunk) => (sent += chunk.toString('latin1')) });
  const elsewhere = await openPage(t, browser, `${foreign.origin}/set?token=${tokenFor(60)}`);
  await elsewhere.listen(`${proxy.url}/events/orders`, true);
  const seen = await elsewhere.until(`seen.readyState === ${CLOSED}`);
  t.regex(sent, /^Cookie: outbox_token=/im);
  t.like(seen, { events: [], controls: [], opens: 0, errors: [CLOSED] });
});

test.serial(
  'when a right ends the page is told; with a new cookie it goes on exactly, and without one it is over',
  async (t) => {
    const { relay, pages, published, publish } = await setUp(t, RIGHTS);
    const { page, listen, until, untilEvents } = await openPage(t, browser, pages.origin);
    await page.evaluate(`fetch('/set?token=${tokenFor(4)}')`);
    await listen(`${relay.url}/events/orders`, true);
    await until('seen.controls.length === 1');
    await publish('before');
    await untilEvents(1);
    await page.evaluate(`fetch('/set?token=${tokenFor(8)}')`);
    const told = await until(`seen.controls.some(({ name }) => name === 'stream-error')`);
    t.is((JSON.parse(controls(told, 'stream-error')[0] ?? '{}') as { condition?: string }).condition, 'expired');
    await publish('in between');
    await untilEvents(2);
    await publish('after');
    const renewed = await untilEvents(3);
    t.deepEqual(renewed.events, published);
    t.deepEqual(controls(renewed, 'stream-reset'), []);
    t.true(renewed.errors.every((state) => state !== CLOSED));

    await page.evaluate(`fetch('/drop')`);
    const over = await until(`seen.readyState === ${CLOSED}`);
    t.is(controls(over, 'stream-error').length, 2);
    t.is(over.errors.at(-1), CLOSED);
    await publish('for nobody');
    t.is((await until('true')).events.length, 3);
  },
);

test.serial('fetch may send a token and a long cursor after its preflight, from an allowed origin only', async (t) => {
  const { relay, pages, foreign } = await setUp(t, RIGHTS);
  const ask = (cursor: string) => `(async () => {
    const response = await fetch('${relay.url}/events/orders', {
      headers: { Authorization: 'Bearer ${tokenFor(60)}', 'Last-Event-ID': '${cursor}', 'Cache-Control': 'no-cache' },
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    while (!text.includes('stream-reset')) text += (await reader.read()).value;
    await reader.cancel();
    return [response.status, response.type, text];
  })()`;
  const cursor = 'of-another-system-'.repeat(40);
  const open = await openPage(t, browser, pages.origin);
  const methods: string[] = [];
  open.page.on('request', (request) => methods.push(request.method()));
  const [status, type, text] = await open.page.evaluate<[number, string, string]>(ask(cursor));
  t.deepEqual([status, type], [200, 'cors']);
  t.true(text.includes(`{"reason":"unknown","lastEventId":"${cursor.slice(0, 200)}…"}`), text);

  const elsewhere = await openPage(t, browser, foreign.origin);
  await t.throwsAsync(elsewhere.page.evaluate(ask(cursor)), { message: /Failed to fetch/ });
});

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test.serial(`an EventSource goes on exactly after the relay was ended by ${signal} and started again`, async (t) => {
    const { relay, pages, published, publish } = await setUp(t);
    const { listen, until, untilEvents } = await openPage(t, browser, pages.origin);
    await listen(`${relay.url}/events/orders`);
    await until('seen.controls.length === 1');
    await publish('before 1', 'before 2');
    await untilEvents(2);
    await relay.end(signal);
    await publish('while it was down 1', 'while it was down 2');
    await relay.start();
    await untilEvents(4);
    await publish('after');
    const seen = await untilEvents(5);
    t.deepEqual(seen.events, published);
    t.deepEqual(controls(seen, 'stream-reset'), []);
    t.true(seen.errors.length > 0 && seen.errors.every((state) => state === 0));
  });
}
