/**
 * A page and a relay on a sub-domain behind nginx, with HTTP/2, as docs/proxies.md has it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser, openPage, startPages } from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { blockOf } from '../support/docs.js';
import { hasNginx, startHttp2Nginx } from '../support/nginx-http2.js';
import { freePort } from '../support/port.js';
import { startTestRelay } from '../support/relay.js';
import { inSeconds, SECRET, sign } from '../support/token.js';

const STREAMS = 10;
/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser('--ignore-certificate-errors');
});
test.after.always(() => closeBrowser(browser));

/** What docs/proxies.md has for a relay on a sub-domain, but for what the test's nginx has of its own: port and certificate. */
function recipe(relayUrl: string, origin: string): string {
  const block = blockOf('docs/proxies.md', 'nginx', 1);
  const content = block.slice(block.indexOf('{') + 1, block.lastIndexOf('}'));
  return content
    .replaceAll(/^ *(?:listen|server_name|ssl_certificate|ssl_certificate_key) .*\n/gm, '')
    .replace('http://127.0.0.1:8001', relayUrl)
    .replaceAll('https://app.example.com', origin);
}

const isMissing = !hasNginx();
const run = isMissing ? test.skip : test.serial;

run(
  `over HTTP/2 a page has ${STREAMS} streams on one connection, from a sub-domain, with a cookie of the whole domain${isMissing ? ' (skipped: there is no nginx on this machine)' : ''}`,
  async (t) => {
    const port = await freePort();
    const origin = `https://app.localhost:${port}`;
    const live = `https://live.app.localhost:${port}`;
    const database = await createDatabase(t);
    const relay = await startTestRelay(t, database.url, {
      ALLOWED_ORIGINS: origin,
      PUBLIC_CHANNELS: '',
      JWT_SECRET: SECRET,
    });
    const pages = await startPages(t, 'app.localhost');
    const nginx = await startHttp2Nginx(t, port, {
      'app.localhost': `location / { proxy_pass ${pages.origin}; }`,
      'live.app.localhost': recipe(relay.url, origin),
    });
    const token = await sign({ channels: ['a:*'], exp: inSeconds(600) });
    const tab = await openPage(t, browser, `${origin}/set?token=${token}`);
    for (let n = 0; n < STREAMS; n++) await tab.listen(`${live}/events?channel=a:${n}`, true);
    await tab.until(`seen.controls.length === ${STREAMS}`);
    t.is(relay.streams, STREAMS);
    for (let n = 0; n < STREAMS; n++) {
      await database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::int))', [`a:${n}`, n]);
    }
    const { events } = await tab.untilEvents(STREAMS);
    t.deepEqual(events.map(({ data }) => Number(data)).sort(), [...Array(STREAMS).keys()]);

    // The module, too, across origins.
    await tab.join(live, '/events?channel=a:0');
    await tab.until(`seen.controls.length === ${STREAMS + 1}`);
    await tab.page.close();
    while (relay.streams > 0) await delay(POLL_MS);
    const served = (await nginx.end()).filter(({ path }) => path.startsWith('/events'));
    t.is(served.length, STREAMS + 1);
    t.deepEqual([...new Set(served.map(({ protocol }) => protocol))], ['HTTP/2.0']);
    t.is(new Set(served.slice(0, STREAMS).map(({ connection }) => connection)).size, 1);
  },
);
