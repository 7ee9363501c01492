import test from 'ava';
import { consoleAt, PASSWORD } from '../support/console.js';
import { createDatabase } from '../support/database.js';
import { startTestRelay } from '../support/relay.js';

const ROWS = 1_000_000;
/** What a page may take, with a margin for machines that have other things to do. */
const MOST_MS = 10_000;

interface Page {
  readonly events: readonly { readonly id: string }[];
  readonly before: string | null;
  readonly scanned: string;
}

test('of a million rows each page of the log comes within bounds, and says how far a filter has looked', async (t) => {
  t.timeout(180_000);
  const database = await createDatabase(t);
  // No trigger sees them, or it would take minutes.
  await database.withClient(async (client) => {
    await client.query('SET session_replication_role = replica');
    await client.query(
      `INSERT INTO outbox (channel, event, data, position)
       SELECT 'c' || n % 100, CASE WHEN n = 10 THEN 'rare' ELSE 'message' END, to_jsonb(n), n
       FROM generate_series(1, ${ROWS}) AS n`,
    );
    await client.query("SELECT setval('outbox_position_seq', $1)", [ROWS]);
  });
  const settings = { CONSOLE: 'true', CONSOLE_PASSWORD: PASSWORD };
  const { url, stop } = await startTestRelay(t, database.url, settings);
  const relay = consoleAt(url, { database, log: [], stop });
  const timed = async (path: string) => {
    const began = performance.now();
    const page = await relay.api<Page>(path);
    t.true(performance.now() - began < MOST_MS, `${path}: ${performance.now() - began} ms`);
    return page;
  };
  t.is((await timed('log?limit=100')).events.length, 100);
  t.is((await timed('log?limit=100&channel=c7')).events.length, 100);
  t.is((await timed('log?limit=100&before=1000')).events.length, 100);
  t.is((await timed(`log?id=${ROWS / 2}`)).events[0]?.id, String(ROWS / 2));
  let page = await timed('log?limit=10&event=rare');
  let pages = 1;
  for (; page.events.length === 0 && page.before !== null; pages += 1) {
    t.regex(page.scanned, /^until \d+$/);
    page = await timed(`log?limit=10&event=rare&before=${page.before}`);
  }
  t.deepEqual(
    page.events.map(({ id }) => id),
    ['10'],
  );
  t.true(pages > 1);
});
