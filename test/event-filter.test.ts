/**
 * event=: events of some names alone, on streams and in pages of history: the same events in the same order, cursors that move past
 * the others, and reads whose work is bounded where little matches.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { channelFilter } from '../src/event/channel-filter.js';
import { eventFilter } from '../src/event/event-filter.js';
import { createPostgresArchive } from '../src/outbox/postgres-archive.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { observe, rowsLookedAt } from './support/plan.js';
import { randomOf } from './support/random.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { request, type ErrorBody } from './support/request.js';
import { isHeartbeat, openStream, type TestStream } from './support/stream.js';

interface Page {
  readonly events: readonly { readonly id: string; readonly event: string }[];
  readonly cursor: string;
  readonly more: boolean;
}

const POLL_MS = 20;

async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, env);
  const publish = async (event: string, channel = 'a') => {
    const { rows } = await database.query<{ id: string }>(
      "INSERT INTO outbox (channel, event, data) VALUES ($1, $2, '1') RETURNING id",
      [channel, event],
    );
    return rows[0]?.id ?? '';
  };
  const open = async (query: string) => {
    const stream = await openStream(t, `${relay.url}/events?${query}`);
    await stream.until(({ event }) => event === 'stream-open');
    return stream;
  };
  const page = async (query: string) => {
    const { body } = await request(relay.url, `/history?${query}`);
    return JSON.parse(body) as Page;
  };
  return { database, relay, publish, open, page };
}

const idsOf = ({ events }: Pick<TestStream, 'events'> | Page) => events.map(({ id }) => id);

test('a stream has events of the names that are asked for, live and replayed, and all control events', async (t) => {
  const { database, publish, open } = await setUp(t, { HEARTBEAT_SECONDS: '0.3' });
  const onTable = await startTestRelay(t, database.url, { WINDOW_MEGABYTES: '0' });
  const query = 'channel=a&channel=b:*&event=message&event=two%20words';
  const live = await open(query);
  const wanted = [await publish('message'), await publish('two words', 'b:1')];
  for (const other of ['two', 'Message', 'words', 'two words ']) await publish(other, 'b:1');
  wanted.push(await publish('two words'));
  const replayed = await open(`${query}&last_event_id=earliest`);
  const fromTable = await openStream(t, `${onTable.url}/events?${query}&last_event_id=earliest`);
  for (const stream of [live, replayed, fromTable]) {
    await stream.untilEvents(wanted.length);
    t.deepEqual(idsOf(stream), wanted);
    t.deepEqual(
      stream.events.map(({ event = 'message' }) => event),
      ['message', 'two words', 'two words'],
    );
  }
  await live.until(isHeartbeat);
});

test('R3: the cursor of an idle client moves past events of other names, and it resumes there exactly', async (t) => {
  const { publish, open } = await setUp(t, { HEARTBEAT_SECONDS: '0.3' });
  const stream = await open('channel=a&event=x');
  const other = await publish('y');
  await stream.until((frame) => isHeartbeat(frame) && frame.id === other);
  stream.close();
  const next = await publish('x');
  const resumed = await open(`channel=a&event=x&last_event_id=${other}`);
  t.deepEqual(idsOf({ events: await resumed.untilEvents(1) }), [next]);
});

test('pages have events of the names that are asked for, their cursors pass the others, and these wake nobody', async (t) => {
  const { publish, page, relay } = await setUp(t);
  const first = await publish('x');
  const other = await publish('y');
  t.deepEqual(await page('channel=a&event=x'), { ...(await page('channel=a&event=x')), cursor: other, more: false });
  t.deepEqual(idsOf(await page('channel=a&event=x')), [first]);
  t.deepEqual(await page('channel=a&event=none'), { events: [], cursor: other, more: false });
  const waiting = page('channel=a&event=x&after=now&wait=60');
  const parked = () => relay.registry.getSingleMetric('outbox_relay_polls_waiting')?.get();
  while (!(await parked())?.values[0]?.value) await delay(POLL_MS);
  await publish('y');
  const next = await publish('x');
  t.deepEqual(idsOf(await waiting), [next]);
});

test('names that none can be, and too many of them, are refused with what to do', async (t) => {
  const { relay } = await setUp(t);
  const many = Array.from({ length: 101 }, (_, n) => `event=${n}`).join('&');
  for (const [query, error] of [
    ['event=', 'bad_event'],
    ['event=a%0Ab', 'bad_event'],
    [`event=${'x'.repeat(256)}`, 'bad_event'],
    [many, 'too_many_events'],
  ] as const) {
    for (const path of ['/events/a', '/history/a']) {
      const answer = await request(relay.url, `${path}?${query}`);
      t.is(answer.status, 400);
      const body = JSON.parse(answer.body) as ErrorBody;
      t.is(body.error, error);
      t.true(body.message.length > 20);
    }
  }
});

test('streams and polls with names bring what the table has of these, while several publish', async (t) => {
  const { database, relay, open, page } = await setUp(t, { WINDOW_MEGABYTES: '0.01' });
  const channels = 'channel=a&channel=u:*';
  const streams = await Promise.all(
    ['x', 'x&event=y', 'none&event=message'].map(async (events) => {
      const query = `${channels}&event=${events}`;
      return { query, names: events.split('&event='), stream: await open(query), early: open(query) };
    }),
  );
  await Promise.all(Array.from({ length: 4 }, (_, n) => publishMany(database, n)));
  for (const { query, names, stream, early } of streams) {
    const { rows } = await database.query<{ id: string }>(
      "SELECT id FROM outbox WHERE (channel = 'a' OR starts_with(channel, 'u:')) AND event = ANY ($1) ORDER BY position",
      [names],
    );
    const expected = rows.map(({ id }) => id);
    t.true(expected.length > 10);
    const late = await open(`${query}&last_event_id=earliest&format=envelope`);
    for (const one of [stream, await early, late]) {
      await one.untilEvents(expected.length);
      t.deepEqual(idsOf(one), expected);
    }
    const polled: string[] = [];
    for (let after = 'earliest', isOver = false; !isOver;) {
      const { events, cursor, more } = await page(`${query}&limit=7&after=${after}`);
      polled.push(...events.map(({ id }) => id));
      after = cursor;
      isOver = !more;
    }
    t.deepEqual(polled, expected);
  }
  t.true(relay.log.size.bytes <= 0.01 * 1024 * 1024);
});

async function publishMany(database: TestDatabase, publisher: number): Promise<void> {
  const random = randomOf(publisher, 'publisher');
  await database.withClient(async (client) => {
    for (let n = 0; n < 60; n += 1) {
      await client.query("INSERT INTO outbox (channel, event, data) VALUES ($1, $2, '1')", [
        random.pick(['a', 'u:1', 'u:2', 'other']),
        random.pick(['message', 'x', 'y', 'z']),
      ]);
    }
  });
}

test.serial('R5: a read for a name that is rare looks at a bounded number of rows, and moves on', async (t) => {
  const database = await createDatabase(t);
  const rows = 100_000;
  await database.withClient(async (client) => {
    await client.query('SET session_replication_role = replica');
    await client.query(
      `INSERT INTO outbox (channel, event, data, position)
       SELECT CASE WHEN n % 2 = 0 THEN 'dense' ELSE 'c:' || n % 20 END, CASE WHEN n % 25000 IN (0, 1) THEN 'rare' ELSE 'usual' END, '1', n
       FROM generate_series(1, $1) AS n`,
      [rows],
    );
  });
  await database.query('VACUUM ANALYZE outbox');
  const { db, queries, explain } = observe(t, database);
  const archive = createPostgresArchive(db);
  const tens = Array.from({ length: 20 }, (_, n) => `c:${n}`);
  for (const channels of [['dense'], ['dense', 'c:1'], ['dense', ...tens], ['c:*'], ['*'], ['none']]) {
    const filter = eventFilter(channelFilter(channels), ['rare', 'no such']);
    const { rows: expected } = await database.query<{ id: string }>(
      `SELECT id FROM outbox WHERE event = 'rare' AND (channel = ANY ($1) OR $1 = '{*}' OR $1 = '{c:*}' AND channel LIKE 'c:%')
       ORDER BY position`,
      [channels],
    );
    const ids: string[] = [];
    let pages = 0;
    for (let position = 0n; position < BigInt(rows); pages += 1) {
      queries.length = 0;
      const page = await archive.page(filter, position, BigInt(rows), 512 * 1024);
      ids.push(...(page.events.frames.toString().match(/(?<=^id: )\d+$/gm) ?? []));
      t.true(page.position > position, 'it moves on');
      position = page.position;
      if (pages > 2) continue;
      for (const query of [...queries]) {
        for (const mode of ['force_custom_plan', 'force_generic_plan'] as const) {
          const looked = rowsLookedAt(await explain(query, mode));
          t.true(looked <= 21_000, `${channels.join(' ')}: ${looked} rows with ${mode}`);
        }
      }
    }
    t.deepEqual(
      ids,
      expected.map(({ id }) => id),
      channels.join(' '),
    );
    t.true(pages <= 12, `${channels.join(' ')}: ${pages} pages`);
  }
});
