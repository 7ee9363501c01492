/**
 * The console's page in Chromium, each time with an empty cache, on a relay with many rows and
 * connections: how long until it paints first, until it has figures, and until each of two views
 * has what the relay knows.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser } from '../test/support/browser.js';
import { startObservedRelay } from '../test/support/observed-relay.js';
import { startGenerator, type RemoteGenerator } from './load/child.js';
import type { Result } from './result.js';
import { openFilesLimit } from './usage.js';

export interface PaintOptions {
  readonly rows: number;
  readonly connections: number;
  readonly rounds: number;
}

/** Rows in one INSERT. */
const BATCH = 50_000;
/** Files that the relay has open beside its clients' sockets, and to spare. */
const OTHER_FILES = 100;
/** Connections that are opened at a time. */
const AT_ONCE = 2500;
const SETTLE_MS = 3000;
const PASSWORD = 'only for this bench';
/** Milliseconds until the first paint, at the median. */
const MOST_MS = 1000;

interface Round {
  readonly paint: number;
  readonly figures: number;
  readonly connections: number;
  readonly log: number;
}

export async function measurePaint(databaseUrl: string, { rows, connections, rounds }: PaintOptions): Promise<Result> {
  const part = 'console-paint';
  const possible = Math.min(connections, openFilesLimit() - OTHER_FILES);
  const title = `First paint of the console with ${rows} rows and ${possible} connections, ${rounds} rounds with an empty cache (ms)`;
  let browser: Browser;
  try {
    browser = await launchBrowser();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { part, title, rows: [{ 'not measured': why }], ratio: 0, bar: { is: 'none', holds: undefined } };
  }
  await publish(databaseUrl, rows);
  const relay = await startObservedRelay(
    {
      DATABASE_URL: databaseUrl,
      PUBLIC_CHANNELS: '*',
      CONSOLE: 'true',
      CONSOLE_PASSWORD: PASSWORD,
      MAX_CONNECTIONS: '100000',
    },
    { collects: false },
  );
  const generators: RemoteGenerator[] = [];
  try {
    for (let open = 0; open < possible; open += AT_ONCE) {
      const url = `${relay.url}/events/idle-${open}-{n}`;
      generators.push(await startGenerator({ url, connections: Math.min(AT_ONCE, possible - open) }));
    }
    await delay(SETTLE_MS);
    const results: Round[] = [];
    for (let n = 0; n < rounds; n += 1) results.push(await openOnce(browser, relay.url));
    const paint = median(results.map((round) => round.paint));
    return {
      part,
      title,
      rows: (['paint', 'figures', 'connections', 'log'] as const).map((what) => ({
        until: { paint: 'the first paint', figures: 'figures', connections: 'the view of connections', log: 'the log' }[
          what
        ],
        median: Math.round(median(results.map((round) => round[what]))),
        longest: Math.round(Math.max(...results.map((round) => round[what]))),
      })),
      ratio: paint / MOST_MS,
      bar: { is: `a first paint within ${MOST_MS} ms at the median`, holds: paint < MOST_MS },
    };
  } finally {
    for (const generator of generators) await generator.close();
    await relay.stop();
    await closeBrowser(browser);
  }
}

/** A profile of its own: signs in, and measures the page's next load, and two of its views. */
async function openOnce(browser: Browser, url: string): Promise<Round> {
  const context = await browser.newContext();
  try {
    const answer = await context.request.post(`${url}/console/session`, { data: { password: PASSWORD } });
    if (!answer.ok()) throw new Error(`Signing in was answered with ${answer.status()}: ${await answer.text()}`);
    const page = await context.newPage();
    await page.goto(`${url}/console`, { waitUntil: 'commit' });
    await page.locator('.figure').first().waitFor();
    const [paint = Number.NaN, figures = Number.NaN] = await page.evaluate<number[]>(
      `[performance.getEntriesByName('first-contentful-paint')[0].startTime, performance.now()]`,
    );
    const viewMs = async (name: string) => {
      const began = performance.now();
      await page.getByRole('link', { name, exact: true }).click();
      await page.locator('tbody tr').first().waitFor();
      return performance.now() - began;
    };
    return { paint, figures, connections: await viewMs('Connections'), log: await viewMs('Log') };
  } finally {
    await context.close();
  }
}

async function publish(databaseUrl: string, rows: number): Promise<void> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  try {
    for (let n = 0; n < rows; n += BATCH) {
      await database.query(
        `INSERT INTO outbox (channel, data) SELECT 'console', jsonb_build_object('n', n, 'text', repeat(md5(n::text), 8))
         FROM generate_series(1, $1::int) AS n`,
        [Math.min(BATCH, rows - n)],
      );
    }
    await database.query('ANALYZE outbox');
  } finally {
    await database.end();
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
