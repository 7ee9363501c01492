/**
 * format=envelope: each event of a stream is what a page of history has of it, live, from memory and from the table, to the
 * byte; and what it costs in memory is the window's.
 */
import { createHash } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { channelFilter } from '../src/event/channel-filter.js';
import { encodeEvent } from '../src/event/sse.js';
import type { LogEvent } from '../src/event/event.js';
import { createLog } from '../src/feed/log.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { randomOf } from './support/random.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, request } from './support/request.js';
import { openStream, type TestStream } from './support/stream.js';

const LARGE = 300_000;

async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, env);
  const open = async (query: string) => {
    const stream = await openStream(t, `${relay.url}/events?format=envelope&${query}`);
    await stream.until(({ event }) => event === 'stream-open');
    return stream;
  };
  /** The envelopes of all pages, as they came. */
  const history = async (query: string) => {
    const all: string[] = [];
    for (let after = 'earliest'; ;) {
      const { body } = await request(relay.url, `/history?limit=1000&${query}&after=${after}`);
      const lines = body.split('\n').slice(1, -2);
      const found = lines.map((line) => line.replace(/,$/, ''));
      if (found.length === 0) return all;
      all.push(...found);
      after = (JSON.parse(body) as { cursor: string }).cursor;
    }
  };
  return { database, relay, open, history };
}

/** Short, as some are large. */
const digests = (texts: readonly (string | undefined)[]) =>
  texts.map((text = '') => `${text.slice(0, 200)} ${createHash('sha256').update(text).digest('base64url')}`);
const envelopesOf = ({ events }: TestStream) => events.map(({ data }) => data);

/** Events of every kind that there is. Returns how many. */
async function publishAll(database: TestDatabase): Promise<number> {
  const values = [
    ...[7, '7', -0.5, 1e300, true, null, 'null', '', ' ', {}, [], [['']], { a: { b: 'ü\r\n"\\' } }],
    ...['one\ntwo', '\n', '\n\n', 'a\ndata: b\nid: 7\n\nevent: x', '\r', 'one\r\ntwo', 'one\rtwo\n', '\\r', '\\'],
    ...['\u0001\b\f\t\u001f\u007f\u0080\u2028\ufeff', '"quoted"', '</script>', '😀 日本', '{"id":"1"}'],
    ...['x'.repeat(LARGE), '\u0001"\n'.repeat(LARGE / 6), { text: 'y'.repeat(LARGE) }],
  ];
  await database.query("INSERT INTO outbox (channel, data) SELECT 'a', value FROM jsonb_array_elements($1::jsonb)", [
    JSON.stringify(values),
  ]);
  const names = [
    'name',
    'a "name"',
    'back\\slash',
    ' led by a space',
    'événement 😀',
    'event: x',
    ':',
    'x'.repeat(255),
  ];
  for (const name of names) {
    await database.query('INSERT INTO outbox (channel, event, data) VALUES ($1, $1, to_jsonb($1::text))', [name]);
  }
  const times = [
    ...['now', 'infinity', '-infinity', '0044-03-15 BC', '1969-12-31 23:59:59.999999Z', '1970-01-01Z', '12026-01-01Z'],
    ...['2026-11-29 06:00:00.000001+05:45', '2026-11-29 06:00:00.1Z', '2108-01-01 00:00:00.999999Z', '2300-01-01Z'],
  ];
  for (const time of times) {
    await database.query("INSERT INTO outbox (channel, data, created_at) VALUES ('a', NULL, $1)", [time]);
  }
  return values.length + names.length + times.length;
}

