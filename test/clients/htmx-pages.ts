/** Pages with htmx 2 and htmx 4, in Chromium, each set up as docs/clients.md says. */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import type { Inbox } from './inbox.js';
import type { Start } from './programs.js';

interface FrontModule {
  startFront(targets: { app: string; relay: string }): Promise<{ url: string; stop(): Promise<void> }>;
}

const EXAMPLE = fileURLToPath(new URL('../../../examples/django/', import.meta.url));
// What stands in front in production: page and relay have one origin.
const { startFront } = (await import(`${EXAMPLE}front.mjs`)) as FrontModule;
const packages = createRequire(import.meta.url);

const folderOf = (name: string): string => join(dirname(packages.resolve(`${name}/package.json`)), 'dist');
const HTMX_2 = join(folderOf('htmx.org'), 'htmx.min.js');
const HTMX_2_SSE = join(folderOf('htmx-ext-sse'), 'sse.min.js');
const HTMX_4 = join(folderOf('htmx4'), 'htmx.min.js');
const HTMX_4_SSE = join(folderOf('htmx4'), 'ext/hx-sse.min.js');

/** What has been swapped in is the message; events of names that the page knows are told by the extension. */
export const HTMX_2_PAGE = `<div hx-ext="sse" sse-connect="PATH">
  <ul sse-swap="message" hx-swap="beforeend"></ul>
  <i sse-swap="stream-open,stream-cursor,stream-pause,stream-reset,stream-error" hx-swap="none"></i>
</div>
<script>
  document.addEventListener('htmx:sseMessage', ({ detail: { type, lastEventId, data } }) => report(type, lastEventId, data));
</script>`;

export const HTMX_4_PAGE = `<ul hx-sse:connect="PATH" hx-swap="beforeend"></ul>
<script>
  document.addEventListener('htmx:sse:after:message', ({ detail: { message: { event, id, data } } }) => report(event, id, data));
</script>`;

// Without `defer`: htmx 4 starts as soon as it can, and pays no heed to an extension that comes later.
const scripts = (...names: string[]): string => names.map((name) => `<script src="/${name}"></script>`).join('');
const page = (libraries: string, body: string): string =>
  `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">${libraries}
  <script type="module" src="/outbox-relay-htmx.js"></script><body>${body}</body>`;

export const htmx2 = (browser: () => Browser): Start =>
  inChromium(browser, page(scripts('htmx2.js', 'htmx2-sse.js'), HTMX_2_PAGE));
export const htmx4 = (browser: () => Browser): Start =>
  inChromium(browser, page(scripts('htmx4.js', 'htmx4-sse.js'), HTMX_4_PAGE));

const FILES: Readonly<Record<string, string>> = {
  '/htmx2.js': HTMX_2,
  '/htmx2-sse.js': HTMX_2_SSE,
  '/htmx4.js': HTMX_4,
  '/htmx4-sse.js': HTMX_4_SSE,
};

function inChromium(browser: () => Browser, html: string): Start {
  return async (url, inbox: Inbox) => {
    const { origin, pathname, search } = new URL(url);
    const app = createServer((request, response) => {
      const file = FILES[request.url ?? ''];
      response.setHeader('Content-Type', file === undefined ? 'text/html' : 'text/javascript');
      response.end(file === undefined ? html.replaceAll('PATH', pathname + search) : readFileSync(file));
    });
    await new Promise<void>((listening) => app.listen(0, '127.0.0.1', listening));
    const front = await startFront({
      app: `http://127.0.0.1:${(app.address() as AddressInfo).port}`,
      relay: origin,
    });
    const context = await browser().newContext();
    await context.exposeFunction('report', (name: string, id: string, data: string) =>
      inbox.take({ name: name || 'message', id, data }),
    );
    const tab = await context.newPage();
    tab.on('pageerror', (error) => inbox.ended(String(error)));
    await tab.goto(front.url);
    return async () => {
      await context.close();
      await front.stop();
      app.closeAllConnections();
      app.close();
    };
  };
}
