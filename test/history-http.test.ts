/**
 * GET /history: what it answers, and that page by page it is the list of events that a stream brings.
 */
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createDatabase, type TestDatabase } from './support/database.js';
import { hangInCommit } from './support/hanging-commit.js';
import { startProxy } from './support/proxy.js';
import { randomOf } from './support/random.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, request, type ErrorBody } from './support/request.js';
import { openStream } from './support/stream.js';
import { inSeconds, SECRET, tokenFor } from './support/token.js';

interface Envelope {
  readonly id: string;
  readonly channel: string;
  readonly event: string;
  readonly data: unknown;
  readonly created_at: string;
}

interface Page {
  readonly events: readonly Envelope[];
  readonly cursor: string;
  readonly more: boolean;
  readonly reset?: { readonly reason: string; readonly lastEventId: string };
}

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;
/** Longer than a client may take nothing of an answer, where that is a second. */
const LONGER_THAN_A_STALL_MS = 1500;

async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, env);
  const publish = async (channel: string, ...data: unknown[]) => {
    const { rows } = await database.query<{ id: string }>(
      'INSERT INTO outbox (channel, data) SELECT $1, value FROM jsonb_array_elements($2::jsonb) RETURNING id',
      [channel, JSON.stringify(data)],
    );
    return rows.map(({ id }) => id);
  };
  const get = (query: string, headers: Record<string, string> = {}) =>
    request(relay.url, `/history${query}`, { headers });
  const page = async (query: string) => {
    const answer = await get(query);
    t.is(answer.status, 200, answer.body);
    return JSON.parse(answer.body) as Page;
  };
  /** How many requests wait for events. */
  const waiting = async () =>
    (await relay.registry.getSingleMetric('outbox_relay_polls_waiting')?.get())?.values[0]?.value;
  const parked = async () => {
    while (!(await waiting())) await delay(POLL_MS);
  };
  return { database, relay, publish, get, page, waiting, parked };
}

const dataOf = ({ events }: Page) => events.map(({ data }) => data);

/** All pages from a cursor on, until nothing is there any more. */
async function readAll(page: (query: string) => Promise<Page>, query: string, after = ''): Promise<Envelope[]> {
  const all: Envelope[] = [];
  for (let at = after; ;) {
    const { events, cursor, more } = await page(`${query}&after=${encodeURIComponent(at)}`);
    all.push(...events);
    if (events.length === 0 && !more) return all;
    at = cursor;
  }
}