test('an envelope is the same to the byte, live, from memory, from the table, and in a page of history', async (t) => {
  const inMemory = await setUp(t);
  const { database } = inMemory;
  const onTable = await startTestRelay(t, database.url, { WINDOW_MEGABYTES: '0' });
  const live = await inMemory.open('channel=*');
  const count = await publishAll(database);
  await live.untilEvents(count);
  const fromMemory = await inMemory.open('channel=*&last_event_id=earliest');
  const fromTable = await openStream(t, `${onTable.url}/events?channel=*&last_event_id=earliest&format=envelope`);
  const expected = await inMemory.history('channel=*');
  t.is(expected.length, count);
  for (const stream of [live, fromMemory, fromTable]) {
    await stream.untilEvents(count);
    t.deepEqual(digests(envelopesOf(stream)), digests(expected));
    t.deepEqual(
      stream.events.map(({ id, event }) => [id, event]),
      expected.map((envelope) => [(JSON.parse(envelope) as { id: string }).id, undefined]),
    );
  }
  const { rows } = await database.query<{ channel: string; event: string; data: unknown }>(
    'SELECT channel, event, data FROM outbox ORDER BY position',
  );
  t.deepEqual(
    expected.map((envelope) => {
      const { channel, event, data } = JSON.parse(envelope) as (typeof rows)[0];
      return { channel, event, data };
    }),
    rows,
  );
});

test('an envelope comes in one chunk, with its id in a field of its own, and in HTTP/1.0 without a chunk', async (t) => {
  const { database, relay, open } = await setUp(t);
  const live = await open('channel=a');
  await database.query("INSERT INTO outbox (channel, event, data) VALUES ('a', 'x', '{\"b\": 1}')");
  const [event] = await live.untilEvents(1);
  const frame = `id: ${event?.id}\ndata: ${event?.data}\n\n`;
  t.regex(
    frame,
    /^id: (\d+)\ndata: \{"id":"\1","channel":"a","created_at":"[^"]+","event":"x","data":\{"b": 1\}\}\n\n$/,
  );
  for (const [version, expected] of [
    ['1.1', `${frame.length.toString(16)}\r\n${frame}\r\n`],
    ['1.0', `\n\n${frame}`],
  ] as const) {
    const path = '/events/a?format=envelope&last_event_id=earliest';
    const raw = openRaw(t, relay.url, `GET ${path} HTTP/${version}\r\nHost: relay\r\n\r\n`);
    await raw.until(expected);
    t.is(raw.text.split('{"id"').length, 2);
  }
});

test('R8: an envelope that was redacted is given to nobody who comes later, from memory or not', async (t) => {
  const { database, open } = await setUp(t);
  const live = await open('channel=a');
  await database.query(`INSERT INTO outbox (channel, data) VALUES ('a', '"secret"'), ('a', '"other"')`);
  await live.untilEvents(2);
  t.deepEqual((await (await open('channel=a&last_event_id=earliest')).untilEvents(2)).length, 2);
  await database.query(`UPDATE outbox SET data = '"gone"' WHERE data = '"secret"'`);
  const later = await open('channel=a&last_event_id=earliest');
  await later.untilEvents(2);
  t.deepEqual(
    envelopesOf(later).map((text) => (JSON.parse(text ?? '') as { data: string }).data),
    ['gone', 'other'],
  );
});

test('events to leave out are left out of envelopes, and stand behind their ids until they are passed', async (t) => {
  const { database, open } = await setUp(t);
  const { rows } = await database.query<{ id: string }>(
    "INSERT INTO outbox (channel, data) SELECT 'a', '1' FROM generate_series(1, 5) RETURNING id",
  );
  const [first, second, third, fourth, fifth] = rows.map(({ id }) => id);
  const stream = await open(`channel=a&last_event_id=${encodeURIComponent(`${first}!${third},${fourth}`)}`);
  await stream.untilEvents(2);
  t.deepEqual(
    stream.events.map(({ id, data }) => [id, (JSON.parse(data ?? '') as { id: string }).id]),
    [
      [`${second}!${third},${fourth}`, second],
      [fifth, fifth],
    ],
  );
});

test('a format that is none is refused with those that are', async (t) => {
  const { relay } = await setUp(t);
  const answer = await request(relay.url, '/events/a?format=xml');
  t.is(answer.status, 400);
  t.deepEqual(JSON.parse(answer.body), {
    error: 'bad_format',
    message: 'format=xml: give envelope, or data, which is the default.',
  });
});

