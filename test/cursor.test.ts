import type { OutgoingHttpHeaders } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { requestedCursor } from '../src/stream/resume-point.js';
import { createDatabase } from './support/database.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw } from './support/request.js';
import { openStream } from './support/stream.js';

/** A relay, and events on channel `a` with the data `1`, `2` and so on; `ids` are theirs. */
async function setUp(t: ExecutionContext, { events = 5, env = {} }: { events?: number; env?: Environment } = {}) {
  const database = await createDatabase(t);
  const ids: string[] = [];
  let ends = 0;
  const publish = async (data: string, channel = 'a') => {
    const { rows } = await database.query<{ id: string }>(
      'INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text)) RETURNING id',
      [channel, data],
    );
    ids.push(rows[0]?.id ?? '');
  };
  for (let number = 1; number <= events; number += 1) await publish(String(number));
  const relay = await startTestRelay(t, database.url, env);

  async function open(query = '', headers: OutgoingHttpHeaders = {}) {
    const stream = await openStream(t, `${relay.url}/events?channel=a${query && `&${query}`}`, headers);
    const opened = await stream.until((frame) => frame.event === 'stream-open');
    const told = JSON.parse(opened.data ?? '') as { lastEventId: string; head: string };
    return { stream, opened, told };
  }

  /** Data of the events that a client gets, up to one that is published now, on a channel of its own. */
  async function eventsOf(query: string, headers: OutgoingHttpHeaders = {}): Promise<string[]> {
    const end = `end ${(ends += 1)}`;
    const { stream } = await open(`channel=${end}&${query}`, headers);
    await database.query('INSERT INTO outbox (channel, data) VALUES ($1, $2)', [end, `"${end}"`]);
    await stream.until((frame) => frame.data === end);
    stream.close();
    return stream.events.map(({ data }) => data ?? '').slice(0, -1);
  }

  return { database, relay, url: relay.url, publish, open, eventsOf, id: (number: number) => ids[number - 1] ?? '' };
}

test('the first frame is stream-open, with the cursor, the pause before a reconnect and the interval of heartbeats', async (t) => {
  const { open, id } = await setUp(t, { env: { RETRY_SECONDS: '1.5', HEARTBEAT_SECONDS: '20' } });
  const { stream, told } = await open(`last_event_id=${id(2)}`);
  t.like(stream.frames[0], { id: id(2), event: 'stream-open', retry: 1500 });
  t.deepEqual(told, { lastEventId: id(2), head: id(5), heartbeatSeconds: 20, retryMs: 1500 });
  await stream.untilEvents(3);
  t.is(stream.frames[1]?.id, id(3));
});

test('the header counts before the query, and in the query the last that is not empty', async (t) => {
  const { open, id } = await setUp(t);
  const startOf = async (query: string, headers: OutgoingHttpHeaders = {}) =>
    (await open(query, headers)).told.lastEventId;
  const header = { 'Last-Event-ID': id(1) };
  t.is(await startOf('', header), id(1));
  t.is(await startOf(`last_event_id=${id(2)}&Last-Event-ID=${id(3)}`, header), id(1));
  t.is(await startOf(`last_event_id=${id(2)}`, { 'Last-Event-ID': '' }), id(2));
  for (const name of ['last_event_id', 'lastEventId', 'lastEventID', 'Last-Event-ID']) {
    t.is(await startOf(`${name}=${id(2)}`), id(2), name);
    t.is(await startOf(`last_event_id=${id(1)}&lastEventId=${id(3)}&${name}=${id(2)}`), id(2), name);
    t.is(await startOf(`${name}=${id(2)}&last_event_id=&lastEventID=`), id(2), name);
  }
  t.is(
    await startOf(`Last-Event-ID=${id(4)}&last_event_id=${id(2)}`),
    id(2),
    'the order of the query, not of the names',
  );
  t.is(await startOf(`LAST_EVENT_ID=${id(2)}`), id(5), 'no such name: now');
});

