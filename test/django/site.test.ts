/**
 * From a Django view to Chromium: the example's project with real gunicorn, relay and browser. What is published in every way that
 * Django has arrives once, at who may read it, whatever happens in between.
 */
import test from 'ava';
import axe from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { startProxy } from '../support/proxy.js';
import {
  createTeardown,
  placeOrder,
  shownNotifications,
  startSite,
  untilLive,
  untilNotifications,
  visit,
  type Site,
} from '../support/site.js';

/** Long enough to log in and open a page on a busy machine, and short enough to wait for its end. */
const SHORT_TOKEN_SECONDS = 8;

const all = createTeardown();
let browser: Browser;
let site: Site;

test.before(async () => {
  browser = await launchBrowser();
  all.teardown(() => closeBrowser(browser));
  site = await startSite(all);
});
test.after.always(() => all.end());

/** Listens from the page with nothing but an EventSource, and keeps what it sees in `window[name]`. */
async function listen(page: Page, name: string, path: string): Promise<void> {
  await page.evaluate(`{
    const seen = (window.${name} = { events: [], errors: [], state: 0 });
    const source = new EventSource(${JSON.stringify(path)});
    for (const event of ['order', 'notification', 'stream-open', 'stream-error']) {
      source.addEventListener(event, ({ data }) => seen.events.push([event, data]));
    }
    source.onerror = () => (seen.state = source.readyState);
  }`);
}

async function orderOf(page: Page): Promise<number> {
  const id = await page.evaluate<string>("document.querySelector('.order').id");
  return Number(id.replace('order-', ''));
}

test.serial('what a view publishes is on the page of its user, and on no other', async (t) => {
  const [ann, ben] = [await site.newUser(), await site.newUser()];
  const anns = await visit(t, browser, site.url, ann.name);
  const bens = await visit(t, browser, site.url, ben.name);
  await placeOrder(anns.page, 'Teapot');
  await untilNotifications(anns.page, 1);
  await anns.page.waitForSelector('.order');
  // What Ben sees of his own comes after all that he might have seen of Ann's.
  await placeOrder(bens.page, 'Kettle');
  const shown = await untilNotifications(bens.page, 1);
  t.deepEqual(shown, await site.notifications(ben));
  t.deepEqual(await shownNotifications(anns.page), await site.notifications(ann));
  t.is(await bens.page.locator('.order').count(), 1);
  t.is(await anns.page.locator('.order b').textContent(), 'Teapot');
  t.is(await anns.page.locator('#unread').textContent(), '1');

  for (const channel of [`user:${ann.id}`, `html:${ann.id}`, 'dashboard', 'user:*', '*']) {
    await listen(bens.page, 'stolen', `/events?channel=${encodeURIComponent(channel)}&last_event_id=earliest`);
    await bens.page.waitForFunction('stolen.state === EventSource.CLOSED');
    t.deepEqual(await bens.page.evaluate('stolen.events'), [], channel);
  }
});

test.serial('nothing arrives of a transaction that was rolled back after it had published', async (t) => {
  const user = await site.newUser();
  const { page } = await visit(t, browser, site.url, user.name);
  await placeOrder(page, 'Teapot', true);
  // The page was loaded anew, with what there is to say.
  await page.waitForSelector('.message');
  await untilLive(page);
  await placeOrder(page, 'Strainer');
  t.deepEqual(await untilNotifications(page, 1), await site.notifications(user));
  await page.waitForSelector('.order');
  t.deepEqual(await page.locator('.order b').allTextContents(), ['Strainer']);
});

