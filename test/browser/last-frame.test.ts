/**
 * The last frame of a stream, in Chromium, whose `fetch` drops what has not been read when a connection breaks off.
 */
import test from 'ava';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser, openPage, startPages } from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { startTestRelay } from '../support/relay.js';
import { openStream } from '../support/stream.js';

/** Without a pause before the connection ends, one last frame in ten to twenty is lost. */
const TRIES = 50;
/** Chromium opens six to a host. */
const AT_A_TIME = 5;

/** Reads each answer until it breaks off; resolves with how the answers ended. */
const READ = `
  async function read(url) {
    let text = '';
    try {
      const answer = await fetch(url, { cache: 'no-store', headers: { Accept: 'text/event-stream' } });
      const reader = answer.body.getReader();
      const decoder = new TextDecoder();
      for (let part; !(part = await reader.read()).done;) text += decoder.decode(part.value, { stream: true });
    } catch {}
    return text.slice(-300);
  }
  async function readAll(url, rounds, atATime) {
    const endings = [];
    for (let n = 0; n < rounds; n += 1) endings.push(...(await Promise.all(Array.from({ length: atATime }, () => read(url)))));
    return endings;
  }`;

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

for (const { reason, env, isFull } of [
  { reason: 'busy', env: { MAX_CONNECTIONS: '1' }, isFull: true },
  { reason: 'age', env: { MAX_CONNECTION_SECONDS: '1' }, isFull: false },
]) {
  test(`a page that reads by fetch gets the last frame of every stream that ends by ${reason}`, async (t) => {
    const database = await createDatabase(t);
    const pages = await startPages(t);
    const relay = await startTestRelay(t, database.url, { ALLOWED_ORIGINS: pages.origin, ...env });
    if (isFull) await openStream(t, `${relay.url}/events/orders`);
    const { page } = await openPage(t, browser, pages.origin);
    await page.addScriptTag({ content: READ });
    const endings = await page.evaluate<string[]>(
      `readAll(${JSON.stringify(`${relay.url}/events/orders`)}, ${TRIES / AT_A_TIME}, ${AT_A_TIME})`,
    );
    const lost = endings.filter((text) => !text.includes('event: stream-pause') || !text.includes(`"${reason}"`));
    t.deepEqual(lost, []);
    t.is(endings.length, TRIES);
  });
}