test('a page has each event with its channel, its name, its data as it was published, and its time', async (t) => {
  const { database, publish, page } = await setUp(t);
  const values = ['7', 7, null, 'two\nlines', { a: ['ü', '\u0001', '"'], b: false }, '</script>', 1e21];
  const ids = await publish('a', ...values);
  await database.query("INSERT INTO outbox (channel, event, data) VALUES ('b \"', 'na\"me', 'null')");
  await database.query("INSERT INTO outbox (channel) VALUES ('a')");

  const found = await page('?channel=a&channel=b%20%22');
  t.deepEqual(dataOf(found), [...values, null, null]);
  t.deepEqual(
    found.events.slice(0, ids.length).map(({ id }) => id),
    ids,
  );
  t.deepEqual([found.events[7]?.channel, found.events[7]?.event], ['b "', 'na"me']);
  const { rows } = await database.query<{ at: Date }>('SELECT created_at AS at FROM outbox ORDER BY position');
  t.deepEqual(
    found.events.map(({ created_at: at }) => new Date(at)),
    rows.map(({ at }) => at),
  );
  t.regex(found.events[0]?.created_at ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  t.deepEqual([found.more, found.reset], [false, undefined]);
});

test('pages follow one another by their cursors, with limit events at most, and the last moves the cursor to the head', async (t) => {
  const { publish, page } = await setUp(t);
  await publish('a', 1, 2, 3, 4, 5);
  const [last] = await publish('other', 0);
  const first = await page('/a?limit=2');
  t.deepEqual([dataOf(first), first.more, first.cursor], [[1, 2], true, first.events[1]?.id]);
  const second = await page(`/a?limit=2&after=${first.cursor}`);
  t.deepEqual([dataOf(second), second.more], [[3, 4], true]);
  const third = await page(`/a?limit=2&after=${second.cursor}`);
  t.deepEqual([dataOf(third), third.more, third.cursor], [[5], false, last]);
  t.deepEqual(await page(`/a?after=${third.cursor}`), { events: [], cursor: last ?? '', more: false });
});

test('after= takes every cursor that a stream takes: now, earliest, a time, and events to leave out', async (t) => {
  const { database, publish, page } = await setUp(t);
  const ids = await publish('a', 1, 2, 3, 4, 5);
  t.deepEqual(dataOf(await page(`/a?after=${ids[3]}&wait=60`)), [5], 'the relay has read them');
  t.deepEqual(await page('/a?after=now'), { events: [], cursor: ids[4] ?? '', more: false });
  t.deepEqual(dataOf(await page('/a?after=earliest')), [1, 2, 3, 4, 5]);
  t.deepEqual(dataOf(await page('/a?since=2000-01-01')), [1, 2, 3, 4, 5]);
  t.deepEqual(dataOf(await page(`/a?since=${Date.now() + 1000}`)), []);

  const excluded = `${ids[0]}!${ids[2]},${ids[3]}`;
  const first = await page(`/a?limit=1&after=${excluded}`);
  t.deepEqual([dataOf(first), first.cursor], [[2], `${ids[1]}!${ids[2]},${ids[3]}`]);
  t.deepEqual(dataOf(await page(`/a?limit=1&after=${first.cursor}`)), [5]);
  t.deepEqual(await readAll(page, '?channel=a', excluded).then((all) => all.map(({ data }) => data)), [2, 5]);
  await database.query("DELETE FROM outbox WHERE data = '1'");
});

test('wait= answers as soon as an event is committed, and not before', async (t) => {
  const { database, page, parked, publish } = await setUp(t);
  const [id] = await publish('a', 1);
  const waiting = page(`/a?after=${id}&wait=60`);
  await parked();
  await publish('other', 2);
  await database.withClient(async (client) => {
    await client.query('BEGIN');
    await client.query("INSERT INTO outbox (channel, data) VALUES ('a', '3')");
    await client.query('ROLLBACK');
  });
  const [next] = await publish('a', 4);
  const answer = await waiting;
  t.deepEqual([dataOf(answer), answer.cursor], [[4], next]);
});

test('wait= that is over answers nothing, with a cursor past the events of others', async (t) => {
  const { page, parked, publish } = await setUp(t);
  const [id] = await publish('a', 1);
  const waiting = page(`/a?after=${id}&wait=1`);
  await parked();
  const [other] = await publish('other', 2);
  t.deepEqual(await waiting, { events: [], cursor: other ?? '', more: false });
});

test('a cursor from a relay that is ahead is waited for, and kept where the time is over first', async (t) => {
  const { database, page, publish, parked } = await setUp(t);
  await publish('a', 1);
  const hanging = await hangInCommit(t, database, ['a']);
  const [ahead] = await publish('a', 3);
  t.deepEqual(await page(`/a?after=${ahead}`), { events: [], cursor: ahead ?? '', more: false });
  const waiting = page(`/a?after=${ahead}&wait=60`);
  await parked();
  await hanging.succeed();
  await publish('a', 4);
  t.deepEqual(dataOf(await waiting), [4]);
});

test('a cursor that can not be honoured is answered with reset, and the cursor to go on from', async (t) => {
  const { database, page, publish } = await setUp(t);
  const ids = await publish('a', 1, 2, 3);
  const unknown = await page('/a?after=999');
  t.deepEqual(unknown, {
    events: [],
    cursor: ids[2] ?? '',
    more: false,
    reset: { reason: 'unknown', lastEventId: '999' },
  });
  t.is((await page('/a?after=rubbish')).reset?.reason, 'unknown');
  await database.query('DELETE FROM outbox WHERE id <= $1', [ids[1]]);
  const expired = await page(`/a?after=${ids[0]}`);
  t.deepEqual([expired.reset, expired.cursor], [{ reason: 'expired', lastEventId: ids[0] ?? '' }, ids[2]]);
  t.deepEqual(dataOf(await page('/a?after=earliest')), [3]);
});

test('who waits while the table is replaced by another is reset', async (t) => {
  const { database, relay, page, publish, parked } = await setUp(t);
  const [first] = await publish('a', 1);
  const [id] = await publish('a', 2);
  const waiting = page(`/a?after=${id}&wait=60`);
  await parked();
  relay.log.restart({ id: first ?? '', position: 1n }, 'unknown');
  const answer = await waiting;
  t.deepEqual(answer.reset, { reason: 'unknown', lastEventId: id ?? '' });
  await database.query('SELECT 1');
});

test('rights are those of a stream, and a right that ends while its client waits ends the wait', async (t) => {
  const { publish, get, parked } = await setUp(t, { PUBLIC_CHANNELS: 'open', JWT_SECRET: SECRET });
  await publish('a', 1);
  const refused = await get('/a');
  t.is(refused.status, 401);
  t.is((JSON.parse(refused.body) as ErrorBody).error, 'unauthorized');
  t.is((await get('?channel=open&channel=a')).status, 401);
  t.is((await get('/open')).status, 200);
  const bearer = async (channels: string[], seconds = 60) => ({
    Authorization: `Bearer ${await tokenFor(channels, { exp: inSeconds(seconds) })}`,
  });
  t.is((await get('/a', await bearer(['b']))).status, 403);
  t.deepEqual(JSON.parse((await get('/a', await bearer(['a']))).body), {
    ...(JSON.parse((await get('/a', await bearer(['*']))).body) as Page),
  });
  const began = performance.now();
  const waiting = get('/a?after=now&wait=60', await bearer(['a'], 2));
  await parked();
  t.deepEqual(dataOf(JSON.parse((await waiting).body) as Page), []);
  t.true(performance.now() - began < 30_000);
});

test('an answer has an ETag, is not sent again while it is the same, and is another after a redaction', async (t) => {
  const { database, publish, get } = await setUp(t);
  const [id] = await publish('a', { secret: 1 });
  const first = await get('/a');
  const etag = first.headers.etag ?? '';
  t.is(first.headers['cache-control'], 'private, no-cache');
  t.regex(first.headers.vary ?? '', /Authorization, Cookie/);
  const same = await get('/a', { 'If-None-Match': etag });
  t.deepEqual([same.status, same.body], [304, '']);
  await database.query("UPDATE outbox SET data = '{}' WHERE id = $1", [id]);
  const redacted = await get('/a', { 'If-None-Match': etag });
  t.deepEqual([redacted.status, dataOf(JSON.parse(redacted.body) as Page)], [200, [{}]]);
});

test('what is no request for a page is refused with what to do', async (t) => {
  const { relay, get } = await setUp(t);
  for (const [query, error] of [
    ['', 'no_channel'],
    ['/a*b', 'bad_channel'],
    ['/a?limit=0', 'bad_limit'],
    ['/a?limit=1001', 'bad_limit'],
    ['/a?limit=ten', 'bad_limit'],
    ['/a?wait=61', 'bad_wait'],
    ['/a?wait=-1', 'bad_wait'],
    ['/a?wait=1.5', 'bad_wait'],
    ['/a?since=soon', 'bad_since'],
  ] as const) {
    const answer = await get(query);
    t.is(answer.status, 400, query);
    const body = JSON.parse(answer.body) as ErrorBody;
    t.is(body.error, error, query);
    t.true(body.message.length > 20, query);
  }
  const posted = await request(relay.url, '/history/a', { method: 'POST' });
  t.deepEqual([posted.status, posted.headers.allow], [405, 'GET, HEAD, OPTIONS']);
  const headOnly = await request(relay.url, '/history/a', { method: 'HEAD' });
  t.deepEqual([headOnly.status, headOnly.body], [200, '']);
});

test('an event that is far larger than a page comes alone, whatever its JSON makes of it', async (t) => {
  const { database, page } = await setUp(t, { REPLAY_MEGABYTES: '1' });
  await database.query(`INSERT INTO outbox (channel, data) VALUES
    ('a', '1'), ('a', to_jsonb(repeat(E'\\u0001', 3000000))), ('a', '3')`);
  const sizes = (await readAll(page, '?channel=a')).map(({ data }) => (typeof data === 'string' ? data.length : data));
  t.deepEqual(sizes, [1, 3_000_000, 3]);
});

test('while the database is away it is 503, and later the same cursor goes on', async (t) => {
  const database = await createDatabase(t);
  const proxy = await startProxy(t, database.url);
  const relay = await startTestRelay(t, proxy.url);
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '1')");
  const get = (query: string) => request(relay.url, `/history/a${query}`);
  t.is((await get('')).status, 200);
  proxy.refuse();
  const away = await get('');
  t.is(away.status, 503);
  t.is((JSON.parse(away.body) as ErrorBody).error, 'database_unavailable');
  t.truthy(away.headers['retry-after']);
  proxy.heal();
  let answer = await get('');
  for (; answer.status === 503; answer = await get('')) await delay(POLL_MS);
  t.deepEqual(dataOf(JSON.parse(answer.body) as Page), [1]);
});

