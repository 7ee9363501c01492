/**
 * The console's views on a relay that has events, clients and refusals.
 */
import test, { type ExecutionContext } from 'ava';
import type { Browser, BrowserContextOptions } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { CONSOLE, openConsolePage, VIEWS } from '../support/console-page.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startTestRelay, type Environment } from '../support/relay.js';
import { openStream } from '../support/stream.js';
import { SECRET, inSeconds, tokenFor } from '../support/token.js';

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

const publish = (database: TestDatabase, channel: string, count = 1, event = 'status') =>
  database.query(
    `INSERT INTO outbox (channel, event, data)
     SELECT $1, $2, jsonb_build_object('order', n, 'big', 12345678901234567890) FROM generate_series(1, $3) AS n`,
    [channel, event, count],
  );

async function setUp(t: ExecutionContext, env: Environment = {}, options: BrowserContextOptions = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { PUBLIC_CHANNELS: 'orders,user:*', ...CONSOLE, ...env });
  const console = await openConsolePage(t, browser, relay.url, options);
  await console.signIn();
  return { database, relay, ...console };
}

test('the overview counts what comes and who is connected, and has its charts as a table, too', async (t) => {
  const { database, relay, page, until } = await setUp(t);
  await openStream(t, `${relay.url}/events?channel=orders`);
  await openStream(t, `${relay.url}/events?channel=user:*`);
  await publish(database, 'orders', 30);
  await until('[aria-label=Connections] .figure', /^2\s*$/);
  await until('[aria-label=Events]', '30 events since the start');
  await until('[aria-label=Deliveries]', '30 deliveries since the start');
  await until('.notice', /^Ready\./);
  // How long events take is measured while somebody looks.
  const latency = page.locator('[aria-label=Latency] .figure', { hasText: /\d ms/ });
  while ((await latency.count()) === 0) {
    await publish(database, 'orders');
    await page.waitForTimeout(100);
  }
  t.regex(
    (await page.getByRole('img', { name: /^Events, last 2 minutes/ }).getAttribute('aria-label')) ?? '',
    /events a second [\d.]+; the scale ends at/,
  );
  await page.getByText('The same as a table').click();
  await until('[aria-label="Figures as a table"] td', /^2$/);
});

test('connections are listed by what they ask for and how far they are, and channels lead to them and to the log', async (t) => {
  const { database, relay, page, open, until, untilGone } = await setUp(t);
  const slow = await openStream(t, `${relay.url}/events?channel=orders&channel=user:7`);
  await openStream(t, `${relay.url}/events?channel=user:*`);
  await publish(database, 'orders', 5);
  await slow.untilEvents(5);
  await open('Connections');
  await until('.lead', '2 connections');
  const row = await until('tbody tr', 'user:7');
  t.regex(await row.innerText(), /Live/);
  await until('tbody tr:has-text("user:7") td[data-label=Got]', /^5$/);

  await page.getByLabel('Channel').fill('user:*');
  await page.getByRole('button', { name: 'Show' }).click();
  await until('.lead', 'on user:*');
  await page.getByLabel('Channel').fill('nobody');
  await page.getByRole('button', { name: 'Show' }).click();
  await until('.empty', 'Nobody is connected to this channel');

  await open('Channels');
  await until('tbody tr', 'user:7');
  t.is(await page.getByRole('link', { name: 'Log of user:*' }).count(), 0);
  await page.getByLabel('Begins with').fill('ord');
  await page.getByRole('button', { name: 'Show' }).click();
  await untilGone('tbody tr:has-text("user:7")');
  await page.getByRole('link', { name: 'Log of orders' }).click();
  await until('h1', 'Log');
  t.is(await page.getByLabel('Channel').inputValue(), 'orders');
  await until('tbody tr', 'orders');
});

test('a refusal shows up as it happens, with its cause and cure, and without its token', async (t) => {
  const { relay, page, open, until } = await setUp(t, { JWT_SECRET: SECRET });
  await open('Refusals');
  const bad = await tokenFor(['orders'], { exp: inSeconds(-100) });
  for (let n = 0; n < 3; n += 1) await fetch(`${relay.url}/events?channel=secret&access_token=${bad}`);
  await fetch(`${relay.url}/events?channel=orders&since=yesterday`);
  const refusal = await until('.refusal', 'bad_since');
  t.regex(await refusal.innerText(), /Cause[^]{10,}What to do[^]{10,}Request[^]*GET \/events/);
  await until('.refusal', '3 times');
  t.false((await page.content()).includes(bad.slice(0, 40)));
});