test('R3: of several cursors that were joined to one the last counts, in the header and in the query', async (t) => {
  const { open, url, id } = await setUp(t);
  const startOf = async (query: string, headers: OutgoingHttpHeaders = {}) => {
    const { stream, told } = await open(query, headers);
    t.false(stream.frames.some(({ event }) => event === 'stream-reset'));
    return told.lastEventId;
  };
  const header = (value: string) => ({ 'Last-Event-ID': value });
  for (const joined of [
    `${id(1)}, ${id(2)}`,
    `${id(1)},${id(2)}`,
    `${id(1)} ,\t${id(3)},  ${id(2)}`,
    `${id(2)}, `,
    `, ${id(2)}`,
    `${id(1)}, ${id(2)}, , `,
    `99999, nobody-knows, ${id(2)}`,
    `now, earliest, ${id(2)}`,
  ]) {
    t.is(await startOf('', header(joined)), id(2), joined);
    t.is(await startOf(`last_event_id=${id(4)}&lastEventId=${encodeURIComponent(joined)}`), id(2), joined);
  }
  t.is(await startOf('', header(`${id(2)}, now`)), id(5));
  // Nothing but commas is no cursor.
  t.is(await startOf(`last_event_id=${id(4)}`, header(', ,,')), id(4));
  t.is(await startOf(`last_event_id=${id(4)}&lastEventId=%2C+`), id(4));
  // Two lines, as they come from a client and are joined by HTTP.
  const raw = openRaw(
    t,
    url,
    `GET /events/a HTTP/1.1\r\nHost: x\r\nLast-Event-ID: ${id(1)}\r\nlast-event-id: ${id(2)}\r\n\r\n`,
  );
  await raw.until('stream-open');
  await raw.until(`"lastEventId":"${id(2)}"`);
});

test('a cursor that names ids to leave out is one, with its commas', (t) => {
  const cursorOf = (text: string) => requestedCursor(text, new URLSearchParams());
  const exact = { kind: 'id', id: '41!43,44' } as const;
  for (const text of ['41!43,44', '85, 41!43,44', '85,41!43,44', '40!41,42, 41!43,44']) {
    t.deepEqual(cursorOf(text), exact, text);
  }
  t.deepEqual(cursorOf('41!43,44, 85'), { kind: 'id', id: '85' });
});

test('without a cursor, and at now, a stream starts at the head', async (t) => {
  const { open, eventsOf, id } = await setUp(t);
  for (const query of ['', 'last_event_id=now', 'last_event_id=', 'since=']) {
    const { told } = await open(query);
    t.like(told, { lastEventId: id(5), head: id(5) });
  }
  t.deepEqual(await eventsOf('last_event_id=now'), []);
});

test('earliest and 0 replay all that is retained', async (t) => {
  const { eventsOf } = await setUp(t);
  const all = ['1', '2', '3', '4', '5'];
  t.deepEqual(await eventsOf('last_event_id=earliest'), all);
  t.deepEqual(await eventsOf('', { 'Last-Event-ID': 'earliest' }), all);
  t.deepEqual(await eventsOf('last_event_id=0'), all);
});

test('earliest starts at the last event that was pruned', async (t) => {
  const { database, eventsOf, open, id } = await setUp(t);
  await database.query('DELETE FROM outbox WHERE id <= $1', [id(2)]);
  t.deepEqual(await eventsOf('last_event_id=earliest'), ['3', '4', '5']);
  t.is((await open('last_event_id=earliest')).told.lastEventId, id(2));
});

for (const start of ['last_event_id=earliest', 'since=1970-01-01']) {
  test(`R3: the cursor of a stream that began at ${start} resumes, also if a single event was deleted`, async (t) => {
    const { database, open, publish, id } = await setUp(t);
    await database.query('DELETE FROM outbox WHERE id = $1', [id(3)]);
    const { stream, told } = await open(start);
    // What stands before a deleted event can't be resumed exactly any more.
    await stream.untilEvents(2);
    stream.close();
    await publish('6');
    const { stream: resumed } = await open('', { 'Last-Event-ID': told.lastEventId });
    await resumed.until((frame) => frame.data === '6' || frame.event === 'stream-reset');
    t.deepEqual(
      resumed.events.map(({ data }) => data),
      ['4', '5', '6'],
    );
  });
}

test('R4: 0 is answered with a reset once events have been pruned', async (t) => {
  const { database, open, id } = await setUp(t);
  await database.query('DELETE FROM outbox WHERE id <= $1', [id(2)]);
  const { stream } = await open('last_event_id=0');
  const reset = await stream.until((frame) => frame.event === 'stream-reset');
  t.deepEqual(JSON.parse(reset.data ?? ''), { reason: 'expired', lastEventId: '0' });
});

test('R3: a client that drops before its first event resumes exactly where it began', async (t) => {
  const { open, publish, id } = await setUp(t, { events: 3 });
  for (const query of [
    '',
    'last_event_id=earliest',
    `last_event_id=${id(2)}`,
    'since=2020-01-01',
    'since=2999-01-01',
  ]) {
    const { stream, told } = await open(query);
    const { id: cursor } = stream.frames[0] ?? {};
    stream.close();
    t.is(cursor, told.lastEventId);
    await publish(query);
    const { stream: resumed } = await open('', { 'Last-Event-ID': cursor });
    const expected = await open(`last_event_id=${told.lastEventId}`);
    const last = await resumed.until((frame) => frame.data === query);
    await expected.stream.until((frame) => frame.id === last.id);
    t.deepEqual(resumed.events, expected.stream.events);
    t.is(resumed.frames.filter((frame) => frame.event === 'stream-reset').length, 0, query);
  }
});