test.serial('what a signal publishes arrives from the admin and from a worker, each status in its turn', async (t) => {
  const user = await site.newUser();
  const { page } = await visit(t, browser, site.url, user.name);
  const htmx = await visit(t, browser, site.url, user.name, '/htmx/');
  const htmx4 = await visit(t, browser, site.url, user.name, '/htmx4/');
  await placeOrder(page);
  await page.waitForSelector('.order');
  const order = await orderOf(page);
  const tabs = [page, htmx.page, htmx4.page];
  for (const each of tabs) await each.waitForSelector(`#order-${order}`);
  const status = (words: string) => `#order-${order}:has-text("${words}")`;

  const dashboard = await visit(t, browser, site.url, 'dana', '/dashboard/');
  const count = async (name: string) => Number(await dashboard.page.locator(`[data-status=${name}] b`).textContent());
  const before = { placed: await count('placed'), paid: await count('paid'), packed: await count('packed') };

  const admin = await dashboard.context.newPage();
  await admin.goto(`${site.url}/admin/store/order/${order}/change/`);
  await admin.selectOption('[name=status]', 'paid');
  await admin.click('[name=_save]');
  for (const each of tabs) await each.waitForSelector(status('paid'));

  await site.manage('move_orders', '--order', String(order));
  for (const each of tabs) {
    await each.waitForSelector(status('packed'));
    t.is(await each.locator('.order').count(), 1);
    t.deepEqual(await shownNotifications(each), await site.notifications(user));
  }
  await dashboard.page.waitForFunction(
    `document.querySelector('[data-status=packed] b').textContent === '${before.packed + 1}'`,
  );
  t.deepEqual([await count('placed'), await count('paid')], [before.placed - 1, before.paid]);
});

for (const path of ['/', '/htmx/', '/htmx4/']) {
  test.serial(
    `a relay that is killed and started again: the page at ${path} shows every notification once`,
    async (t) => {
      const user = await site.newUser();
      const { page } = await visit(t, browser, site.url, user.name, path);
      await placeOrder(page);
      await untilNotifications(page, 1);
      await site.relay.end('SIGKILL');
      await page.waitForSelector('#live[data-state=away]');
      for (const item of ['Teapot', 'Kettle', 'Strainer']) await placeOrder(page, item);
      t.is((await shownNotifications(page)).length, 1);
      await site.relay.start();
      await untilNotifications(page, 4);
      await placeOrder(page);
      t.deepEqual(await untilNotifications(page, 5), await site.notifications(user));
      t.is(await page.locator('.order').count(), 5);
      t.is(await page.locator('#unread').textContent(), '5');
    },
  );

  test.serial(`offline and online again: the page at ${path} shows every notification once`, async (t) => {
    const user = await site.newUser();
    // Chromium that is offline opens nothing new; what is open is the network's to cut.
    const network = await startProxy(t, site.url);
    const { page, context } = await visit(t, browser, network.url, user.name, path);
    const elsewhere = await visit(t, browser, site.url, user.name);
    await placeOrder(elsewhere.page);
    await untilNotifications(page, 1);
    await context.setOffline(true);
    network.cut();
    await page.waitForSelector('#live[data-state=away]');
    for (const item of ['Teapot', 'Strainer']) await placeOrder(elsewhere.page, item);
    await untilNotifications(elsewhere.page, 3);
    t.deepEqual(await shownNotifications(page), (await site.notifications(user)).slice(-1));
    await context.setOffline(false);
    await untilNotifications(page, 3);
    await placeOrder(elsewhere.page);
    t.deepEqual(await untilNotifications(page, 4), await site.notifications(user));
    t.is(await page.locator('.order').count(), 4);
  });
}

