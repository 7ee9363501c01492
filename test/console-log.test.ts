import test from 'ava';
import { startConsole, type TestConsole } from './support/console.js';

interface Page {
  readonly events: readonly {
    readonly id: string;
    readonly data: string | null;
    readonly hidden: string | null;
    readonly bytes: number;
    readonly channel: string;
    readonly event: string;
  }[];
  readonly before: string | null;
  readonly after: string;
  readonly scanned: string;
}

const idsOf = ({ events }: Page): string[] => events.map(({ id }) => id);

/**
 * Fills the table with events whose commits do not come in the order of their ids, and with gaps.
 */
async function fill({ database }: TestConsole): Promise<void> {
  await database.query(
    `INSERT INTO outbox (channel, event, data, created_at)
     SELECT CASE n % 4 WHEN 0 THEN 'orders' WHEN 1 THEN 'user:' || n % 3 WHEN 2 THEN 'user:' || n % 5 ELSE 'news' END,
       CASE n % 5 WHEN 0 THEN 'status' ELSE 'message' END, to_jsonb(n), now() - make_interval(secs => 1000 - n)
     FROM generate_series(1, 300) AS n`,
  );
  await database.query('DELETE FROM outbox WHERE id % 17 = 0');
}

/** What the table has, the newest first. */
async function truth({ database }: TestConsole, condition: string): Promise<string[]> {
  const { rows } = await database.query<{ id: string }>(
    `SELECT id FROM outbox WHERE ${condition} ORDER BY position DESC`,
  );
  return rows.map(({ id }) => id);
}

const FILTERS: readonly (readonly [query: string, condition: string])[] = [
  ['', 'true'],
  ['&channel=orders', "channel = 'orders'"],
  ['&channel=user:*', "channel LIKE 'user:%'"],
  ['&channel=*&event=status', "event = 'status'"],
  ['&channel=user:1&event=message', "channel = 'user:1' AND event = 'message'"],
  ['&id=40', 'id = 40'],
  ['&channel=nobody', 'false'],
  ["&event=it's%20%22%3C", 'false'],
];

test('pages of the log are the table, whatever the filter and however long a page is', async (t) => {
  const relay = await startConsole(t);
  await fill(relay);
  await untilHead(relay);
  const { rows } = await relay.database.query<{ at: string }>(
    'SELECT created_at::text AS at FROM outbox WHERE id = 150',
  );
  const at = rows[0]?.at ?? '';
  const times = [
    [`&since=${encodeURIComponent(at)}`, `created_at >= date_trunc('milliseconds', '${at}'::timestamptz)`],
    [
      `&until=${encodeURIComponent(at)}&channel=orders`,
      `created_at <= date_trunc('milliseconds', '${at}'::timestamptz) AND channel = 'orders'`,
    ],
  ] as const;
  for (const [query, condition] of [...FILTERS, ...times]) {
    const expected = await truth(relay, condition);
    for (const limit of [1, 7, 100]) {
      if (limit === 1 && expected.length > 60) continue;
      const down: string[] = [];
      let page = await relay.api<Page>(`log?limit=${limit}${query}`);
      for (down.push(...idsOf(page)); page.before !== null; down.push(...idsOf(page))) {
        page = await relay.api<Page>(`log?limit=${limit}${query}&before=${page.before}`);
        t.true(page.events.length <= limit);
      }
      t.deepEqual(down, expected, `${query} ${limit} older`);
      const up: string[] = [];
      for (let after = '0', more = true; more;) {
        const next = await relay.api<Page>(`log?limit=${limit}${query}&after=${after}`);
        up.unshift(...idsOf(next));
        more = next.after !== after && next.events.length === limit;
        ({ after } = next);
      }
      t.deepEqual(up, expected, `${query} ${limit} newer`);
    }
  }
});

