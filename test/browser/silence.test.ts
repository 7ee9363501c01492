/**
 * Connections that die without a word, under the relay's module, in Chromium.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser, type OpenPage, openTab, startPages } from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { startProxy } from '../support/proxy.js';
import { startTestRelay } from '../support/relay.js';

/** How often something is looked at of which there is no signal. */
const POLL_MS = 20;
/** What the module waits for at the least, and twice that: by then it would have cut a connection that it takes for dead. */
const PATIENCE_MS = 5000;
const SURE_MS = 2 * PATIENCE_MS;
const PATH = '/events?channel=orders';

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

/** Tabs of one profile, which reach the relay through a network that can be broken. */
async function setUp(t: ExecutionContext, tabs: number) {
  const database = await createDatabase(t);
  const pages = await startPages(t);
  const relay = await startTestRelay(t, database.url, {
    ALLOWED_ORIGINS: pages.origin,
    RETRY_SECONDS: '0.1',
    HEARTBEAT_SECONDS: '1',
  });
  const network = await startProxy(t, relay.url);
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const open: OpenPage[] = [];
  // One after the other: the first leads.
  for (let n = 0; n < tabs; n++) {
    const tab = await openTab(context, pages.origin);
    await tab.join(network.url, PATH);
    await tab.until(n === 0 ? `seen.controls.length > 0` : `subscription`);
    open.push(tab);
  }
  const published: { id: string; data: string }[] = [];
  return {
    relay,
    network,
    tabs: open,
    published,
    async publish(data: string): Promise<void> {
      const { rows } = await database.query<{ id: string }>(
        `INSERT INTO outbox (channel, data) VALUES ('orders', to_jsonb($1::text)) RETURNING id::text`,
        [data],
      );
      published.push({ id: rows[0]?.id ?? '', data });
    },
    async sawAll(tab: OpenPage): Promise<void> {
      await tab.untilEvents(published.length);
      t.deepEqual((await tab.seen()).events, published);
    },
  };
}

test.serial('R3, R6: a page whose connection died without a word goes on exactly, on another', async (t) => {
  const { network, tabs, publish, sawAll } = await setUp(t, 1);
  const [tab] = tabs;
  if (!tab) return t.fail();
  await publish('before');
  await sawAll(tab);
  network.strand();
  await publish('while it was dead');
  await sawAll(tab);
  t.is((await tab.seen()).opens, 2);
  t.deepEqual((await tab.seen()).resets, []);
});

test.serial('R3, R6: so do all tabs that share the connection', async (t) => {
  const { relay, network, tabs, publish, sawAll } = await setUp(t, 3);
  await publish('before');
  for (const tab of tabs) await sawAll(tab);
  t.is(relay.streams, 1);
  network.strand();
  await publish('while it was dead');
  for (const tab of tabs) await sawAll(tab);
  await publish('after');
  for (const tab of tabs) await sawAll(tab);
  // The relay has the dead one as well, until the system finds out.
  t.is(relay.streams, 2);
});

test.serial('a page asks again where its request was swallowed', async (t) => {
  const { network, tabs, publish, sawAll } = await setUp(t, 1);
  const [tab] = tabs;
  if (!tab) return t.fail();
  await publish('before');
  await sawAll(tab);
  network.blackhole();
  network.cut();
  while (network.connections > 0) await delay(POLL_MS);
  while (network.connections === 0) await delay(POLL_MS);
  network.strand();
  network.heal();
  await publish('while it was dead');
  await sawAll(tab);
});

test.serial('a quiet connection with heartbeats is kept, and so is one of a page that hung', async (t) => {
  const { relay, tabs, publish, sawAll } = await setUp(t, 2);
  await delay(SURE_MS);
  // While this hangs its timers become due, and what has come is not read.
  await tabs[0]?.page.evaluate(
    `for (const end = performance.now() + ${PATIENCE_MS + 2000}; performance.now() < end; );`,
  );
  await publish('after');
  for (const tab of tabs) await sawAll(tab);
  t.is((await tabs[0]?.seen())?.opens, 1);
  t.is(relay.streams, 1);
});
