/**
 * The hooks of docs/django-spa.md, as they stand there, with React and Vue in Chromium, on a relay that asks for tokens.
 */
import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { blockOf } from '../support/docs.js';
import { startServer } from '../support/http-server.js';
import { startRelayProcess } from '../support/relay-process.js';
import { SECRET, tokenFor } from '../support/token.js';

const MOST_LINES = 20;
/** Well beyond the pauses before a second and a third try. */
const LEEWAY_MS = 1500;
const GUIDE = 'docs/django-spa.md';
const HOOKS = { React: blockOf(GUIDE, 'js', 0), Vue: blockOf(GUIDE, 'js', 1) };
type Framework = keyof typeof HOOKS;
const FRAMEWORKS = ['React', 'Vue'] as const;

const packages = createRequire(import.meta.url);
const fileOf = (name: string, file: string): string =>
  readFileSync(join(dirname(packages.resolve(`${name}/package.json`)), file), 'utf8');

/** React comes in CommonJS alone. Its development build, where StrictMode mounts twice what is mounted. */
function reactModule(): string {
  const files = {
    scheduler: fileOf('scheduler', 'cjs/scheduler.development.js'),
    react: fileOf('react', 'cjs/react.development.js'),
    'react-dom': fileOf('react-dom', 'cjs/react-dom.development.js'),
    'react-dom/client': fileOf('react-dom', 'cjs/react-dom-client.development.js'),
  };
  const factories = Object.entries(files).map(
    ([name, code]) => `${JSON.stringify(name)}: (module, exports, require, process) => {${code}\n}`,
  );
  return `const factories = {${factories.join(',\n')}};
    const made = {};
    function require(name) {
      if (!made[name]) {
        const module = (made[name] = { exports: {} });
        factories[name](module, module.exports, require, { env: {} });
      }
      return made[name].exports;
    }
    export const { createElement, StrictMode, useEffect, useRef, useState } = require('react');
    export const { createRoot } = require('react-dom/client');`;
}

/** Each shows what it has heard with how many came before, which a function of an earlier rendering would not know. */
const APPS: Readonly<Record<Framework, string>> = {
  React: `
    import { createElement as h, createRoot, StrictMode, useState } from 'react';
    import { useEvents } from '/hook.js';
    function List({ cursor }) {
      const [items, setItems] = useState([]);
      useEvents('/events?channel=user%3A7', {
        on: { order: (data) => setItems([...items, \`\${items.length}: \${data}\`]) },
        onReset: ({ reason }) => setItems([...items, reason]),
        lastEventId: cursor,
      });
      return h('ul', null, items.map((item) => h('li', { key: item }, item)));
    }
    const root = createRoot(document.querySelector('main'));
    root.render(h(StrictMode, null, h(List, { cursor: CURSOR })));
    window.leave = () => root.unmount();`,
  Vue: `
    import { createApp, h, ref } from 'vue';
    import { useEvents } from '/hook.js';
    const app = createApp({
      setup() {
        const items = ref([]);
        useEvents('/events?channel=user%3A7', {
          on: { order: (data) => items.value.push(\`\${items.value.length}: \${data}\`) },
          onReset: ({ reason }) => items.value.push(reason),
          lastEventId: CURSOR,
        });
        return () => h('ul', items.value.map((item) => h('li', item)));
      },
    });
    app.mount('main');
    window.leave = () => app.unmount();`,
};

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