test('the log is read in pages and narrowed, and follows what is new, if asked', async (t) => {
  const { database, page, open, until, goTo } = await setUp(t);
  await publish(database, 'orders', 120);
  await publish(database, 'user:7', 2, 'note');
  await open('Log');
  await until('tbody tr:first-child', '122');
  const ids = async () => page.locator('tbody td:first-child a').allInnerTexts();
  const first = await ids();
  await page.getByRole('link', { name: 'Older' }).click();
  await until('tbody tr:first-child', String(122 - first.length));
  t.deepEqual(
    [...first, ...(await ids())],
    Array.from({ length: first.length * 2 }, (_, n) => String(122 - n)),
  );

  await goTo('#/log');
  await page.getByLabel('Event name').fill('note');
  await page.getByRole('button', { name: 'Search' }).click();
  await until('.pager', '2 events');
  t.deepEqual(await ids(), ['122', '121']);
  await page.getByRole('button', { name: 'Clear' }).click();
  await page.getByLabel('Channel').fill('nothing');
  await page.getByRole('button', { name: 'Search' }).click();
  await until('.empty', 'Nothing found');

  await goTo('#/log?channel=orders');
  await until('tbody tr:first-child', '120');
  await page.getByLabel('Follow what is new').check();
  await publish(database, 'user:7');
  await publish(database, 'orders', 250);
  await until('tbody tr:first-child', '373');
  t.deepEqual((await ids()).slice(0, 251), [...Array.from({ length: 250 }, (_, n) => String(373 - n)), '120']);
});

test("an event's life, readers and data are shown, each digit of it, and what became of one that is not there", async (t) => {
  const { database, relay, page, until, goTo } = await setUp(t);
  const stream = await openStream(t, `${relay.url}/events?channel=orders`);
  await publish(database, 'orders', 2);
  await stream.untilEvents(2);
  await goTo('#/log');
  await page.getByRole('link', { name: 'Event 2', exact: true }).click();
  await until('h1', 'Event 2');
  await until('.timeline', /Transaction began[^]*Placed at position 2/);
  await until('.timeline', 'Passed by 1 of 1 stream');
  const data = await until('pre', '"order"');
  t.is(await data.innerText(), '{\n  "big": 12345678901234567890,\n  "order": 2\n}');
  await goTo('#/events/999');
  await until('.empty', 'There is no such event');
});

test('data that a viewer may not read is not shown, and it says why', async (t) => {
  const { database, page, until, goTo } = await setUp(t, { PUBLIC_CHANNELS: 'orders' });
  await database.query(`INSERT INTO outbox (channel, data) VALUES ('secret', '"the plan"')`);
  await goTo('#/log');
  await until('tbody tr', 'not shown');
  await until('.notice', 'CONSOLE_SHOWS');
  await goTo('#/events/1');
  await until('.hidden-data', 'CONSOLE_SHOWS');
  t.false((await page.content()).includes('the plan'));
});

test('a token that is pasted is told good or bad with reasons, and opens the console where its claim says so', async (t) => {
  const { page, open, until } = await setUp(t, { JWT_SECRET: SECRET });
  await open('Token');
  await page.locator('textarea[name=token]').fill(await tokenFor(['orders', 'user:7']));
  await page.getByRole('button', { name: 'Try it' }).click();
  await until('[role=status] section', 'The relay takes this token');
  await until('[role=status] .pairs', /user:7[^]*does not open this console/);
  await page.locator('textarea[name=token]').fill(await tokenFor(['orders'], { exp: inSeconds(-600) }));
  await page.getByRole('button', { name: 'Try it' }).click();
  await until('[role=status] section', 'does not take this token');
  await until('.checks .is-bad', /expired/i);

  await page.getByRole('button', { name: 'Sign out' }).click();
  await until('.notice', 'You have signed out');
  await page.getByLabel('Token').check();
  await page.locator('input[name=secret]').fill(await tokenFor(['orders']));
  await page.getByRole('button', { name: 'Sign in' }).click();
  await until('[role=alert]', 'console');
  await page.locator('input[name=secret]').fill(await tokenFor(['orders'], { console: true, sub: 'ada' }));
  await page.getByRole('button', { name: 'Sign in' }).click();
  await until('.viewer', 'ada');
  t.is(await page.evaluate('document.cookie + JSON.stringify([localStorage.length, sessionStorage.length])'), '[0,0]');
});

