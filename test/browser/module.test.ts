/**
 * The module that the relay serves to pages, in Chromium.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { Browser } from 'playwright-core';
import {
  closeBrowser,
  launchBrowser,
  openPage,
  type OpenPage,
  openTab,
  type Seen,
  startPages,
} from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { startTestRelay, type Environment } from '../support/relay.js';
import { startRelayProcess } from '../support/relay-process.js';
import { inSeconds, SECRET, sign } from '../support/token.js';

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;
/** What a page's timer may come late on a busy machine. */
const LATE_MS = 600;
const RIGHTS = { PUBLIC_CHANNELS: '', JWT_SECRET: SECRET };
const PATH = '/events?channel=orders';

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

interface Event {
  readonly id: string;
  readonly data: string;
}

/** A database, an origin for pages, and a publisher that knows what it published, in order. */
async function setUp(t: ExecutionContext) {
  const database = await createDatabase(t);
  const pages = await startPages(t);
  const published: Event[] = [];
  const env = { ALLOWED_ORIGINS: pages.origin, RETRY_SECONDS: '0.1' };
  async function publish(...all: string[]): Promise<void> {
    for (const data of all) {
      const { rows } = await database.query<{ id: string }>(
        `INSERT INTO outbox (channel, data) VALUES ('orders', to_jsonb($1::text)) RETURNING id::text`,
        [data],
      );
      published.push({ id: rows[0]?.id ?? '', data });
    }
  }
  return { database, pages, published, env, publish, publisher: startPublisher(t, publish, published) };
}

/** Publishes one event after another from the first `enough` on, until it is stopped. */
function startPublisher(t: ExecutionContext, publish: (data: string) => Promise<void>, published: readonly Event[]) {
  let running: Promise<void> | undefined;
  let isOn = true;
  async function run(): Promise<void> {
    while (isOn) {
      await publish(`number ${published.length}`);
      await delay(Math.random() * 10);
    }
  }
  const stop = async () => {
    isOn = false;
    await running;
  };
  t.teardown(stop);
  return {
    /** Resolves when so many more have been published. */
    async enough(count: number): Promise<void> {
      running ??= run();
      for (const end = published.length + count; published.length < end;) await delay(POLL_MS);
    },
    stop,
  };
}

/** Pages of one profile, so of one user, on a relay in this process. */
async function setUpTabs(t: ExecutionContext, env: Environment = {}) {
  const common = await setUp(t);
  const relay = await startTestRelay(t, common.database.url, { ...common.env, ...env });
  const context = await browser.newContext();
  t.teardown(() => context.close());
  return {
    ...common,
    relay,
    context,
    /** Opens tabs; they listen, each from where it is told or from now. */
    open: (...cursors: readonly (string | undefined)[]) =>
      Promise.all(
        cursors.map(async (lastEventId) => {
          const tab = await openTab(context, common.pages.origin);
          await tab.join(relay.url, PATH, lastEventId === undefined ? {} : { lastEventId });
          return tab;
        }),
      ),
    async untilStreams(count: number): Promise<void> {
      while (relay.streams !== count) await delay(POLL_MS);
    },
  };
}

/** Resolves with what a tab has seen when it has seen `last`. */
function untilSeen(tab: OpenPage, last: Event | undefined): Promise<Seen> {
  return tab.until(`seen.events.some(({ id }) => id === '${last?.id ?? ''}')`);
}

/** That a tab has seen everything from the first event that it saw on, once and in order. */
function sawAllSince(t: ExecutionContext, { events }: Seen, published: readonly Event[]): void {
  const first = published.findIndex(({ id }) => id === events[0]?.id);
  t.not(first, -1);
  t.deepEqual(events, published.slice(first));
}

test.serial('R3: after a 401 a page renews its cookie and goes on exactly', async (t) => {
  const { database, pages, published, env, publish } = await setUp(t);
  const relay = await startTestRelay(t, database.url, { ...env, ...RIGHTS });
  const token = (seconds: number) => sign({ channels: ['orders'], exp: inSeconds(seconds) });
  const tab = await openPage(t, browser, `${pages.origin}/set?token=${await token(3)}`);
  await tab.page.evaluate(`renew = () => fetch('/set?token=' + fresh)`);
  await tab.join(relay.url, PATH);
  await tab.until(`seen.controls.length === 1`);
  await publish('before');
  await tab.untilEvents(1);
  await tab.page.evaluate(`window.fresh = '${await token(600)}'; fetch('/drop')`);
  await tab.until(`seen.controls.some(({ name }) => name === 'stream-error')`);
  await publish('in between');
  await tab.untilEvents(2);
  await publish('after');
  const seen = await tab.untilEvents(3);
  t.deepEqual(seen.events, published);
  t.deepEqual(
    seen.renewals.map(({ status }) => status),
    [401],
  );
  t.deepEqual(seen.resets, []);
});