test('R3: a client that resumes at any id gets what followed it, first', async (t) => {
  const { eventsOf, id } = await setUp(t);
  const all = ['1', '2', '3', '4', '5'];
  for (const passed of [1, 2, 3, 4, 5]) {
    t.deepEqual(await eventsOf(`last_event_id=${id(passed)}`), all.slice(passed));
  }
});

test('R3: an id names a place in commit order, also where ids run against it', async (t) => {
  const { database, relay, open } = await setUp(t, { events: 0 });
  const insert = `INSERT INTO outbox (channel, data) VALUES ('a', $1) RETURNING id`;
  const idOf = (result: { rows: { id: string }[] }) => result.rows[0]?.id ?? '';
  const ids = await database.withClient(async (client) => {
    await client.query('BEGIN');
    const slow = idOf(await client.query(insert, ['"slow"']));
    const fast = idOf(await database.query(insert, ['"fast"']));
    await client.query('COMMIT');
    return { slow, fast };
  });
  t.true(BigInt(ids.slow) < BigInt(ids.fast));
  const { stream } = await open(`last_event_id=${ids.fast}`);
  await stream.untilEvents(1);
  t.is(stream.events[0]?.id, ids.slow);
  t.is(relay.log.head.id, ids.slow);
});

/** Three events, created at noon, one and two o'clock UTC. */
async function setUpTimes(t: ExecutionContext) {
  const setup = await setUp(t, { events: 0 });
  for (const hour of ['12', '13', '14']) {
    await setup.database.query(
      `INSERT INTO outbox (channel, data, created_at) VALUES ('a', to_jsonb($1::text), $2::timestamptz)`,
      [hour, `2026-01-31T${hour}:00:00Z`],
    );
  }
  return setup;
}

const ONE_O_CLOCK = Date.UTC(2026, 0, 31, 13);
const SINCE: readonly [what: string, query: string, expected: readonly string[]][] = [
  ['ISO with Z', '2026-01-31T13:00:00Z', ['13', '14']],
  ['in lower case', '2026-01-31t13:00:00z', ['13', '14']],
  ['with milliseconds', '2026-01-31T13:00:00.001Z', ['14']],
  ['with microseconds', '2026-01-31T12:59:59.999999Z', ['13', '14']],
  ['without seconds', '2026-01-31T13:00Z', ['13', '14']],
  ['with an offset', '2026-01-31T15:00:00%2B02:00', ['13', '14']],
  ['with an offset to the west', '2026-01-31T08:00:00-05:00', ['13', '14']],
  ['with an unescaped +', '2026-01-31T15:00:00+02:00', ['13', '14']],
  ['with an unescaped + and no colon', '2026-01-31T15:00:00+0200', ['13', '14']],
  ['with an unescaped + and hours only', '2026-01-31T15:00:00+02', ['13', '14']],
  ['with a half hour offset', '2026-01-31T18:30:00%2B05:30', ['13', '14']],
  ['without a zone', '2026-01-31T13:00:00', ['13', '14']],
  ['with a space', '2026-01-31%2013:00:00', ['13', '14']],
  ['with a + for the space', '2026-01-31+13:00', ['13', '14']],
  ['a date', '2026-01-31', ['12', '13', '14']],
  ['the day after', '2026-02-01', []],
  ['epoch milliseconds', String(ONE_O_CLOCK), ['13', '14']],
  ['epoch milliseconds, one later', String(ONE_O_CLOCK + 1), ['14']],
  ['the future', '2999-01-01T00:00:00Z', []],
  ['before everything', '1970-01-01T00:00:00Z', ['12', '13', '14']],
  ['epoch 0', '0', ['12', '13', '14']],
  ['the year 0', '0000-01-01', ['12', '13', '14']],
  ['before the year 1 by its offset', '0001-01-01T00:00%2B14:00', ['12', '13', '14']],
  ['the last time that there is', '8640000000000000', []],
];

test('since replays what was created at a time or later, however the time is written', async (t) => {
  const { eventsOf } = await setUpTimes(t);
  for (const [what, query, expected] of SINCE) t.deepEqual(await eventsOf(`since=${query}`), expected, what);
});

test('since is ignored where there is a cursor, even if it is no time', async (t) => {
  const { open, id } = await setUp(t);
  for (const since of ['1970-01-01', 'tomorrow']) {
    t.is((await open(`since=${since}&last_event_id=${id(4)}`)).told.lastEventId, id(4));
    t.is((await open(`since=${since}`, { 'Last-Event-ID': id(3) })).told.lastEventId, id(3));
  }
});

