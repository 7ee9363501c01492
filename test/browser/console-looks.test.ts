/**
 * The console for everybody: contrast, names and roles, screens of each width; and events that are
 * made to harm.
 */
import test from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { CONSOLE, openConsolePage, VIEWS } from '../support/console-page.js';
import { createDatabase } from '../support/database.js';
import { startTestRelay } from '../support/relay.js';
import { openStream } from '../support/stream.js';

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

const HOSTILE = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>`;
const BIDI = 'invoice\u202Egnp.exe\u2066\u0007\u001b[31m\u200b';
const LONG = 'w'.repeat(120);

for (const colorScheme of ['light', 'dark'] as const) {
  for (const width of [320, 1400]) {
    test.serial(
      `each view, ${colorScheme} and ${width} px wide, has no violation that axe knows, and does not scroll sideways`,
      async (t) => {
        t.timeout(180_000);
        const database = await createDatabase(t);
        await database.query(
          `INSERT INTO outbox (channel, event, data) SELECT $1, 'status', to_jsonb($2::text) FROM generate_series(1, 5)`,
          [LONG, HOSTILE],
        );
        const relay = await startTestRelay(t, database.url, { ...CONSOLE, PUBLIC_CHANNELS: `${LONG},a` });
        await openStream(t, `${relay.url}/events?channel=${LONG}`);
        await fetch(`${relay.url}/events?channel=secret`);
        const { page, until, signIn, open, goTo, violations } = await openConsolePage(t, browser, relay.url, {
          colorScheme,
          viewport: { width, height: 800 },
        });
        const check = async (what: string) => {
          t.deepEqual(await violations(), [], what);
          t.true(
            Number(await page.evaluate('document.documentElement.scrollWidth')) <= width,
            `${what} scrolls sideways`,
          );
        };
        await until('h1', 'Console');
        await check('Sign in');
        await signIn();
        for (const view of VIEWS) {
          await open(view);
          await page.locator('.loading').waitFor({ state: 'detached' });
          if (view === 'Overview') await page.getByText('The same as a table').click();
          if (view === 'Try a stream') {
            await page.getByLabel('Channels').fill(LONG);
            await page.getByRole('button', { name: 'Open', exact: true }).click();
            await until('[data-state=live]', 'Live');
            await database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text))', [LONG, HOSTILE]);
            await until('.proof', 'Nothing lost');
          }
          if (view === 'Token') {
            await page.locator('textarea[name=token]').fill('no.token.this');
            await page.getByRole('button', { name: 'Try it' }).click();
            await until('[role=status] section, [role=alert]', /./);
          }
          await check(view);
        }
        await goTo('#/events/1');
        await until('.timeline', 'Transaction began');
        await check('Event');
        await goTo('#/events/9999');
        await until('.empty', 'no such event');
        await check('no event');
        await goTo('#/nowhere');
        await until('h1', 'No such view');
        await check('no view');
      },
    );
  }
}

test.serial('channels, names and data that are made to harm are text, and show what cannot be seen', async (t) => {
  t.timeout(120_000);
  const database = await createDatabase(t);
  const channel = `user:${HOSTILE}`;
  await database.query('INSERT INTO outbox (channel, event, data) VALUES ($1, $2, to_jsonb($3::text))', [
    channel,
    HOSTILE.slice(0, 100),
    HOSTILE + BIDI,
  ]);
  await database.query(
    `INSERT INTO outbox (channel, event, data) VALUES ('user:1', 'big', to_jsonb(repeat('<b>\u202E', 150000)))`,
  );
  const relay = await startTestRelay(t, database.url, { ...CONSOLE, PUBLIC_CHANNELS: '*' });
  const at = `${relay.url}/events?channel=${encodeURIComponent(channel)}`;
  await openStream(t, at);
  await fetch(`${at}&since=${encodeURIComponent(HOSTILE)}`, { headers: { Origin: 'https://<b>.example' } });
  const { page, until, signIn, open, goTo } = await openConsolePage(t, browser, relay.url);
  await signIn();
  for (const view of ['Connections', 'Channels', 'Refusals', 'Log'] as const) {
    await open(view);
    await until(view === 'Refusals' ? '.refusal' : 'tbody tr', view === 'Refusals' ? /since/ : '<img src=x');
  }
  await goTo('#/events/1');
  const data = await until('pre', '<script>window.hacked=1</script>');
  t.regex(await data.innerText(), /invoiceU\+202Egnp\.exeU\+2066/);
  t.false(/[\u202e\u2066\u0007\u001b\u200b]/.test(await page.locator('body').innerText()));
  await goTo('#/events/2');
  await until('h1', 'Event 2');
  await until('.more, .fine', /The first|beginning/);
  await page
    .getByRole('button', { name: 'Show all' })
    .click({ timeout: 2000 })
    .catch(() => undefined);
  await until('pre', 'U+202E');
  t.is(await page.evaluate('window.hacked'), undefined);
  t.is(await page.locator('main img, main script, main [onerror], main [style]').count(), 0);
});

test('nothing that the page shows needs what a strict policy forbids', async (t) => {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, CONSOLE);
  const { headers } = await fetch(`${relay.url}/console`);
  const policy = headers.get('content-security-policy') ?? '';
  t.regex(policy, /default-src 'none'/);
  t.notRegex(policy, /unsafe|\*|https?:/);
  const { page, signIn } = await openConsolePage(t, browser, relay.url);
  await signIn();
  const { origin } = new URL(relay.url);
  const loaded = await page.evaluate<string[]>(`performance.getEntriesByType('resource').map(({ name }) => name)`);
  t.deepEqual(
    loaded.filter((name) => new URL(name).origin !== origin),
    [],
  );
});