test.serial(
  'a page that gets no new cookie asks again after pauses that grow, with jitter, until it gives up',
  async (t) => {
    const { database, pages, env } = await setUp(t);
    const relay = await startTestRelay(t, database.url, { ...env, ...RIGHTS });
    const token = await sign({ channels: ['orders'], exp: inSeconds(3) });
    const tab = await openPage(t, browser, `${pages.origin}/set?token=${token}`);
    // The first is for the pause after the end of the stream; each makes the pause longer by so much of itself.
    const jitter = [0.5, 0.9, 0, 0.9, 0.5];
    await tab.page.evaluate(`{
    const jitter = ${JSON.stringify(jitter)};
    Math.random = () => jitter.shift();
    renew = () => jitter.length > 0;
  }`);
    await tab.join(relay.url, PATH);
    const { renewals } = await tab.until(`seen.renewals.length === 6`);
    const gaps = renewals.slice(1).map(({ at }, n) => at - (renewals[n]?.at ?? 0));
    // A renewal is tried out at once, the first time.
    t.true((gaps.shift() ?? Infinity) < LATE_MS);
    for (const [n, gap] of gaps.entries()) {
      const pause = 100 * 2 ** (n + 1) * (1 + (jitter[n + 1] ?? 0));
      // A timer is true to the millisecond only.
      t.true(gap >= pause - 2 && gap < pause + LATE_MS, `the pause ${n} was ${gap} ms, and had to be ${pause}`);
    }
    t.true(renewals.every(({ status }) => status === 401));
    await delay(LATE_MS);
    t.is((await tab.seen()).renewals.length, renewals.length);
  },
);

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test.serial(`R3, R6: tabs go on exactly after the relay was ended by ${signal} and started again`, async (t) => {
    const { database, pages, published, env, publish, publisher } = await setUp(t);
    const relay = await startRelayProcess(t, database.url, env);
    const context = await browser.newContext();
    t.teardown(() => context.close());
    const tabs = await Promise.all([openTab(context, pages.origin), openTab(context, pages.origin)]);
    for (const tab of tabs) await tab.join(relay.url, PATH);
    await publisher.enough(20);
    for (const tab of tabs) await tab.untilEvents(1);
    await relay.end(signal);
    await publisher.enough(20);
    await relay.start();
    await publisher.enough(20);
    await publisher.stop();
    await publish('the last');
    for (const tab of tabs) {
      const seen = await untilSeen(tab, published.at(-1));
      sawAllSince(t, seen, published);
      t.deepEqual(seen.resets, []);
    }
  });
}

test.serial('tabs with one URL have one stream, and each gets every event; another URL has another', async (t) => {
  const { relay, pages, context, published, publish, publisher, open, untilStreams } = await setUpTabs(t);
  const tabs = await open(undefined, undefined, undefined, undefined);
  await publisher.enough(30);
  for (const tab of tabs) await tab.untilEvents(1);
  await untilStreams(1);
  const other = await openTab(context, pages.origin);
  await other.join(relay.url, '/events?channel=other');
  await untilStreams(2);
  const alone = await openTab(context, pages.origin);
  await alone.join(relay.url, PATH, { share: false });
  await untilStreams(3);
  await publisher.enough(30);
  await publisher.stop();
  await publish('the last');
  for (const tab of [...tabs, alone]) sawAllSince(t, await untilSeen(tab, published.at(-1)), published);
  t.is(relay.streams, 3);
  t.deepEqual((await other.seen()).events, []);
});

test.serial(
  'R3: a tab that joins with a cursor of its own gets exactly what follows it, and then shares',
  async (t) => {
    const { published, publish, publisher, open, untilStreams } = await setUpTabs(t);
    await publish('old 1', 'old 2', 'old 3');
    const tabs = await open(undefined);
    await publisher.enough(20);
    tabs.push(...(await open(published[0]?.id, published[10]?.id, 'earliest', undefined)));
    await publisher.enough(50);
    await untilStreams(1);
    await publisher.enough(10);
    await publisher.stop();
    await publish('the last');
    const all = await Promise.all(tabs.map((tab) => untilSeen(tab, published.at(-1))));
    t.deepEqual(all[1]?.events, published.slice(1));
    t.deepEqual(all[2]?.events, published.slice(11));
    t.deepEqual(all[3]?.events, published);
    for (const seen of all) sawAllSince(t, seen, published);
  },
);

