/**
 * Pages that load themselves anew after a reset, in Chromium, behind a cache that keeps them with the cursor in them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { startServer } from '../support/http-server.js';
import { startTestRelay } from '../support/relay.js';

/** How long a page is watched: without an end to it there were some seven loads a second. */
const WATCH_MS = 4000;

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

/** As docs/browser.md has them. `URL` and `CURSOR` are put in. */
const RECIPES = {
  'the module': `import { connect, reloadOnce } from 'URL/outbox-relay.js';
    connect('URL/events?channel=orders', {
      lastEventId: 'CURSOR', share: false, onReset: reloadOnce, on: { message: ({ data }) => seen.push(data) },
    });`,
  'an EventSource': `import { reloadOnce } from 'URL/outbox-relay.js';
    const source = new EventSource('URL/events?channel=orders&last_event_id=CURSOR');
    source.addEventListener('stream-reset', reloadOnce);
    source.onmessage = ({ data }) => seen.push(data);`,
} as const;

/** A page in a tab of its own, that comes with each of the cursors in turn. */
async function setUp(t: ExecutionContext, recipe: keyof typeof RECIPES, cursors: readonly string[]) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { ALLOWED_ORIGINS: '*' });
  let loads = 0;
  const cache = await startServer(t, (_, response) => {
    const script = RECIPES[recipe]
      .replaceAll('URL', relay.url)
      .replaceAll('CURSOR', cursors[loads++ % cursors.length] ?? '');
    response.writeHead(200, { 'Content-Type': 'text/html', 'Cache-Control': 'max-age=600' });
    response.end(`<!doctype html><link rel="icon" href="data:,"><script>seen = []</script>
      <script type="module">${script}</script>`);
  });
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  await page.goto(cache.url);
  return {
    page,
    loads: () => loads,
    relay,
    publish: (data: string) =>
      database.query(`INSERT INTO outbox (channel, data) VALUES ('orders', to_jsonb($1::text))`, [data]),
  };
}

for (const recipe of ['the module', 'an EventSource'] as const) {
  test.serial(
    `R4: a page with ${recipe} that a cache keeps with a lost cursor is loaded anew once, and then goes on`,
    async (t) => {
      const { page, loads, publish } = await setUp(t, recipe, ['lost']);
      await delay(WATCH_MS);
      t.is(loads(), 2);
      await publish('after');
      await page.waitForFunction('seen.length === 1', undefined, { timeout: 5000 });
      t.deepEqual(await page.evaluate('seen'), ['after']);
      // Who comes back to it later, in the same tab, is not sent round again either.
      await page.goto('about:blank');
      await page.goBack();
      await delay(1000);
      t.true(loads() <= 3);
    },
  );
}

test.serial(
  'a page that comes with one lost cursor after the other is loaded anew once a minute at the most',
  async (t) => {
    const { loads } = await setUp(t, 'the module', ['lost', 'gone', 'away', 'past']);
    await delay(WATCH_MS);
    t.is(loads(), 2);
  },
);

test.serial(
  'R4: where the page comes with a good cursor it is loaded anew once, and again when that is lost much later',
  async (t) => {
    const { page, loads } = await setUp(t, 'the module', ['lost', '', 'lost later', '']);
    await delay(WATCH_MS);
    t.is(loads(), 2);
    // An hour has passed.
    await page.evaluate(`{
    const name = Object.keys(sessionStorage)[0];
    const kept = JSON.parse(sessionStorage.getItem(name));
    sessionStorage.setItem(name, JSON.stringify({ ...kept, at: kept.at - 3_600_000 }));
  }`);
    await page.reload();
    await delay(WATCH_MS);
    t.is(loads(), 4);
  },
);
