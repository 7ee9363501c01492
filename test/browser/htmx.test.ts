/**
 * Pages with htmx 2 and htmx 4 and the relay's module for them, in Chromium, behind a proxy that answers for a relay that is away; and
 * the pages of docs/django-htmx.md, as they stand there.
 */
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { blockOf, readPage } from '../support/docs.js';
import { startServer } from '../support/http-server.js';
import { startProxy } from '../support/proxy.js';
import { startRelayProcess } from '../support/relay-process.js';

const packages = createRequire(import.meta.url);
const dist = (name: string, file: string): string =>
  join(dirname(packages.resolve(`${name}/package.json`)), 'dist', file);

const PAGES = {
  'htmx 2': {
    scripts: [dist('htmx.org', 'htmx.js'), dist('htmx-ext-sse', 'sse.js')],
    markup: `<div hx-ext="sse" sse-connect="EVENTS"><ul id="list" sse-swap="message" hx-swap="beforeend"></ul></div>`,
  },
  'htmx 4': {
    scripts: [dist('htmx4', 'htmx.js'), dist('htmx4', 'ext/hx-sse.js')],
    markup: `<ul id="list" hx-sse:connect="EVENTS" hx-swap="beforeend"></ul>`,
  },
} as const;
type Version = keyof typeof PAGES;
const VERSIONS = ['htmx 2', 'htmx 4'] as const;

const GUIDE = 'docs/django-htmx.md';
const FORM = blockOf(GUIDE, 'html', 0);
const RECIPES: Readonly<Record<Version, string>> = {
  'htmx 2': blockOf(GUIDE, 'html', 1),
  'htmx 4': blockOf(GUIDE, 'html', 2),
};

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

/** A page that starts at the cursor that it was rendered with, on a relay that can be away. */
async function setUp(t: ExecutionContext, name: Version, isAway = false) {
  const database = await createDatabase(t);
  const publish = (item: string) =>
    database.query(`INSERT INTO outbox (channel, data) VALUES ('orders', to_jsonb($1::text))`, [`<li>${item}</li>`]);
  await publish('before the page');
  const { rows } = await database.query<{ id: string }>('SELECT max(id)::text AS id FROM outbox');
  const relay = await startRelayProcess(t, database.url, {
    ALLOWED_ORIGINS: '*',
    HEARTBEAT_SECONDS: '1',
  });
  const network = await startProxy(t, relay.url);
  const { scripts, markup } = PAGES[name];
  let refusals = 0;
  let away = isAway;
  const site = await startServer(t, (request, response) => {
    const path = request.url ?? '/';
    const library = scripts.find((file) => path === `/${file.split('/').at(-1) ?? ''}`);
    if (library !== undefined) {
      void readFile(library).then((text) => response.setHeader('Content-Type', 'text/javascript').end(text));
    } else if (path.startsWith('/events')) {
      if (away) {
        refusals += 1;
        response.writeHead(502, { 'Content-Type': 'text/html' }).end('<b>Bad Gateway</b>');
        return;
      }
      void forward(network.url + path, request.headers['last-event-id'], response);
    } else {
      const tags = scripts.map((file) => `<script src="/${file.split('/').at(-1) ?? ''}"></script>`).join('');
      response.setHeader('Content-Type', 'text/html');
      response.end(`<!doctype html><link rel="icon" href="data:,">${tags}
        <script type="module" src="${relay.url}/outbox-relay-htmx.js"></script>
        <body>${markup.replace('EVENTS', `/events?channel=orders&last_event_id=${rows[0]?.id ?? ''}`)}</body>`);
    }
  });
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  await page.goto(site.url);
  const shown = () => page.locator('#list li').allTextContents();
  return {
    network,
    publish,
    shown,
    setAway: (is: boolean) => (away = is),
    async untilRefused(): Promise<void> {
      for (const before = refusals; refusals === before;) await new Promise((done) => setTimeout(done, 20));
    },
    async until(count: number): Promise<string[]> {
      await page.waitForFunction(`document.querySelectorAll('#list li').length >= ${count}`, undefined, {
        timeout: 25_000,
      });
      return shown();
    },
    text: () => page.locator('body').innerText(),
  };
}