test('the doctor says what it finds, the worst first', async (t) => {
  const { page, open, until } = await setUp(t);
  await open('Doctor');
  await until('.finding', 'What to do');
  const kinds = await page.locator('.finding > .badge').allInnerTexts();
  const order = ['Error', 'Warning', 'Note', 'In order'];
  t.deepEqual(
    kinds,
    kinds.toSorted((a, b) => order.indexOf(a) - order.indexOf(b)),
  );
});

test('a stream that is tried is cut by hand and at random, and brings what its twin does', async (t) => {
  const { database, page, open, until } = await setUp(t);
  await open('Try a stream');
  await page.getByLabel('Channels').fill('orders');
  await page.getByRole('button', { name: 'Open', exact: true }).click();
  await until('[data-state=live]', 'Live');
  await publish(database, 'orders', 3);
  await until('.proof', 'Nothing lost, doubled or out of order: 3 events as in the twin');
  await page.getByRole('button', { name: 'Cut', exact: true }).click();
  await publish(database, 'orders', 4);
  await until('.proof', '4 events missed so far');
  await page.getByRole('button', { name: 'Resume' }).click();
  await until('.proof', 'Nothing lost, doubled or out of order: 7 events as in the twin');
  t.is(await page.locator('.arrivals .badge', { hasText: 'replayed' }).count(), 4);

  await page.getByLabel('Cut at random').check();
  for (let n = 0; n < 40; n += 1) {
    await publish(database, 'orders', 5);
    await page.waitForTimeout(100);
  }
  await page.getByLabel('Cut at random').uncheck();
  await until('.proof', 'Nothing lost, doubled or out of order: 207 events as in the twin');
  t.deepEqual(
    await page.evaluate(`[...document.querySelectorAll('.arrivals li')].map((item) => item.dataset.id)`),
    Array.from({ length: 100 }, (_, n) => String(207 - n)),
  );
});

test('a stream to a channel that one may not read is refused with the relay’s words', async (t) => {
  const { page, open, until } = await setUp(t);
  await open('Try a stream');
  await page.getByLabel('Channels').fill('secret');
  await page.getByRole('button', { name: 'Open', exact: true }).click();
  await until('[data-state=refused]', 'Refused');
  const said = await until('.trial [role=alert]', /./);
  t.true((await said.innerText()).length > 30);
});

test('the keyboard alone signs in, goes to each view, and is told where it is', async (t) => {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, CONSOLE);
  const { page, until } = await openConsolePage(t, browser, relay.url);
  const { keyboard } = page;
  await page.locator('input[name=secret]:focus').waitFor();
  await keyboard.type(CONSOLE['CONSOLE_PASSWORD'] ?? '');
  await keyboard.press('Enter');
  await until('h1', 'Overview');
  const focused = () => page.evaluate<string>('document.activeElement.textContent');
  t.is(await focused(), 'Overview');
  await page.reload();
  await until('h1', 'Overview');
  await keyboard.press('Tab');
  t.is(await focused(), 'Skip to the view');
  await keyboard.press('Enter');
  t.is(await page.evaluate('document.activeElement.id'), 'main');
  for (const view of VIEWS.slice(1)) {
    await page.evaluate('document.activeElement.blur()');
    for (let n = 0; n < 80 && (await focused()) !== view; n += 1) await keyboard.press('Tab');
    await keyboard.press('Enter');
    await until('h1', view);
    t.is(await focused(), view);
    t.is(await page.title(), `${view} · outbox-relay console`);
    t.is(await page.locator('[aria-current=page]').innerText(), view);
  }
});