test('streams of both formats bring the same events as history, while several publish text, JSON and large events', async (t) => {
  const { database, relay, history } = await setUp(t, { WINDOW_MEGABYTES: '0.05' });
  const query = 'channel=a&channel=u:*';
  const streams: TestStream[] = [];
  const open = async (from: string) =>
    streams.push(await openStream(t, `${relay.url}/events?${query}&format=envelope&last_event_id=${from}`));
  for (let n = 0; n < 3; n += 1) await open('earliest');
  const data = await openStream(t, `${relay.url}/events?${query}`);
  await data.until(({ event }) => event === 'stream-open');
  await Promise.all(Array.from({ length: 4 }, (_, n) => publishMany(database, n)));
  await open('earliest');
  const expected = await history(query);
  for (const stream of streams) {
    await stream.untilEvents(expected.length);
    t.deepEqual(digests(envelopesOf(stream)), digests(expected));
  }
  await data.untilEvents(expected.length);
  t.deepEqual(
    data.events.map(({ id, event = 'message' }) => [id, event]),
    expected.map((text) => {
      const { id, event } = JSON.parse(text) as { id: string; event: string };
      return [id, event];
    }),
  );
  t.true(relay.log.size.bytes <= 0.05 * 1024 * 1024 + 200_000, 'the newest event may be larger than the window');
});

async function publishMany(database: TestDatabase, publisher: number): Promise<void> {
  const random = randomOf(publisher, 'publisher');
  await database.withClient(async (client) => {
    for (let n = 0; n < 40; n += 1) {
      const size = random.pick([1, 50, 500, 5000, 150_000]);
      const text = random.pick(['x', 'a\n', 'b\r\n', '"']).repeat(size / 2);
      await client.query('INSERT INTO outbox (channel, event, data) VALUES ($1, $2, $3)', [
        random.pick(['a', 'u:1', 'u:2', 'other']),
        random.pick(['message', 'x']),
        JSON.stringify(random.chance(0.5) ? text : { text }),
      ]);
    }
  });
}

const filter = channelFilter(['a']);
const eventOf = (position: bigint, size: number): LogEvent => {
  const id = String(position);
  const frame = encodeEvent({ id, event: 'message', data: 'x'.repeat(size) });
  return { id, position, channel: 'a', frame, kind: 'text', createdAt: 1.7e12 };
};

test('R5: envelopes count as the window does, take a fourth of it at most, and are made once for all who read them', (t) => {
  const bytes = 100_000;
  const log = createLog({ id: '0', position: 0n }, { bytes });
  for (let n = 1n; n <= 200n; n += 1n) log.append([eventOf(n, 200)]);
  const before = log.size;
  const first = log.read(filter, log.floor, bytes, Infinity, 'envelope');
  t.true(first.events > 50);
  t.true(log.size.bytes <= bytes);
  t.true(log.size.events >= before.events * 0.7, 'most of the window stays');
  const { floor } = log;
  const newest = log.head.position - 5n;
  const [one, other] = [0, 0].map(() => log.read(filter, newest, bytes, 1, 'envelope').frames);
  t.is(one, other);
  t.is(log.floor, floor);
  log.append(Array.from({ length: 200 }, (_, n) => eventOf(log.head.position + BigInt(n) + 1n, 200)));
  t.true(log.size.bytes <= bytes);
  t.is(log.read(filter, log.floor, bytes).events, log.size.events);
});

test('readers of one format are given one buffer, and who wants what only the table has reads on from what it has passed', (t) => {
  const log = createLog({ id: '0', position: 0n }, { bytes: 100_000 });
  const got: Buffer[] = [];
  const readOn: string[] = [];
  const restarted = () => t.fail('it takes all, and nothing restarts');
  const park = (format: 'data' | 'envelope') => {
    const reader = {
      filter,
      format,
      sink: { write: (frames: Buffer) => got.push(frames) > 0 },
      full: restarted,
      readOn: ({ id }: { id: string }) => {
        readOn.push(id);
        log.unpark(reader);
      },
      restarted,
    };
    log.park(reader);
  };
  for (const format of ['envelope', 'data', 'envelope', 'data'] as const) park(format);
  log.append([eventOf(1n, 10), eventOf(2n, 10)]);
  t.is(got.length, 4);
  t.is(new Set(got).size, 2);
  log.append([eventOf(3n, 10), { ...eventOf(4n, 10), kind: 'other' }]);
  t.is(got.length, 6);
  t.deepEqual(readOn, ['2', '2']);
});