test('a relay that stops answers all who wait', async (t) => {
  const { relay, page, parked, publish } = await setUp(t);
  const [id] = await publish('a', 1);
  const waiting = page(`/a?after=${id}&wait=60`);
  await parked();
  await relay.stop();
  t.deepEqual(await waiting, { events: [], cursor: id ?? '', more: false });
});

test('a client that leaves while it waits leaves nothing behind', async (t) => {
  const { relay, parked, waiting, publish, page } = await setUp(t, { MAX_CONNECTIONS: '1' });
  const [id] = await publish('a', 1);
  const leaving = openRaw(t, relay.url, `GET /history/a?after=${id}&wait=60 HTTP/1.1\r\nHost: relay\r\n\r\n`);
  await parked();
  t.is((await request(relay.url, '/history/a')).status, 503, 'it counts as a connection');
  leaving.socket.destroy();
  while (await waiting()) await delay(POLL_MS);
  t.is((await page('/a')).events.length, 1);
});

test('answers of any kind on one connection each give their place back, and leave nothing on it', async (t) => {
  const { relay, publish } = await setUp(t, { MAX_CONNECTIONS: '1', STALL_SECONDS: '1' });
  await publish('a', 1);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const sockets = new Set<unknown>();
  const get = async (query: string, options: http.RequestOptions = {}) => {
    const sent = http.request(`${relay.url}/history${query}`, { agent, ...options });
    const answered = new Promise<http.IncomingMessage>((resolve, reject) =>
      sent.on('response', resolve).on('error', reject),
    );
    sent.end();
    const response = await answered;
    sockets.add(response.socket);
    response.resume();
    await new Promise((resolve) => response.once('end', resolve));
    return response;
  };
  const { etag = '' } = (await get('/a')).headers;
  const warnings: Error[] = [];
  const onWarning = (warning: Error) => warnings.push(warning);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  for (let round = 0; round < 6; round += 1) {
    t.is((await get('/a')).statusCode, 200);
    t.is((await get('/a', { method: 'HEAD' })).statusCode, 200);
    t.is((await get('/a', { headers: { 'If-None-Match': etag } })).statusCode, 304);
    t.is((await get('/a?since=soon')).statusCode, 400);
    // Its time to be taken is over, and not that of the connection.
    if (round === 0) await delay(LONGER_THAN_A_STALL_MS);
  }
  t.is(sockets.size, 1);
  t.deepEqual(warnings, []);
});

