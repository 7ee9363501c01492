/**
 * Chromium, and the pages that it opens. A page listens, with `EventSource` or with the relay's own module, and keeps what it
 * sees; tests read that.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';

/** Chromium, or what is built from it. */
const PATHS = ['/usr/bin/chromium', '/usr/bin/google-chrome'] as const;

/** What a page has seen. */
export interface Seen {
  /** Events without a name, as they came. */
  readonly events: readonly { readonly id: string; readonly data: string }[];
  /** Names and data of control events. */
  readonly controls: readonly { readonly name: string; readonly data: string }[];
  /** Answers with status 200. */
  readonly opens: number;
  /** `readyState` at each error: 0 when it comes back by itself, 2 when it has given up. */
  readonly errors: readonly number[];
  readonly readyState: number;
  /** Of the module: what `onReset` was told. */
  readonly resets: readonly { readonly reason: string; readonly lastEventId: string }[];
  /** Of the module: the status of each call of `onRenew`, and when it came, in milliseconds. */
  readonly renewals: readonly { readonly status: number; readonly at: number }[];
}

export const CLOSED = 2;

const PAGE = `<!doctype html>
<meta charset="utf-8">
<title>page</title>
<script>
  const seen = { events: [], controls: [], opens: 0, errors: [], readyState: 0, resets: [], renewals: [] };
  const CONTROLS = ['stream-open', 'stream-reset', 'stream-error'];
  let source, subscription;
  let renew = () => undefined;
  function listen(url, withCredentials) {
    source = new EventSource(url, { withCredentials });
    const note = () => (seen.readyState = source.readyState);
    source.onmessage = ({ lastEventId, data }) => seen.events.push({ id: lastEventId, data });
    source.onopen = () => { seen.opens += 1; note(); };
    source.onerror = () => { note(); seen.errors.push(source.readyState); };
    for (const name of CONTROLS) {
      source.addEventListener(name, ({ data }) => seen.controls.push({ name, data }));
    }
  }
  async function join(module, url, options) {
    const { connect } = await import(module);
    const control = ({ type: name, data }) => seen.controls.push({ name, data });
    subscription = connect(url, {
      on: {
        message: ({ lastEventId, data }) => seen.events.push({ id: lastEventId, data }),
        ...Object.fromEntries(CONTROLS.map((name) => [name, control])),
        open: () => { seen.opens += 1; },
      },
      onReset: (reset) => seen.resets.push(reset),
      onRenew: (status) => {
        seen.renewals.push({ status, at: performance.now() });
        return renew(status);
      },
      withCredentials: true,
      ...options,
    });
  }
</script>
`;

export interface Pages {
  readonly origin: string;
}

/**
 * Serves the page at every path of an origin of its own. `/set?token=…` gives the browser the token in a cookie that
 * scripts cannot read, and `/drop` takes it away; cookies go by host, so all such origins share them. With a domain they
 * are of that and of all below it.
 */
export async function startPages(t: Pick<ExecutionContext, 'teardown'>, domain?: string): Promise<Pages> {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://page');
    const cookie = (value: string, seconds: number) =>
      response.setHeader(
        'Set-Cookie',
        `outbox_token=${value}; HttpOnly; SameSite=Lax; Path=/; Max-Age=${seconds}${domain ? `; Domain=${domain}` : ''}`,
      );
    if (url.pathname === '/set') cookie(url.searchParams.get('token') ?? '', 3600);
    if (url.pathname === '/drop') cookie('', 0);
    response.setHeader('Content-Type', 'text/html; charset=utf-8');
    response.end(PAGE);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** Time that Chromium has to close. */
const CLOSES_WITHIN_MS = 20_000;

/** @throws Error when there is no Chromium. */
export async function launchBrowser(...flags: string[]): Promise<Browser> {
  const given = process.env['CHROMIUM_PATH'];
  const executablePath = given ?? PATHS.find((path) => existsSync(path));
  if (executablePath === undefined) {
    throw new Error('There is no Chromium: run "apt-get install chromium", or say where it is with CHROMIUM_PATH.');
  }
  const name = `--outbox-relay-test=${randomUUID()}`;
  // Its sandbox refuses to run as root, as containers do; all that it opens here is ours.
  const args = [...flags, name, ...(process.getuid?.() === 0 ? ['--no-sandbox'] : [])];
  const browser = await chromium.launch({ executablePath, args });
  names.set(browser, name);
  return browser;
}

/** An argument of each browser that no other process has. */
const names = new WeakMap<Browser, string>();

/** Closes it. One that hangs then is killed, and said to have: its test file would never come to its end. */
export async function closeBrowser(browser: Browser): Promise<void> {
  const closed = browser.close().then(() => true);
  if (await Promise.race([closed, delay(CLOSES_WITHIN_MS, false, { ref: false })])) return;
  console.error(`Chromium did not close within ${CLOSES_WITHIN_MS} ms: it was killed.`);
  const name = names.get(browser) ?? '';
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(name)) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
  await closed;
}

export interface JoinOptions {
  readonly lastEventId?: string;
  readonly share?: boolean;
}

export interface OpenPage {
  readonly page: Page;
  /** Makes the page listen. */
  listen(url: string, withCredentials?: boolean): Promise<void>;
  /** Makes the page listen with the relay's module, and with credentials. */
  join(relayUrl: string, path: string, options?: JoinOptions): Promise<void>;
  seen(): Promise<Seen>;
  /** Resolves when the expression holds in the page, where `seen` is a `Seen`. */
  until(expression: string): Promise<Seen>;
  /** Resolves when so many events have come. */
  untilEvents(count: number): Promise<Seen>;
}

/** Opens a page in a profile of its own. */
export async function openPage(
  t: Pick<ExecutionContext, 'teardown'>,
  browser: Browser,
  url: string,
): Promise<OpenPage> {
  const context = await browser.newContext();
  t.teardown(() => context.close());
  return openTab(context, url);
}

/** Opens one more page in a profile. */
export async function openTab(context: BrowserContext, url: string): Promise<OpenPage> {
  const page = await context.newPage();
  await page.goto(url);
  const seen = () => page.evaluate<Seen>('seen');
  const until = async (expression: string) => {
    try {
      await page.waitForFunction(expression, undefined, { timeout: 20_000 });
    } catch (error) {
      throw new Error(`${expression} never held: ${JSON.stringify(await seen())}`, { cause: error });
    }
    return seen();
  };
  return {
    page,
    listen: async (address, withCredentials = false) => {
      await page.evaluate(`listen(${JSON.stringify(address)}, ${String(withCredentials)})`);
    },
    join: async (relayUrl, path, options = {}) => {
      const words = [`${relayUrl}/outbox-relay.js`, relayUrl + path, options].map((word) => JSON.stringify(word));
      await page.evaluate(`join(${words.join(', ')})`);
    },
    seen,
    until,
    untilEvents: (count) => until(`seen.events.length >= ${count}`),
  };
}