test('R3: a stream that began at a time resumes by id', async (t) => {
  const { open } = await setUpTimes(t);
  const { stream } = await open('since=2026-01-31T13:00');
  await stream.untilEvents(1);
  stream.close();
  const { stream: resumed } = await open('since=2026-01-31T13:00', { 'Last-Event-ID': stream.events[0]?.id });
  await resumed.untilEvents(1);
  t.is(resumed.events[0]?.data, '14');
});

const LARGEST = '9223372036854775807';
const UNKNOWN: Readonly<Record<string, string>> = {
  'an id that was never given out': '999999',
  'the largest id': LARGEST,
  'a number beyond all ids': '9223372036854775808',
  'a number with many digits': '1'.repeat(100),
  'a negative number': '-1',
  'an id with zeros in front': '01',
  'a fraction': '1.5',
  text: 'stream-1',
  "another system's cursor": '5a1f0c3e-7d1b-4b7e-9f39-0d1a2b3c4d5e',
  'a cursor with other letters': 'ü😀',
  'what tries to inject a frame': 'x\u0085\u2028data: evil',
  'a cursor of 60 kB': 'x'.repeat(60_000),
};

test('R4: a cursor that we never gave out is answered with a reset to the head, and the new id resumes exactly', async (t) => {
  const { open, publish } = await setUp(t, { events: 3 });
  for (const [what, cursor] of Object.entries(UNKNOWN)) {
    const { stream, opened, told } = await open(`last_event_id=${encodeURIComponent(cursor)}`);
    const reset = await stream.until((frame) => frame.event === 'stream-reset');
    const data = JSON.parse(reset.data ?? '') as { reason: string; lastEventId: string };
    t.deepEqual(Object.keys(data), ['reason', 'lastEventId']);
    t.is(data.reason, 'unknown');
    t.is(data.lastEventId, cursor.length > 200 ? `${cursor.slice(0, 200)}…` : cursor, what);
    // Before the reset no frame may move the client's cursor.
    t.deepEqual([reset.id, opened.id], [told.head, undefined]);

    await publish(`next ${what}`);
    await stream.untilEvents(1);
    stream.close();
    await publish(`after ${what}`);
    const { stream: resumed } = await open('', { 'Last-Event-ID': reset.id });
    await resumed.untilEvents(2);
    t.deepEqual(
      [...stream.events, ...resumed.events].map((event) => event.data),
      [`next ${what}`, `next ${what}`, `after ${what}`],
    );
    t.is(resumed.frames.filter((frame) => frame.event === 'stream-reset').length, 0);
    resumed.close();
  }
});

test('R4: a cursor in a header of 60 kB is answered with a reset', async (t) => {
  const { open } = await setUp(t, { events: 1 });
  const { stream } = await open('', { 'Last-Event-ID': '7'.repeat(60_000) });
  const reset = await stream.until((frame) => frame.event === 'stream-reset');
  t.regex(reset.data ?? '', /^\{"reason":"unknown","lastEventId":"7{200}…"\}$/);
});

test('R4: an id whose successors were deleted is answered with a reset as expired, and the new id resumes', async (t) => {
  const { database, open, publish, id } = await setUp(t);
  await database.query('DELETE FROM outbox WHERE id <= $1', [id(3)]);
  for (const [cursor, events] of [
    // The last that was deleted: nothing after it is missing.
    [id(3), ['4', '5']],
    [id(1), undefined],
    [id(2), undefined],
  ] as const) {
    const { stream, told } = await open(`last_event_id=${cursor}`);
    if (events) {
      await stream.untilEvents(events.length);
      t.deepEqual(
        stream.events.map((event) => event.data),
        events,
      );
      continue;
    }
    const reset = await stream.until((frame) => frame.event === 'stream-reset');
    t.is(reset.data, `{"reason":"expired","lastEventId":"${cursor}"}`);
    t.is(reset.id, told.head);
    await publish('next');
    await stream.untilEvents(1);
    t.is(stream.events[0]?.data, 'next');
    stream.close();
    const { stream: resumed } = await open(`last_event_id=${reset.id}`);
    await resumed.untilEvents(1);
    t.is(resumed.events[0]?.data, 'next');
  }
});

test('R3: a relay that was started later honours the cursors of another', async (t) => {
  const { database, open, publish, id } = await setUp(t);
  const { stream } = await open();
  stream.close();
  const other = await startTestRelay(t, database.url);
  await publish('6');
  const resumed = await openStream(t, `${other.url}/events?channel=a`, { 'Last-Event-ID': id(4) });
  await resumed.untilEvents(2);
  t.deepEqual(
    resumed.events.map((event) => event.data),
    ['5', '6'],
  );
});