async function setUp(t: ExecutionContext, framework: Framework, cursor?: string) {
  const database = await createDatabase(t);
  const publish = async (text: string) => {
    const { rows } = await database.query<{ id: string }>(
      `INSERT INTO outbox (channel, event, data) VALUES ('user:7', 'order', to_jsonb($1::text)) RETURNING id::text`,
      [text],
    );
    return rows[0]?.id ?? '';
  };
  const start = cursor ?? (await publish('before the page'));
  await publish('before the stream');
  const relay = await startRelayProcess(t, database.url, { PUBLIC_CHANNELS: '', JWT_SECRET: SECRET });
  const token = await tokenFor(['user:7']);
  let [renewals, open] = [0, 0];
  let isLoggedIn = true;
  const site = await startServer(t, (request, response) => {
    const path = request.url ?? '/';
    const script = (code: string) => response.setHeader('Content-Type', 'text/javascript').end(code);
    if (path.startsWith('/events')) {
      open += 1;
      response.once('close', () => (open -= 1));
      void forward(relay.url + path, request.headers.cookie ?? '', response);
    } else if (path === '/outbox-relay.js')
      void fetch(relay.url + path).then(async (answer) => script(await answer.text()));
    else if (path === '/hook.js') script(HOOKS[framework]);
    else if (path === '/app.js') script(APPS[framework].replace('CURSOR', JSON.stringify(start)));
    else if (path === '/react.js') script(reactModule());
    else if (path === '/vue.js') script(fileOf('vue', 'dist/vue.esm-browser.js'));
    else if (path === '/outbox/token') {
      renewals += 1;
      if (!isLoggedIn) return void response.writeHead(401).end();
      response.setHeader('Set-Cookie', `outbox_token=${token}; Path=/; HttpOnly`).end('{}');
    } else {
      const imports = { 'outbox-relay/browser': '/outbox-relay.js', react: '/react.js', vue: '/vue.js' };
      response.setHeader('Content-Type', 'text/html').end(`<!doctype html><link rel="icon" href="data:,"><main></main>
        <script type="importmap">${JSON.stringify({ imports })}</script><script type="module" src="/app.js"></script>`);
    }
  });
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  const visit = () => page.goto(site.url);
  return {
    relay,
    page,
    publish,
    errors,
    visit,
    renewals: () => renewals,
    logOut: () => (isLoggedIn = false),
    async until(count: number): Promise<string[]> {
      await page.waitForFunction(`document.querySelectorAll('li').length >= ${count}`);
      return page.locator('li').allTextContents();
    },
    async untilClosed(): Promise<void> {
      while (open > 0) await delay(20);
    },
  };
}

/** Passes a stream on, with the cookie. */
async function forward(url: string, cookie: string, response: ServerResponse): Promise<void> {
  const left = new AbortController();
  response.on('close', () => left.abort());
  try {
    const answer = await fetch(url, { headers: { Accept: 'text/event-stream', cookie }, signal: left.signal });
    response.writeHead(answer.status, { 'Content-Type': answer.headers.get('Content-Type') ?? '' });
    for await (const chunk of answer.body ?? []) response.write(chunk);
  } catch {
    // Cut off, by one side or the other.
  }
  response.destroy();
}

for (const framework of FRAMEWORKS) {
  test(`${GUIDE}: the hook for ${framework} has at most ${MOST_LINES} lines`, (t) => {
    const lines = HOOKS[framework].split('\n').filter((line) => line.trim() !== '');
    t.true(lines.length <= MOST_LINES, `${lines.length} lines`);
  });

  test.serial(
    `${GUIDE}: a component in ${framework} gets a token, hears all that followed its cursor, once, and goes on after a restart`,
    async (t) => {
      const { relay, publish, visit, until, errors, renewals } = await setUp(t, framework);
      await visit();
      t.deepEqual(await until(1), ['0: before the stream']);
      await publish('live');
      t.deepEqual(await until(2), ['0: before the stream', '1: live']);
      await relay.end('SIGKILL');
      await publish('while the relay was away');
      await relay.start();
      t.deepEqual((await until(3)).at(-1), '2: while the relay was away');
      t.deepEqual(errors, []);
      t.true(renewals() >= 1);
    },
  );

  test.serial(`${GUIDE}: a component in ${framework} that goes closes its stream`, async (t) => {
    const { page, visit, until, untilClosed } = await setUp(t, framework);
    await visit();
    await until(1);
    await page.evaluate('leave()');
    await t.notThrowsAsync(untilClosed());
  });

  test.serial(`${GUIDE}: a component in ${framework} is told that its cursor is lost`, async (t) => {
    const { visit, until } = await setUp(t, framework, '999999');
    await visit();
    t.deepEqual(await until(1), ['unknown']);
  });

  test.serial(`${GUIDE}: a component in ${framework} gives up once nobody is logged in`, async (t) => {
    const { page, visit, logOut, renewals, untilClosed } = await setUp(t, framework);
    logOut();
    const told = page.waitForResponse((answer) => answer.url().endsWith('/outbox/token'));
    await visit();
    await told;
    await untilClosed();
    const before = renewals();
    await delay(LEEWAY_MS);
    t.is(renewals(), before);
  });
}