test('who takes nothing of an answer counts as a connection, and its memory counts, until it is dropped', async (t) => {
  const { relay, database, page } = await setUp(t, { MAX_CONNECTIONS: '1', STALL_SECONDS: '2' });
  await database.query(`INSERT INTO outbox (channel, data) VALUES ('a', to_jsonb(repeat('x', 15000000)))`);
  const stalled = openRaw(t, relay.url, 'GET /history/a HTTP/1.1\r\nHost: relay\r\n\r\n');
  stalled.socket.pause();
  while (relay.waitingBytes === 0) await delay(POLL_MS);
  t.true(relay.waitingBytes >= 15_000_000);
  t.is((await request(relay.url, '/history/a?after=now')).status, 503);
  while (relay.waitingBytes > 0) await delay(POLL_MS);
  t.deepEqual((await page('/a?after=now')).events, []);
});

test('MAX_CONNECTIONS_PER_SUBJECT counts who waits', async (t) => {
  const { get, parked, publish } = await setUp(t, { JWT_SECRET: SECRET, MAX_CONNECTIONS_PER_SUBJECT: '1' });
  const headers = { Authorization: `Bearer ${await tokenFor(['a'], { sub: '7', exp: inSeconds(60) })}` };
  const waiting = get('/a?after=now&wait=60', headers);
  await parked();
  t.is((await get('/a', headers)).status, 429);
  await publish('a', 1);
  t.is((await waiting).status, 200);
  t.is((await get('/a', headers)).status, 200);
});