/** Passes a stream on, as nginx does. */
async function forward(url: string, cursor: string | string[] | undefined, response: ServerResponse): Promise<void> {
  const left = new AbortController();
  response.on('close', () => left.abort());
  try {
    const headers = { Accept: 'text/event-stream', ...(typeof cursor === 'string' && { 'Last-Event-ID': cursor }) };
    const answer = await fetch(url, { headers, signal: left.signal });
    response.writeHead(answer.status, { 'Content-Type': answer.headers.get('Content-Type') ?? '' });
    for await (const chunk of answer.body ?? []) response.write(chunk);
  } catch {
    // Cut off, by one side or the other.
  }
  response.destroy();
}

for (const name of VERSIONS) {
  test.serial(
    `R3: a page with ${name} that was refused with a 502 goes on where it was, and swaps nothing twice`,
    async (t) => {
      const { network, publish, until, untilRefused, setAway, text } = await setUp(t, name);
      await publish('1');
      await publish('2');
      t.deepEqual(await until(2), ['1', '2']);
      setAway(true);
      network.cut();
      await untilRefused();
      await publish('3');
      setAway(false);
      t.deepEqual(await until(3), ['1', '2', '3']);
      await publish('4');
      t.deepEqual(await until(4), ['1', '2', '3', '4']);
      t.notRegex(await text(), /Bad Gateway/);
    },
  );

  test.serial(
    `R3: a page with ${name} whose first request was refused comes back, and shows nothing of the refusal`,
    async (t) => {
      const { publish, until, untilRefused, setAway, text } = await setUp(t, name, true);
      await untilRefused();
      await publish('1');
      t.notRegex(await text(), /Bad Gateway/);
      setAway(false);
      t.deepEqual(await until(1), ['1']);
      await publish('2');
      t.deepEqual(await until(2), ['1', '2']);
    },
  );

  test.serial(`R3, R6: a page with ${name} whose connection died without a word goes on exactly`, async (t) => {
    const { network, publish, until } = await setUp(t, name);
    await publish('1');
    t.deepEqual(await until(1), ['1']);
    network.strand();
    await publish('2');
    t.deepEqual(await until(2), ['1', '2']);
  });
}

/** The guide's page, with the tags of its template filled in; a server that is asked for the list counts how often. */
async function followGuide(t: ExecutionContext, name: Version, cursor?: string) {
  const database = await createDatabase(t);
  const publish = (data: string | null, event = 'message') =>
    database.query(`INSERT INTO outbox (channel, event, data) VALUES ('orders', $1, to_jsonb($2::text))`, [
      event,
      data,
    ]);
  const relay = await startRelayProcess(t, database.url, { HEARTBEAT_SECONDS: '1' });
  const scripts = PAGES[name].scripts;
  let asked = 0;
  const site = await startServer(t, (request, response) => {
    const path = request.url ?? '/';
    response.setHeader('Content-Type', path.endsWith('.js') ? 'text/javascript' : 'text/html');
    if (path.startsWith('/events')) void forward(relay.url + path, request.headers['last-event-id'], response);
    else if (path.startsWith('/static/'))
      void readFile(scripts.find((file) => file.endsWith(`/${path.slice('/static/'.length)}`)) ?? '').then((text) =>
        response.end(text),
      );
    else if (path.startsWith('/outbox-relay'))
      void fetch(relay.url + path).then(async (answer) => response.end(await answer.text()));
    else if (path === '/orders/list/') response.end(`<li>list ${++asked}</li>`);
    else {
      const address = `/events?channel=orders${cursor === undefined ? '' : `&last_event_id=${cursor}`}`;
      const body = RECIPES[name]
        .replace('{% outbox_url %}', address)
        .replaceAll(/\{% static '([^']+?)(?:\.min)?\.js' %\}/g, '/static/$1.js');
      response.end(`<!doctype html><link rel="icon" href="data:,"><body>${body}</body>`);
    }
  });
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  const opened = page.waitForResponse((answer) => answer.url().includes('/events') && answer.status() === 200);
  await page.goto(site.url);
  await opened;
  /** Resolves with what the list shows once it has so many items. */
  const until = async (count: number) => {
    await page.waitForFunction(`document.querySelectorAll('#orders li').length === ${count}`);
    return page.locator('#orders li').allTextContents();
  };
  const html = (pk: number, item: string) =>
    FORM.replace('{{ order.pk }}', String(pk)).replace('{{ order.item }}', item);
  return { page, publish, html, until, errors, asked: () => asked };
}