test.serial('after a log-out other tabs leave at once, and no stream outlives its token', async (t) => {
  const url = await site.startAnother(t, { OUTBOX_TOKEN_SECONDS: String(SHORT_TOKEN_SECONDS) });
  const user = await site.newUser();
  const { page, context } = await visit(t, browser, url, user.name);
  const other = await context.newPage();
  await other.goto(`${url}/`);
  await untilLive(other);
  // A page that knows nothing of log-outs.
  const bare = await context.newPage();
  await bare.goto(`${url}/static/store/shop.css`);
  await listen(bare, 'seen', `/events?channel=user:${user.id}`);
  await bare.waitForFunction("seen.events.some(([name]) => name === 'stream-open')");

  await page.click('text=Log out');
  await page.waitForURL('**/log-in/');
  await other.waitForURL('**/log-in/');
  await bare.waitForFunction('seen.state === EventSource.CLOSED');
  const events = await bare.evaluate<[string, string][]>('seen.events');
  t.is((JSON.parse(events.at(-1)?.[1] ?? '{}') as { condition?: string }).condition, 'expired');
  t.deepEqual(
    (await context.cookies()).filter(({ name }) => name === 'outbox_token'),
    [],
  );
});

test.serial('a page that stays open renews its token: its stream goes on past the end of the first', async (t) => {
  const url = await site.startAnother(t, { OUTBOX_TOKEN_SECONDS: String(SHORT_TOKEN_SECONDS) });
  const user = await site.newUser();
  const { page } = await visit(t, browser, url, user.name);
  // The stream ends with its token, and comes back with the next.
  const again = page.waitForResponse((response) => new URL(response.url()).pathname === '/events');
  await placeOrder(page);
  await untilNotifications(page, 1);
  t.is((await again).status(), 200);
  await placeOrder(page);
  await placeOrder(page);
  t.deepEqual(await untilNotifications(page, 3), await site.notifications(user));
  t.is(new URL(page.url()).pathname, '/');
});

test.serial('axe finds nothing to mend on any page of the shop, nor on those of the admin', async (t) => {
  t.timeout(150_000);
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const stranger = await context.newPage();
  const user = await site.newUser();
  const { page: customer } = await visit(t, browser, site.url, user.name);
  await placeOrder(customer);
  await untilNotifications(customer, 1);
  const { page: staff } = await visit(t, browser, site.url, 'dana', '/dashboard/');
  const { rows } = await site.database.query<{ id: string }>('SELECT max(id)::text AS id FROM outbox');

  const check = async (page: Page, path: string, prepare?: () => Promise<void>) => {
    for (const colorScheme of ['light', 'dark'] as const) {
      // Before the page is there: colours that are on their way to others are neither.
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.goto(site.url + path);
      await prepare?.();
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate<axe.AxeResults>('axe.run(document)');
      const found = violations.flatMap(({ id, nodes }) =>
        nodes.map(({ target, failureSummary }) => `${id}: ${target.join(' ')}: ${failureSummary ?? ''}`),
      );
      t.deepEqual(found, [], `${path}, ${colorScheme}`);
    }
  };
  await check(stranger, '/log-in/');
  for (const path of ['/', '/htmx/', '/htmx4/']) {
    await check(customer, path, async () => {
      await untilLive(customer);
      await customer.click('.bell summary');
    });
  }
  await check(staff, '/dashboard/', () => untilLive(staff));
  const event = `outbox/event/${rows[0]?.id ?? ''}/change/`;
  for (const path of ['', 'outbox/event/', event, 'store/order/', 'store/order/add/']) {
    await check(staff, `/admin/${path}`);
  }
});

// The last: it rings the bells of users whom no test has had yet.
test.serial('what is made by bulk_create and published beside it reaches each user once', async (t) => {
  const [ann, ben] = [await site.newUser(), await site.newUser()];
  const pages = [
    await visit(t, browser, site.url, ann.name),
    await visit(t, browser, site.url, ben.name, '/htmx/'),
    await visit(t, browser, site.url, 'dana', '/dashboard/'),
  ].map(({ page }) => page);
  await pages[2]?.fill('[name=text]', 'We close at six.');
  await pages[2]?.click('.place button');
  for (const page of pages) {
    await page.waitForFunction("document.querySelector('#notifications').textContent.includes('We close at six.')");
    const shown = await shownNotifications(page);
    t.is(shown.filter((text) => text === 'We close at six.').length, 1);
  }
});
