/**
 * The client of django-eventstream, as its pages have it, in Chromium.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import test from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser, openPage, startPages } from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { startRelayProcess } from '../support/relay-process.js';
import { startServer } from '../support/http-server.js';

/** The build for script tags; it makes a global `ReconnectingEventSource`. */
const SCRIPT = createRequire(import.meta.url)
  .resolve('reconnecting-eventsource')
  .replace(/build.*/, 'dist/ReconnectingEventSource.min.js');

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

test.serial(
  "R3, R6: django-eventstream's ReconnectingEventSource works unchanged, and goes on exactly after a restart and after a status at which it starts anew",
  async (t) => {
    const database = await createDatabase(t);
    const pages = await startPages(t);
    const relay = await startRelayProcess(t, database.url, { ALLOWED_ORIGINS: pages.origin });
    const published: { id: string; data: string }[] = [];
    const publish = async (data: string) => {
      const { rows } = await database.query<{ id: string }>(
        `INSERT INTO outbox (channel, data) VALUES ('orders', to_jsonb($1::text)) RETURNING id::text`,
        [data],
      );
      published.push({ id: rows[0]?.id ?? '', data });
    };
    const { page, until, untilEvents } = await openPage(t, browser, pages.origin);
    await page.addScriptTag({ content: await readFile(SCRIPT, 'utf8') });
    await page.evaluate(`
      source = new ReconnectingEventSource('${relay.url}/events/?channel=orders', { max_retry_time: 200 });
      source.addEventListener('message', ({ lastEventId, data }) => seen.events.push({ id: lastEventId, data }));
      for (const name of CONTROLS) source.addEventListener(name, ({ data }) => seen.controls.push({ name, data }));
    `);
    await until(`seen.controls.length === 1`);
    await publish('before');
    await untilEvents(1);

    await relay.end('SIGKILL');
    await publish('while it was down');
    await relay.start();
    await untilEvents(2);
    await publish('and after');
    await untilEvents(3);

    // A proxy whose relay is away: EventSource gives up, and this client starts anew, with its cursor in the address.
    await relay.end('SIGKILL');
    const { port } = new URL(relay.url);
    const away = await startServer(
      t,
      (_, response) => response.writeHead(502, { 'Access-Control-Allow-Origin': pages.origin }).end(),
      Number(port),
    );
    await away.requested(3);
    await away.close();
    await publish('while it was refused');
    await relay.start();
    await untilEvents(4);
    await publish('the last');
    const seen = await untilEvents(5);
    t.deepEqual(seen.events, published);
    t.true(seen.controls.every(({ name }) => name === 'stream-open'));
    t.true(away.requests.some(({ url }) => url?.includes('&lastEventId=') ?? false));

    // Its names of control events are ours.
    await database.query('DELETE FROM outbox');
    await page.evaluate(`source.close()`);
    await page.evaluate(`
      source = new ReconnectingEventSource('${relay.url}/events/?channel=orders', { lastEventId: '${published[0]?.id ?? ''}' });
      for (const name of CONTROLS) source.addEventListener(name, ({ data }) => seen.controls.push({ name, data }));
    `);
    const told = await until(`seen.controls.some(({ name }) => name === 'stream-reset')`);
    t.regex(told.controls.at(-1)?.data ?? '', /"reason":"expired"/);
  },
);