for (const name of VERSIONS) {
  test.serial(
    `${GUIDE}: with ${name} HTML that says where it goes is put there, and takes the place of what has its id`,
    async (t) => {
      const { publish, html, until, errors, page } = await followGuide(t, name);
      await publish(html(1, 'Teapot'));
      t.deepEqual(await until(1), ['Teapot']);
      await publish(html(2, 'Kettle'));
      t.deepEqual(await until(2), ['Kettle', 'Teapot']);
      await publish('<li id="order-1" hx-swap-oob="true">Teapot, paid</li>');
      await page.waitForSelector('#order-1:text("paid")');
      t.deepEqual(await until(2), ['Kettle', 'Teapot, paid']);
      t.deepEqual(errors, []);
    },
  );

  test.serial(
    `${GUIDE}: with ${name} an event with a name has the list asked for, and is not swapped in`,
    async (t) => {
      const { publish, until, asked, page } = await followGuide(t, name);
      await publish('<b>not to be seen</b>', 'paid');
      t.deepEqual(await until(1), ['list 1']);
      t.is(asked(), 1);
      t.notRegex(await page.locator('body').innerText(), /not to be seen/);
    },
  );

  test.serial(`${GUIDE}: with ${name} a cursor that is lost has the list asked for, once`, async (t) => {
    const { publish, html, until, asked } = await followGuide(t, name, '999999');
    t.deepEqual(await until(1), ['list 1']);
    await publish(html(1, 'Teapot'));
    t.deepEqual(await until(2), ['Teapot', 'list 1']);
    t.is(asked(), 1);
  });
}

test.serial(`${GUIDE}: with htmx 4 a hidden tab has no stream, and goes on exactly once it is shown`, async (t) => {
  const { publish, html, until, page } = await followGuide(t, 'htmx 4');
  await publish(html(1, 'Teapot'));
  await until(1);
  const setHidden = (isHidden: boolean) =>
    page.evaluate(`Object.defineProperty(document, 'hidden', { value: ${isHidden}, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'))`);
  const ended = page.waitForEvent('requestfinished', (request) => request.url().includes('/events'));
  await setHidden(true);
  await Promise.race([ended, page.waitForEvent('requestfailed', (request) => request.url().includes('/events'))]);
  await publish(html(2, 'Kettle'));
  await publish(html(3, 'Strainer'));
  t.deepEqual(await until(1), ['Teapot']);
  await setHidden(false);
  t.deepEqual(await until(3), ['Strainer', 'Kettle', 'Teapot']);
});

test(`${GUIDE}: it pins the versions that are tested here`, (t) => {
  const [two = '', four = ''] = readPage(GUIDE)
    .blocks.filter(({ language }) => language === 'sh')
    .map(({ code }) => code.trim());
  const version = (name: string) => (packages(`${name}/package.json`) as { version: string }).version;
  t.is(two, `npm install htmx.org@${version('htmx.org')} htmx-ext-sse@${version('htmx-ext-sse')}`);
  t.is(four, `npm install htmx.org@${version('htmx4')}`);
});
