/**
 * The module's reading of event streams of any server, in Chromium, against a parser that others keep.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { createParser } from 'eventsource-parser';
import type { Browser } from 'playwright-core';
import { closeBrowser, launchBrowser, openPage, startPages } from '../support/browser.js';
import { createDatabase } from '../support/database.js';
import { startServer } from '../support/http-server.js';
import { randomOf, seedFromEnvironment } from '../support/random.js';
import { startTestRelay } from '../support/relay.js';

/** Between two pieces of an answer, so that a page reads them one by one. */
const PIECE_MS = 2;
const RANDOM_STREAMS = 60;

interface Dispatched {
  readonly name: string;
  readonly data: string;
  readonly id: string;
}

let browser: Browser;
test.before(async () => {
  browser = await launchBrowser();
});
test.after.always(() => closeBrowser(browser));

/** What the other parser makes of it, as a page would see it. */
function parsed(text: string): Dispatched[] {
  const events: Dispatched[] = [];
  let last = '';
  const parser = createParser({
    onEvent: ({ event, data, id }) => {
      last = id ?? last;
      events.push({ name: event ?? 'message', data, id: last });
    },
  });
  parser.feed(text);
  // It takes a frame that ends with CR only when the next byte has shown that no LF follows.
  if (text.endsWith('\r')) parser.feed('\n');
  return events;
}

interface Case {
  readonly text: string;
  /** The first bytes of each piece but the first. */
  readonly cuts: readonly number[];
}

/** Lines, and such as stand together: of a frame with an id and no data the other parser does not tell. */
const LINES = [
  'id: 1|data: a',
  'id: 2|data',
  'event: name',
  'event: stream-pause',
  'event:',
  'data: a',
  'data: {"a": "ü€😀"}',
  'data:',
  'data',
  'data:  two spaces',
  'data: a: b',
  ': comment',
  'retry: 120',
  'retry: soon',
  'unknown: field',
  '',
  '',
  '',
] as const;
const NAMES = ['message', 'name', 'stream-pause'] as const;

function cases(seed: number): Case[] {
  const all: Case[] = [];
  for (const end of ['\n', '\r\n', '\r']) {
    const text = ['retry: 100', '', 'id: 1', 'event: name', 'data: ä', 'data: b', '', 'data: c', '', ''].join(end);
    // Each byte a piece, so each cut there can be.
    all.push({ text, cuts: [...Array(Buffer.byteLength(text)).keys()].slice(1) });
    all.push({ text: `\ufeff${text}`, cuts: [] });
  }
  const random = randomOf(seed, 'streams');
  for (let n = 0; n < RANDOM_STREAMS; n++) {
    const lines = Array.from({ length: random.integer(1, 30) }, () => random.pick(LINES).split('|')).flat();
    const text = `${lines.map((line) => line + random.pick(['\n', '\r\n', '\r'])).join('')}data: the last\n\n`;
    const size = Buffer.byteLength(text);
    const cuts = Array.from({ length: random.integer(0, 25) }, () => random.integer(1, size - 1));
    all.push({ text, cuts: [...new Set(cuts)].sort((a, b) => a - b) });
  }
  return all;
}

test.serial('the module reads lines that end with LF, CRLF or CR, wherever they were cut', async (t) => {
  const seed = seedFromEnvironment();
  t.log(`SEED=${seed}`);
  const streams = cases(seed);
  const database = await createDatabase(t);
  const pages = await startPages(t);
  const relay = await startTestRelay(t, database.url, { ALLOWED_ORIGINS: pages.origin });
  const server = await startServer(t, (request, response) => {
    const { text, cuts } = streams[Number(/\d+/.exec(request.url ?? '')?.[0])] ?? { text: '', cuts: [] };
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Access-Control-Allow-Origin': '*' });
    response.socket?.setNoDelay();
    void (async () => {
      const bytes = Buffer.from(text);
      for (let n = 0; n <= cuts.length; n++) {
        response.write(bytes.subarray(cuts[n - 1] ?? 0, cuts[n] ?? bytes.length));
        await delay(PIECE_MS);
      }
    })();
  });
  const { page } = await openPage(t, browser, pages.origin);
  const read = (n: number, count: number) =>
    page.evaluate<Dispatched[]>(`(async () => {
      const { connect } = await import('${relay.url}/outbox-relay.js');
      const events = [];
      let done;
      const all = new Promise((resolve) => (done = resolve));
      const note = ({ type: name, data, lastEventId: id }) => events.push({ name, data, id }) === ${count} && done();
      const on = Object.fromEntries(${JSON.stringify(NAMES)}.map((name) => [name, note]));
      const subscription = connect('${server.url}/${n}', { on, share: false });
      await Promise.race([all, new Promise((resolve) => setTimeout(resolve, 5000))]);
      subscription.close();
      return events;
    })()`);
  for (const [n, { text, cuts }] of streams.entries()) {
    const expected = parsed(text);
    const events = await read(n, expected.length);
    t.deepEqual(events, expected, JSON.stringify({ seed, n, text, cuts }));
  }
});
