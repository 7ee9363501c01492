import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { channelFilter } from '../../src/event/channel-filter.js';
import { createPostgresArchive } from '../../src/outbox/postgres-archive.js';
import { createPostgresReader } from '../../src/outbox/postgres-feed.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { observe } from '../support/plan.js';
import { startTestRelay, type Environment } from '../support/relay.js';
import { openStream, type TestStream } from '../support/stream.js';

const MEBIBYTE = 1024 * 1024;
/** What a page may exceed its size by: its last event. */
const LARGEST_FRAME = 1024;
const SMALLEST_PAGE = 8 * 1024;
/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;

/** One statement, so that positions follow ids and the data counts them. */
const fill = (database: TestDatabase, channel: string, rows: number, bytes: number) =>
  database.query(
    `INSERT INTO outbox (channel, data)
     SELECT $1, to_jsonb(n || repeat('x', $3)) FROM generate_series(1, $2) AS n`,
    [channel, rows, bytes],
  );

const numbersOf = (stream: TestStream) => stream.events.map(({ data }) => Number.parseInt(data ?? '', 10));

async function setUp(t: ExecutionContext, { rows, bytes, env }: { rows: number; bytes: number; env: Environment }) {
  const database = await createDatabase(t);
  await fill(database, 'long', rows, bytes);
  const relay = await startTestRelay(t, database.url, { WINDOW_MEGABYTES: '1', ...env });
  const replay = () => openStream(t, `${relay.url}/events?channel=long&last_event_id=earliest`);

  /** Waits until so many clients have been given all that they take, and nothing moves any more, however slow the machine. */
  async function stalled(clients = 1): Promise<number> {
    let [before, now] = [-1, relay.waitingBytes];
    const isStill = () => before === now && now > 0 && relay.byState().stalled === clients;
    for (let still = 0; still < 10; still = isStill() ? still + 1 : 0) {
      await delay(POLL_MS);
      [before, now] = [now, relay.waitingBytes];
    }
    return now;
  }

  return { database, relay, replay, stalled };
}

test.serial(
  'R5: a client that stops reading amid a replay of 100,000 events costs one page, delays nobody, and reads on exactly',
  async (t) => {
    const rows = 100_000;
    const { database, relay, replay, stalled } = await setUp(t, { rows, bytes: 200, env: { REPLAY_MEGABYTES: '1' } });
    const slow = await replay();
    await slow.untilEvents(1);
    slow.pause();
    const held = await stalled();
    t.true(held <= MEBIBYTE / 16 + LARGEST_FRAME, `${held} bytes wait on one socket`);
    const had = slow.events.length;
    t.true(had < rows / 2, 'it was stalled too late to be a test');

    const other = await openStream(t, `${relay.url}/events?channel=live`);
    await other.until((frame) => frame.event === 'stream-open');
    await database.query(`INSERT INTO outbox (channel, data) VALUES ('live', '"now"'), ('long', '"${rows + 1}"')`);
    await other.untilEvents(1);
    t.is(slow.events.length, had);

    slow.resume();
    await slow.untilEvents(rows + 1);
    t.true(numbersOf(slow).every((number, index) => number === index + 1));
    t.is(slow.events.length, rows + 1);
    t.is(relay.waitingBytes, 0);
  },
);

