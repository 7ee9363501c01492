/**
 * R5: one event, however it was made, can't stop the others. What the table refuses, and is there all the same, is passed by: live, in
 * replays and by a relay that starts; it is named, and what redaction makes of it is delivered.
 */
import { connect } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import type pg from 'pg';
import { withClient } from '../../src/postgres/client.js';
import { migrate } from '../../src/postgres/migrate.js';
import { createDatabase, serverUrl, useDatabase, type TestDatabase } from '../support/database.js';
import { startRelayProcess, type RelayProcess } from '../support/relay-process.js';
import { openStream } from '../support/stream.js';

/** Small, so that what is kept more than once or twice ends the process. */
const SMALL: Record<string, string> = { NODE_OPTIONS: '--max-old-space-size=256', LOG_LEVEL: 'error' };

/** The largest event of line breaks: each is seven bytes as sent. */
const LINE_BREAKS = Math.floor((16 * 1024 * 1024) / 7);

/** As in a table that is from before there was such a rule. */
const UNRULED = 'DROP TRIGGER outbox_check ON outbox';

/** Each is refused by the rule, and stored in some kB. */
const TOO_LARGE = [
  'to_jsonb(repeat(chr(10), 16000000))',
  'to_jsonb(repeat(chr(13) || chr(10), 2500000))',
  `('[' || repeat('1e131071,', 300) || '0]')::jsonb`,
];

/** PostgreSQL itself can't make its text. */
const TOO_LARGE_FOR_TEXT = `('[' || repeat('1e131071,', 9000) || '0]')::jsonb`;

const insert = (data: string, channel = 'a') => `INSERT INTO outbox (channel, data) VALUES ('${channel}', ${data})`;

async function start(t: ExecutionContext, url: string, env: Record<string, string> = {}) {
  const lines: string[] = [];
  const relay = await startRelayProcess(t, url, { ...SMALL, LOG_LEVEL: 'info', ...env }, (line) => lines.push(line));
  return { relay, lines };
}

/** The ids that a client gets until that of `last`, and all bytes, none of which it keeps. */
function ids(t: ExecutionContext, relay: RelayProcess, path: string, last: string) {
  const { hostname, port } = new URL(relay.url);
  const socket = connect(Number(port), hostname);
  t.teardown(() => socket.destroy());
  let bytes = 0;
  let rest = '';
  const found: string[] = [];
  const over = new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`the stream ended after ${found.join()}`)));
    socket.on('data', (chunk) => {
      bytes += chunk.length;
      // An id stands at the start of a frame; the last piece of a chunk may be the half of one.
      const text = rest + chunk.toString('latin1');
      for (const [, id = ''] of text.matchAll(/\nid: (\d+)\n(?:event: [^s][^\n]*\n)?data:/g))
        if (found.at(-1) !== id) found.push(id);
      rest = text.slice(-100);
      if (found.at(-1) === last && /\n\n$/.test(text)) resolve();
    });
  });
  socket.write(`GET ${path} HTTP/1.0\r\nHost: x\r\n\r\n`);
  return {
    found,
    over,
    get bytes() {
      return bytes;
    },
    close: () => socket.destroy(),
  };
}

test.serial(
  'R5: the largest event there may be, all line breaks, is delivered and costs no relay its life',
  async (t) => {
    const db = await createDatabase(t);
    const { relay } = await start(t, db.url);
    const live = ids(t, relay, '/events/a', '3');
    await db.query(insert(`'"first"'`));
    await db.query(insert(`to_jsonb(repeat(chr(10), ${LINE_BREAKS}))`));
    await db.query(insert(`'"last"'`));
    await live.over;
    t.deepEqual(live.found, ['1', '2', '3']);
    t.true(live.bytes > LINE_BREAKS * 7);
    await relay.end('SIGKILL');
    await relay.start();
    const replay = ids(t, relay, '/events/a?last_event_id=earliest', '3');
    await replay.over;
    t.deepEqual(replay.found, ['1', '2', '3']);
  },
);

test.serial(
  'R5: events that are small where they are kept and large as sent come in pages no larger than others',
  async (t) => {
    const db = await createDatabase(t);
    const { relay } = await start(t, db.url);
    const live = ids(t, relay, '/events/a', '9');
    await db.query(
      `INSERT INTO outbox (channel, data) SELECT 'a', ('[' || repeat('1e131071,', 115) || '0]')::jsonb FROM generate_series(1, 8)`,
    );
    await db.query(insert(`'"last"'`));
    await live.over;
    t.is(live.found.length, 9);
    live.close();
    const replay = ids(t, relay, '/events/a?last_event_id=earliest', '9');
    await replay.over;
    t.is(replay.found.length, 9);
  },
);