test('whoever follows the log gets each event once, in order, and none that is not placed for good', async (t) => {
  const relay = await startConsole(t);
  const first = await relay.api<Page>('log');
  t.deepEqual(first.events, []);
  const seen: string[] = [];
  let { after } = first;
  for (let round = 0; round < 20; round += 1) {
    await Promise.all(
      Array.from({ length: 5 }, (_, n) =>
        relay.database.query(`INSERT INTO outbox (channel, data) VALUES ('c${n}', '${round}')`),
      ),
    );
    const page = await relay.api<Page>(`log?limit=3&after=${after}`);
    seen.push(...idsOf(page).reverse());
    ({ after } = page);
  }
  await untilHead(relay);
  for (let more = true; more;) {
    const page = await relay.api<Page>(`log?limit=100&after=${after}`);
    seen.push(...idsOf(page).reverse());
    more = page.events.length > 0;
    ({ after } = page);
  }
  t.deepEqual(seen.reverse(), await truth(relay, 'true'));
  t.is(seen.length, 100);
});

test('data is shown as it is, hostile or large, and with its size', async (t) => {
  const relay = await startConsole(t);
  const hostile = '<script>alert(1)</script>\u202e\u0001 "\n';
  await relay.database.query(
    'INSERT INTO outbox (channel, data) VALUES ($1, $2::jsonb), ($1, NULL), ($1, to_jsonb(repeat($3, 1000000)))',
    ['c', JSON.stringify({ hostile }), 'x'],
  );
  await untilHead(relay);
  const { events } = await relay.api<Page>('log');
  t.deepEqual(JSON.parse(events[2]?.data ?? ''), { hostile });
  t.like(events[1], { data: 'null', bytes: 4 });
  t.like(events[0], { bytes: 1_000_000, truncated: true, data: `"${'x'.repeat(4095)}` });
  const life = await relay.api<Record<string, unknown>>(`events/${events[0]?.id ?? ''}`);
  t.like(life, {
    channel: 'c',
    event: 'message',
    bytes: 1_000_000,
    truncated: true,
    delivered: { open: 0, passed: 0, behind: 0 },
  });
  t.is((life['data'] as string).length, 256 * 1024);
});

test('an event that is not there is told of with what may have become of it', async (t) => {
  const relay = await startConsole(t);
  const cookie = await relay.signIn();
  const answer = await relay.get('/console/api/events/42', { cookie });
  t.is(answer.status, 404);
  t.like(JSON.parse(answer.body), { error: 'unknown_event' });
  t.regex(answer.body, /no event was ever given this id|No event was ever given this id/);
  for (const bad of ['x', '99999999999999999999', '-1']) {
    t.is((await relay.get(`/console/api/events/${bad}`, { cookie })).status, 400, bad);
  }
});

test('while the table is locked the log says so within seconds, and nothing of the relay waits', async (t) => {
  const relay = await startConsole(t);
  const cookie = await relay.signIn();
  await relay.database.query("INSERT INTO outbox (channel, data) VALUES ('c', '1')");
  await untilHead(relay);
  await relay.database.withTablesLocked(async () => {
    const answers = await Promise.all(Array.from({ length: 12 }, () => relay.get('/console/api/log', { cookie })));
    t.deepEqual([...new Set(answers.map(({ status }) => status))], [503]);
    t.true(answers.some(({ body }) => body.includes('database_away')));
    t.true(answers.some(({ body }) => body.includes('console_busy')));
    t.is((await relay.get('/healthz')).status, 200);
    t.false(
      relay.log.some((line) => /"level":50/.test(line)),
      relay.log.join(''),
    );
  });
  t.is((await relay.get('/console/api/log', { cookie })).status, 200);
});

/** Until the relay has read all that is committed. */
async function untilHead(relay: TestConsole): Promise<void> {
  const { rows } = await relay.database.query<{ id: string }>('SELECT id FROM outbox ORDER BY position DESC LIMIT 1');
  const newest = rows[0]?.id;
  const answer = await relay.get(`/history?channel=*&wait=0&after=now`);
  if (newest === undefined || (JSON.parse(answer.body) as { cursor: string }).cursor === newest) return;
  await new Promise((done) => setTimeout(done, 20));
  await untilHead(relay);
}
