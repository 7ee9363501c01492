/**
 * The example's site as in production, but for its size: Django under gunicorn, a relay, and a front that makes one origin of them.
 *
 * Made once for a file, since Django takes seconds to start and to migrate; each test takes users of its own.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { createDatabase, type TestDatabase } from './database.js';
import { EXAMPLE, exampleDjango, runPython } from './python.js';
import type { Environment } from './relay.js';
import { startRelayProcess, type RelayProcess } from './relay-process.js';

interface FrontModule {
  startFront(targets: { app: string; relay: string }): Promise<{ url: string; stop(): Promise<void> }>;
}

const { startFront } = (await import(`${EXAMPLE}front.mjs`)) as FrontModule;

export const PASSWORD = 'outbox';
const USERS = 30;

/** Where what has to be ended is put: a test's own, or a hook's. */
export interface Teardown {
  teardown(end: () => unknown): void;
}

export interface Site {
  readonly url: string;
  readonly database: TestDatabase;
  readonly relay: RelayProcess;
  /** A user that no test has had yet; `dana` is staff. */
  newUser(): Promise<SiteUser>;
  /** Runs `manage.py` to its end. @throws Error with what it printed, unless it succeeds */
  manage(...args: string[]): Promise<string>;
  /** The same site under another address, with gunicorn's processes of its own. */
  startAnother(t: Teardown, env: Readonly<Record<string, string>>): Promise<string>;
  /** What the table has for the user, newest first. */
  notifications(user: SiteUser): Promise<string[]>;
}

export interface SiteUser {
  readonly id: string;
  readonly name: string;
}

/** Ends what a file's `before` hook made, in the opposite order, in its `after.always`. */
export function createTeardown(): Teardown & { end(): Promise<void> } {
  const ends: (() => unknown)[] = [];
  return {
    teardown: (end) => void ends.push(end),
    async end() {
      for (let end = ends.pop(); end; end = ends.pop()) await end();
    },
  };
}

/** @param relayEnv of the relay, beside what it shares with Django */
export async function startSite(t: Teardown, relayEnv: Environment = {}): Promise<Site> {
  const python = exampleDjango();
  const database = await createDatabase(t);
  const env = {
    DATABASE_URL: database.url,
    SECRET_KEY: 'the secret of the tests, which is long enough for Django to be content with it',
    JWT_SECRET: 'the secret of the tests, 32 bytes and more',
  };
  const manage = async (...args: string[]) => {
    const { code, output } = await runPython(python, ['manage.py', ...args], { cwd: EXAMPLE, env });
    if (code !== 0) throw new Error(`manage.py ${args.join(' ')} failed:\n${output}`);
    return output;
  };
  // outbox-relay was here first: its tables are in the template. Then Django's migrations, the demo's users and ours.
  await manage('migrate');
  await manage('demo_users');
  await database.query(
    `INSERT INTO auth_user (username, password, email, first_name, last_name, is_staff, is_superuser, is_active, date_joined)
     SELECT 'user-' || n, password, '', '', '', false, false, true, now() FROM auth_user, generate_series(1, $1::int) AS n
     WHERE username = 'alice'`,
    [USERS],
  );
  const relay = await startRelayProcess(t, database.url, {
    PUBLIC_CHANNELS: '',
    JWT_SECRET: env.JWT_SECRET,
    ...relayEnv,
  });
  const start = async (owner: Teardown, more: Readonly<Record<string, string>>) => {
    const app = await startGunicorn(owner, python, { ...env, ...more });
    const front = await startFront({ app, relay: relay.url });
    owner.teardown(front.stop);
    return front.url;
  };
  let taken = 0;
  return {
    url: await start(t, {}),
    database,
    relay,
    manage,
    startAnother: start,
    async newUser() {
      const name = `user-${++taken}`;
      const { rows } = await database.query<{ id: string }>('SELECT id::text FROM auth_user WHERE username = $1', [
        name,
      ]);
      return { id: rows[0]?.id ?? '', name };
    },
    async notifications(user) {
      const { rows } = await database.query<{ text: string }>(
        'SELECT text FROM store_notification WHERE user_id = $1 ORDER BY id DESC',
        [user.id],
      );
      return rows.map((row) => row.text);
    },
  };
}

/** Resolves with its address. */
async function startGunicorn(t: Teardown, python: string, env: Readonly<Record<string, string>>): Promise<string> {
  const args = ['-m', 'gunicorn', 'shop.wsgi', '--bind', '127.0.0.1:0', '--workers', '2', '--threads', '4'];
  const child = spawn(python, args, {
    cwd: EXAMPLE,
    env: { PATH: process.env['PATH'] ?? '', PYTHONDONTWRITEBYTECODE: '1', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.teardown(() => endProcess(child));
  const log: string[] = [];
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`gunicorn ended early:\n${log.join('\n')}`)));
    createInterface(child.stderr).on('line', (line) => {
      log.push(line);
      const [, url] = /Listening at: (http:\S+)/.exec(line) ?? [];
      if (url !== undefined) resolve(url);
    });
  });
}

/** Its workers end with it. */
async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

/** A browser that is logged in, on a profile of its own. */
export interface Visit {
  readonly context: BrowserContext;
  readonly page: Page;
}

/** Logs in by the form, and resolves when the page at `path` is live. */
export async function visit(t: Teardown, browser: Browser, url: string, name: string, path = '/'): Promise<Visit> {
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(`${url}/log-in/?next=${path}`);
  await page.fill('[name=username]', name);
  await page.fill('[name=password]', PASSWORD);
  await page.click('main button');
  await untilLive(page);
  return { context, page };
}

export async function untilLive(page: Page): Promise<void> {
  await page.waitForSelector('#live[data-state=live]');
}

/** Presses the page's button, with the card refused if it is to be. */
export async function placeOrder(page: Page, item = 'Kettle', refuse = false): Promise<void> {
  await page.selectOption('[name=item]', item);
  if (refuse) await page.check('[name=refuse_card]');
  const answered = page.waitForResponse((response) => response.url().endsWith('/place/'));
  await page.click('.place button');
  await answered;
}

/** What the bell's list shows, newest first. */
export function shownNotifications(page: Page): Promise<string[]> {
  return page.evaluate("[...document.querySelectorAll('#notifications li')].map((item) => item.textContent.trim())");
}

/** Resolves when the bell's list has so many, with what they are. */
export async function untilNotifications(page: Page, count: number): Promise<string[]> {
  await page.waitForFunction(`document.querySelectorAll('#notifications li').length >= ${count}`);
  return shownNotifications(page);
}