test.serial('R5: what is too large is passed by and named, live, in replays and by a relay that starts', async (t) => {
  const db = await createDatabase(t);
  await db.query(UNRULED);
  const { relay, lines } = await start(t, db.url, { METRICS_PORT: '0' });
  const live = await openStream(t, `${relay.url}/events/a`);
  const expected: string[][] = [];
  let id = 0;
  for (const data of TOO_LARGE) {
    for (const text of [`'"before"'`, data, `'"after"'`]) {
      await db.query(insert(text));
      id += 1;
      if (text !== data) expected.push([String(id), text.slice(2, -2)]);
    }
    await live.untilEvents(expected.length);
  }
  // And read together.
  await db.query(TOO_LARGE.map((data) => insert(data)).join(';'));
  await db.query(insert(`'"last"'`));
  expected.push([String(id + 4), 'last']);
  await live.untilEvents(expected.length);
  const got = (stream: typeof live) => stream.events.map((event) => [event.id ?? '', event.data ?? '']);
  t.deepEqual(got(live), expected);
  t.regex(await (await fetch(relay.metricsUrl ?? '')).text(), /^outbox_relay_undeliverable_events_total 6$/m);

  const check = async (url: string) => {
    for (const path of ['/events?channel=a&channel=b&', '/events?channel=*&']) {
      const replay = await openStream(t, `${url}${path}last_event_id=earliest`);
      await replay.untilEvents(expected.length);
      t.deepEqual(got(replay), expected, path);
      replay.close();
    }
  };
  await check(relay.url);
  await relay.end('SIGKILL');
  lines.length = 0;
  await relay.start();
  await check(relay.url);
  const named = lines.map((line) => JSON.parse(line) as { level: number; id?: string; msg: string });
  const told = named.filter((line) => line.level >= 50);
  t.is(new Set(told.map((line) => line.id)).size, 6);
  t.is(told.length, 6, 'each once');
  for (const line of told) t.true(line.msg.includes(`WHERE id = ${line.id}`), line.msg);
  const { relay: withoutMemory } = await start(t, db.url, { WINDOW_MEGABYTES: '0' });
  await check(withoutMemory.url);

  // What the message says is the cure, for a relay that has passed it by, too.
  await db.query(`UPDATE outbox SET data = '"in its place"' WHERE id = 5`);
  expected.splice(3, 0, ['5', 'in its place']);
  await check(relay.url);
  await check(withoutMemory.url);
});

test.serial('R5: what PostgreSQL can make no text of stops no event but its own', async (t) => {
  // It makes a gigabyte of it before it says so.
  t.timeout(180_000);
  const db = await createDatabase(t);
  await db.query(UNRULED);
  const { relay, lines } = await start(t, db.url, { WINDOW_MEGABYTES: '0', LISTEN_TIMEOUT_SECONDS: '120' });
  const live = await openStream(t, `${relay.url}/events/a`);
  await db.query([insert(`'1'`), insert(TOO_LARGE_FOR_TEXT), insert(`'3'`)].join(';'));
  await db.query(insert(`'4'`));
  const replay = await openStream(t, `${relay.url}/events/a?last_event_id=earliest`);
  for (const stream of [live, replay]) {
    await stream.untilEvents(3);
    t.deepEqual(
      stream.events.map(({ data }) => data),
      ['1', '3', '4'],
    );
  }
  t.true(lines.some((line) => line.includes('event 2 cannot be delivered') && line.includes('54000')));
  await relay.end('SIGKILL');
  await relay.start();
  await db.query(`UPDATE outbox SET data = '2' WHERE id = 2`);
  const mended = await openStream(t, `${relay.url}/events/a?last_event_id=earliest`);
  await mended.untilEvents(4);
  t.deepEqual(
    mended.events.map(({ data }) => data),
    ['1', '2', '3', '4'],
  );
});

const ENCODED = `
  INSERT INTO outbox (channel, data) VALUES
    ('a', '"one"'), ('a', to_jsonb(convert_from('\\xa9a1', 'EUC_JP'))), ('a', '"three"'), (convert_from('\\xa9a1', 'EUC_JP'), '"four"'), ('a', '"five"')`;

test('R5: a character that the database has and nobody else stops no event but its own', async (t) => {
  const server = serverUrl();
  const name = `test_encoded_${process.pid}_${Date.now().toString(36)}`;
  const administer = (sql: string) =>
    withClient(server, 'test administration', (client: pg.Client) => client.query(sql));
  await administer(`CREATE DATABASE ${name} ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0`);
  t.teardown(() => administer(`DROP DATABASE ${name} WITH (FORCE)`));
  const url = new URL(server);
  url.pathname = `/${name}`;
  await migrate(url.href, 'up');
  const db: Pick<TestDatabase, 'query' | 'pool'> = useDatabase(url.href);
  await db.query(UNRULED);
  t.teardown(() => db.pool.end());
  const { relay, lines } = await start(t, url.href);
  const { relay: withoutMemory } = await start(t, url.href, { WINDOW_MEGABYTES: '0' });
  const streams = [await openStream(t, `${relay.url}/events?channel=*`)];
  await db.query(ENCODED);
  for (const { url: address } of [relay, withoutMemory]) {
    streams.push(await openStream(t, `${address}/events?channel=*&last_event_id=earliest`));
  }
  for (const stream of streams) {
    await stream.untilEvents(3);
    t.deepEqual(
      stream.events.map(({ id, data }) => [id, data]),
      [
        ['1', 'one'],
        ['3', 'three'],
        ['5', 'five'],
      ],
    );
  }
  for (const id of [2, 4]) t.true(lines.some((line) => line.includes(`event ${id} cannot be delivered`)));
  await relay.end('SIGKILL');
  await relay.start();
});