test('created_at is in UTC, whatever the zone of the database', async (t) => {
  const { database, page, publish } = await setUp(t);
  await database.query(`DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Asia/Kathmandu');
  END $$`);
  await publish('a', 1);
  const [event] = (await page('/a')).events;
  t.true(Math.abs(Date.parse(event?.created_at ?? '') - Date.now()) < 600_000);
});

test('polls of any kind and a stream bring the same list, while many publish, roll back and redact', async (t) => {
  const { database, relay, page } = await setUp(t, { WINDOW_MEGABYTES: '0.01' });
  const random = randomOf(1, 'polls');
  const query = '?channel=a&channel=u:*';
  const stream = await openStream(t, `${relay.url}/events${query}`);
  await stream.until(({ event }) => event === 'stream-open');
  let isOver = false;

  async function poll(): Promise<string[]> {
    const ids: string[] = [];
    for (let after = 'earliest'; ;) {
      const wait = random.chance(1 / 3) ? 1 : 0;
      const { events, cursor, more, reset } = await page(
        `${query}&after=${after}&limit=${random.integer(1, 20)}&wait=${wait}`,
      );
      t.is(reset, undefined);
      ids.push(...events.map(({ id }) => id));
      after = cursor;
      if (isOver && events.length === 0 && !more) return ids;
    }
  }
  const polls = [poll(), poll(), poll()];
  await Promise.all(Array.from({ length: 6 }, (_, n) => publishMany(database, n)));
  const { rows } = await database.query<{ id: string }>(
    "SELECT id FROM outbox WHERE channel = 'a' OR channel LIKE 'u:%' ORDER BY position",
  );
  const expected = rows.map(({ id }) => id);
  await stream.untilEvents(expected.length);
  isOver = true;
  t.deepEqual(
    stream.events.map(({ id }) => id),
    expected,
  );
  for (const ids of await Promise.all(polls)) t.deepEqual(ids, expected);
});

async function publishMany(database: TestDatabase, publisher: number): Promise<void> {
  const random = randomOf(publisher, 'publisher');
  await database.withClient(async (client) => {
    for (let n = 0; n < 40; n += 1) {
      await client.query('BEGIN');
      for (let row = random.integer(0, 3); row >= 0; row -= 1) {
        const channel = random.pick(['a', 'u:1', 'u:2', 'other']);
        await client.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb(repeat($2, 50)))', [
          channel,
          String(n),
        ]);
      }
      await client.query(random.chance(0.2) ? 'ROLLBACK' : 'COMMIT');
    }
  });
}