for (const [how, end] of [
  ['is closed', (tab: OpenPage) => tab.page.close()],
  ['unsubscribes', (tab: OpenPage) => tab.page.evaluate('subscription.close()')],
  ['goes to another page', (tab: OpenPage) => tab.page.goto('about:blank')],
  ['crashes', (tab: OpenPage) => tab.page.goto('chrome://crash').catch(() => undefined)],
] as const) {
  test.serial(`R3: when the leading tab ${how} the others go on, and nothing is missed or comes twice`, async (t) => {
    const { published, publish, publisher, open, untilStreams } = await setUpTabs(t);
    const tabs: OpenPage[] = [];
    // One after the other: so the first leads, and the next in line is known.
    for (let n = 0; n < 4; n++) tabs.push(...(await open(undefined)));
    await publisher.enough(20);
    for (const tab of tabs) await tab.untilEvents(1);
    for (let leader = tabs.shift(); tabs.length > 0; leader = tabs.shift()) {
      if (leader) await end(leader);
      const next = published.at(-1);
      await publisher.enough(20);
      for (const tab of tabs) await untilSeen(tab, next);
      await untilStreams(1);
      if (tabs.length > 1) continue;
      await publisher.stop();
      await publish('the last');
      for (const tab of tabs) sawAllSince(t, await untilSeen(tab, published.at(-1)), published);
    }
  });
}

test.serial(
  'R4: a reset is told to the tab whose cursor it concerns, and that tab goes on with the others',
  async (t) => {
    const { published, publish, publisher, open, untilStreams } = await setUpTabs(t);
    const [first] = await open(undefined);
    await first?.until('seen.controls.length === 1');
    const [lost] = await open('of-another-system');
    const seen = await lost?.until('seen.resets.length === 1');
    t.deepEqual(seen?.resets, [{ reason: 'unknown', lastEventId: 'of-another-system' }]);
    await publisher.enough(20);
    await untilStreams(1);
    await publisher.stop();
    await publish('the last');
    for (const tab of [first, lost]) {
      if (tab) t.deepEqual((await untilSeen(tab, published.at(-1))).events, published);
    }
    t.deepEqual((await first?.seen())?.resets, []);
  },
);

test.serial('a tab does not wait for a leading tab that hangs, which misses nothing by it', async (t) => {
  const { published, publish, publisher, open, untilStreams } = await setUpTabs(t);
  const [leader] = await open(undefined);
  await leader?.until('seen.controls.length === 1');
  const hanging = leader?.page.evaluate('for (const end = performance.now() + 6000; performance.now() < end; );');
  const [tab] = await open(undefined);
  await tab?.until('seen.controls.length === 1');
  await publish('while it hangs');
  const seen = await tab?.untilEvents(1);
  t.deepEqual(seen?.events, published);
  await hanging;
  await publisher.enough(10);
  await untilStreams(1);
  await publisher.stop();
  await publish('the last');
  for (const each of [leader, tab]) {
    if (each) t.deepEqual((await untilSeen(each, published.at(-1))).events, published);
  }
});

for (const missing of ['navigator.locks', 'BroadcastChannel'] as const) {
  test.serial(`where a browser has no ${missing} each tab has a stream of its own`, async (t) => {
    const { context, published, publish, open, untilStreams } = await setUpTabs(t);
    await context.addInitScript(
      `Object.defineProperty(${missing === 'BroadcastChannel' ? 'self' : 'navigator'}, '${
        missing.split('.').at(-1) ?? ''
      }', { value: undefined })`,
    );
    const tabs = await open(undefined, undefined);
    for (const tab of tabs) await tab.until('seen.controls.length === 1');
    await untilStreams(2);
    await publish('for both');
    for (const tab of tabs) t.deepEqual((await tab.untilEvents(1)).events, published);
    await tabs[0]?.page.evaluate('subscription.close()');
    await untilStreams(1);
  });
}

test.serial(
  'R3: tracing that puts headers of its own on each fetch of a page of another origin costs nothing',
  async (t) => {
    const { relay, pages, context, published, publish } = await setUpTabs(t);
    const tab = await openTab(context, pages.origin);
    await tab.page.evaluate(`{
    const bare = fetch;
    const own = {
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      tracestate: 'a=1',
      baggage: 'a=1',
      'sentry-trace': '0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1',
      'X-Requested-With': 'XMLHttpRequest',
    };
    window.fetch = (input, init = {}) => bare(input, { ...init, headers: { ...init.headers, ...own } });
  }`);
    await tab.join(relay.url, PATH);
    await tab.until('seen.controls.length > 0');
    await publish('traced');
    t.deepEqual((await tab.untilEvents(1)).events, published);
  },
);
