/**
 * The console while something is away: the relay, the database, the right to look, or the console
 * itself.
 */
import test from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { CONSOLE, openConsolePage, PASSWORD } from '../support/console-page.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startProxy } from '../support/proxy.js';
import { startTestRelay } from '../support/relay.js';
import { startRelayProcess } from '../support/relay-process.js';
import { SECRET, inSeconds, tokenFor } from '../support/token.js';

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

const publish = (database: TestDatabase, count = 1) =>
  database.query(`INSERT INTO outbox (channel, data) SELECT 'orders', to_jsonb(n) FROM generate_series(1, $1) AS n`, [
    count,
  ]);

test('a relay that is killed and started again is said to be away, and no event or refusal is missed', async (t) => {
  t.timeout(120_000);
  const database = await createDatabase(t);
  const relay = await startRelayProcess(t, database.url, { ...CONSOLE, PUBLIC_CHANNELS: 'orders' });
  const { page, until, untilGone, signIn, open } = await openConsolePage(t, browser, relay.url);
  await signIn();
  await publish(database, 3);
  await fetch(`${relay.url}/events?channel=secret`);
  await open('Refusals');
  await until('.refusal', 'secret');
  await open('Log');
  await until('tbody tr:first-child', '3');
  await page.getByLabel('Follow what is new').check();
  await publish(database);
  await until('tbody tr:first-child', '4');

  await relay.end('SIGKILL');
  await until('.notice', /The relay is away since \d\d:\d\d:\d\d/);
  await publish(database, 230);
  await relay.start();
  await fetch(`${relay.url}/events?channel=orders&since=never`);
  await untilGone('.notice:has-text("The relay is away")');
  await until('tbody tr:first-child', '234');
  t.deepEqual(
    await page.locator('tbody td:first-child a').allInnerTexts(),
    Array.from({ length: 234 }, (_, n) => String(234 - n)),
  );
  await open('Refusals');
  await until('.refusal', 'bad_since');
  await until('.refusal', 'secret');
});

test('without its database the relay’s figures go on, and log and overview say what is away and come back', async (t) => {
  t.timeout(120_000);
  const database = await createDatabase(t);
  const proxy = await startProxy(t, database.url);
  await publish(database, 3);
  const relay = await startTestRelay(t, proxy.url, { ...CONSOLE, RETRY_SECONDS: '0.1' });
  const { until, untilGone, signIn, open } = await openConsolePage(t, browser, relay.url);
  await signIn();
  proxy.refuse();
  await until('.notice', 'The relay has no database');
  await until('.notice.is-bad', 'Not ready');
  await open('Log');
  await until('[role=alert]', 'The database does not answer');
  proxy.heal();
  await untilGone('.notice:has-text("The relay has no database")');
  await until('tbody tr:first-child', '3');
  t.true(relay.readiness().ready);
});

test('a wrong password is refused in words, and the right one opens what was asked for', async (t) => {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, CONSOLE);
  const { page, until, goTo } = await openConsolePage(t, browser, relay.url);
  await until('h1', 'Console');
  await goTo('#/doctor');
  const field = page.locator('input[name=secret]');
  await field.fill('not the password');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await until('[role=alert]', 'not the password');
  t.is(await field.getAttribute('aria-invalid'), 'true');
  await field.fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await until('h1', 'Doctor');
  await page.reload();
  await until('.finding', /./);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await until('h1', 'Console');
  await page.reload();
  await until('h1', 'Console');
});

test('a right that ends closes the console, and who signs in again goes on where they were', async (t) => {
  t.timeout(120_000);
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { ...CONSOLE, JWT_SECRET: SECRET });
  const { page, until, goTo } = await openConsolePage(t, browser, relay.url);
  await until('h1', 'Console');
  await goTo('#/refusals');
  await page.getByLabel('Token').check();
  await page.locator('input[name=secret]').fill(await tokenFor([], { console: true, exp: inSeconds(6) }));
  await page.getByRole('button', { name: 'Sign in' }).click();
  await until('h1', 'Refusals');
  await until('.notice', 'Your right to the console has ended');
  t.false((await page.content()).includes('eyJ'));
  await page.getByLabel('Token').check();
  await page.locator('input[name=secret]').fill(await tokenFor([], { console: true }));
  await page.getByRole('button', { name: 'Sign in' }).click();
  await until('h1', 'Refusals');
});

test('a console that was turned off says so, and goes on when it is back', async (t) => {
  t.timeout(120_000);
  const database = await createDatabase(t);
  const first = await startRelayProcess(t, database.url, CONSOLE);
  const { until, signIn } = await openConsolePage(t, browser, first.url);
  await signIn();
  await first.end('SIGTERM');
  const { port: PORT } = new URL(first.url);
  const second = await startRelayProcess(t, database.url, { PORT });
  await until('h1', 'The console is off');
  await second.end('SIGTERM');
  await first.start();
  await until('h1', 'Overview');
  t.is(second.url, first.url);
});