test.serial(
  'R5: 200 clients that read nothing are held to the budget, on no more connections than allowed',
  async (t) => {
    const crowd = 200;
    const rows = 20_000;
    const env = { REPLAY_MEGABYTES: '2', HISTORY_CONNECTIONS: '2', WINDOW_MEGABYTES: '0' };
    const { database, relay, replay, stalled } = await setUp(t, { rows, bytes: 900, env });
    let mostConnections = 0;
    const over = new AbortController();
    const watched = (async () => {
      for (; !over.signal.aborted; await delay(POLL_MS)) {
        const { rows: found } = await database.query<{ count: number }>(
          `SELECT count(*)::integer AS count FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'outbox-relay history'`,
        );
        mostConnections = Math.max(mostConnections, found[0]?.count ?? 0);
      }
    })();
    t.teardown(() => {
      over.abort();
      return watched;
    });

    const streams: TestStream[] = [];
    for (let opened = 0; opened < crowd; opened += 1) {
      const stream = await replay();
      stream.pause();
      streams.push(stream);
    }
    const held = await stalled(crowd);
    t.true(held > crowd * 100, 'they are not stalled');
    t.true(held <= 2 * MEBIBYTE + crowd * (SMALLEST_PAGE + LARGEST_FRAME), `${held} bytes wait on sockets`);
    const { arrayBuffers } = process.memoryUsage();
    t.true(arrayBuffers < 200 * MEBIBYTE, `${arrayBuffers} bytes of buffers`);

    const [first, ...others] = streams;
    for (const stream of others) stream.close();
    first?.resume();
    await first?.untilEvents(rows);
    t.true(first && numbersOf(first).every((number, index) => number === index + 1));
    over.abort();
    await watched;
    t.true(mostConnections >= 1 && mostConnections <= 2, `${mostConnections} connections for history`);
    while (relay.waitingBytes > 0) await delay(POLL_MS);
    t.is(relay.streams, 1);
  },
);

test.serial(`a replay's reads are proportional to what it missed`, async (t) => {
  const database = await createDatabase(t);
  await fill(database, 'other', 60_000, 20);
  await fill(database, 'rare', 100, 20);
  await fill(database, 'other', 40_000, 20);
  await database.query('VACUUM (ANALYZE) outbox');

  const { db, queries, explain } = observe(t, database);
  const archive = createPostgresArchive(db);
  const head = await createPostgresReader(db).head();
  queries.length = 0;
  const page = await archive.page(channelFilter(['rare', 'none']), 0n, head.position, 64 * 1024);
  t.is(page.events.length, 100);
  t.is(page.position, head.position);

  const nodes = (await Promise.all([...queries].map((query) => explain(query)))).flat();
  t.deepEqual(
    nodes.filter((node) => node['Index Name']?.startsWith('outbox_')).map((node) => node['Index Name']),
    ['outbox_channel_position'],
  );
  const most = Math.max(...nodes.map((node) => node['Actual Rows'] * node['Actual Loops']));
  t.true(most <= 200, `${most} rows were looked at for 100`);
});

test.serial('R5: a page of events that the table keeps compressed is no larger than any other', async (t) => {
  const bytes = 64 * 1024;
  const frame = 20_000;
  const database = await createDatabase(t);
  await database.query(
    "INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(n || repeat('x', $1)) FROM generate_series(1, 300) AS n",
    [frame],
  );
  const { db } = observe(t, database);
  const archive = createPostgresArchive(db);
  const head = await createPostgresReader(db).head();
  for (const filter of [channelFilter(['a']), channelFilter(['*'])]) {
    const ids: string[] = [];
    for (let position = 0n; position < head.position;) {
      const page = await archive.page(filter, position, head.position, bytes);
      const size = page.events.frames.length;
      t.true(size < bytes + frame + 100, `${size} bytes`);
      t.true(page.position > position);
      position = page.position;
      ids.push(...(page.events.frames.toString().match(/(?<=^id: )\d+$/gm) ?? []));
    }
    t.deepEqual(
      ids,
      Array.from({ length: 300 }, (_, n) => String(n + 1)),
    );
  }
});

test.serial('R4: a replay that retention overtakes is reset and goes live, and never skips in silence', async (t) => {
  const rows = 100_000;
  const { database, replay, stalled } = await setUp(t, { rows, bytes: 200, env: { REPLAY_MEGABYTES: '1' } });
  const slow = await replay();
  await slow.untilEvents(1);
  slow.pause();
  await stalled();
  await database.query('DELETE FROM outbox WHERE position < (SELECT max(position) - 10 FROM outbox)');
  slow.resume();
  const reset = await slow.until((frame) => frame.event === 'stream-reset');
  const had = slow.events.length;
  t.true(had < rows, 'it was stalled too late to be a test');
  t.true(numbersOf(slow).every((number, index) => number === index + 1));
  t.deepEqual(JSON.parse(reset.data ?? ''), { reason: 'expired', lastEventId: slow.events.at(-1)?.id });
  await database.query("INSERT INTO outbox (channel, data) VALUES ('long', '\"live\"')");
  await slow.until((frame) => frame.data === 'live');
  t.is(slow.events.length, had + 1);
});
