/**
 * What a relay does when the table is no longer the one that it has read from, or has lost what it had yet to read: its
 * clients are told, and go on.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { createDatabase, serverUrl } from './support/database.js';
import { startProxy } from './support/proxy.js';
import { startTestRelay } from './support/relay.js';
import { openRaw } from './support/request.js';
import { openStream, type TestStream } from './support/stream.js';

const INSERT = "INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(n) FROM generate_series($1::int, $2::int) AS n";
/** More than fits into the buffers of a socket that nobody reads from. */
const LONG =
  "INSERT INTO outbox (channel, data) SELECT 'long', to_jsonb(repeat(md5(n::text), 300)) FROM generate_series(1, 1500) AS n";

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;

const data = (stream: TestStream): (string | undefined)[] => stream.events.map((event) => event.data);

const isReset = ({ event }: { event?: string }): boolean => event === 'stream-reset';

async function setUp(t: ExecutionContext) {
  const database = await createDatabase(t);
  const proxy = await startProxy(t, database.url);
  const publish = (from: number, to: number) => database.query(INSERT, [from, to]);
  const start = () => startTestRelay(t, proxy.url, { HEARTBEAT_SECONDS: '0.2', STALL_SECONDS: '600' });
  return { database, proxy, publish, start };
}

async function openAt(t: ExecutionContext, url: string): Promise<TestStream> {
  const stream = await openStream(t, `${url}/events/a`);
  await stream.until(({ event }) => event === 'stream-open');
  return stream;
}

test('R4: a client whose relay had no chance to read what was deleted is told so, and goes on with what is left', async (t) => {
  const { database, proxy, publish, start } = await setUp(t);
  const relay = await start();
  const stream = await openAt(t, relay.url);
  await publish(1, 3);
  await stream.untilEvents(3);
  const last = stream.lastEventId;

  proxy.refuse();
  await publish(4, 9);
  await database.query('DELETE FROM outbox WHERE position <= (SELECT max(position) - 2 FROM outbox)');
  const { rows } = await database.query<{ id: string }>('SELECT id FROM outbox_floor');
  proxy.heal();

  const reset = await stream.until(isReset);
  t.deepEqual(JSON.parse(reset.data ?? ''), { reason: 'expired', lastEventId: last });
  t.is(reset.id, rows[0]?.id);
  await stream.untilEvents(5);
  await publish(10, 10);
  await stream.untilEvents(6);
  t.deepEqual(data(stream), ['1', '2', '3', '8', '9', '10']);
  t.is(stream.frames.filter(isReset).length, 1);

  // The cursor that the reset gave resumes.
  const resumed = await openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': reset.id });
  await resumed.untilEvents(3);
  t.deepEqual(data(resumed), ['8', '9', '10']);
});

test('R4: what was deleted after it had been read resets nobody who has it', async (t) => {
  const { database, publish, start } = await setUp(t);
  const relay = await start();
  const stream = await openAt(t, relay.url);
  await publish(1, 3);
  await stream.untilEvents(3);
  await database.query('DELETE FROM outbox');
  await publish(4, 4);
  await stream.untilEvents(4);
  t.deepEqual(data(stream), ['1', '2', '3', '4']);
  t.false(stream.frames.some(isReset));
});

test('R4: nobody is sent back by a reset, however far behind the relay is that gives it', async (t) => {
  const { database, proxy, publish } = await setUp(t);
  const relay = await startTestRelay(t, database.url, { LISTEN_DATABASE_URL: proxy.url });
  await publish(1, 3);
  await (await openStream(t, `${relay.url}/events/a?last_event_id=earliest`)).untilEvents(3);
  // The relay hears and reads nothing new from here on, but looks up cursors.
  proxy.refuse();
  await publish(4, 9);
  await database.query('DELETE FROM outbox WHERE position <= 8');
  const { rows } = await database.query<{ id: string }>('SELECT id FROM outbox_floor');
  const stream = await openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': '7' });
  const reset = await stream.until(isReset);
  t.deepEqual(JSON.parse(reset.data ?? ''), { reason: 'expired', lastEventId: '7' });
  t.is(reset.id, rows[0]?.id);
  t.deepEqual(
    stream.frames.slice(0, stream.frames.indexOf(reset)).filter(({ id }) => id !== undefined),
    [],
    'cut off before the reset, the client would come back past what it has missed',
  );
  proxy.heal();
  await stream.untilEvents(1);
  await publish(10, 10);
  await stream.untilEvents(2);
  t.deepEqual(data(stream), ['9', '10']);
  t.is(stream.frames.filter(isReset).length, 1);
});

for (const handedOutAgain of [false, true]) {
  const how = handedOutAgain ? 'and has given the same ids out again' : 'and has nothing new';
  test(`R4: when the database comes back as it was before, ${how}, every client is told and gets what comes next`, async (t) => {
    const { database, proxy, publish, start } = await setUp(t);
    const administration = new pg.Client({ connectionString: serverUrl() });
    await administration.connect();
    t.teardown(() => administration.end());
    await database.query(LONG);
    await publish(1, 3);
    const backup = `${database.name}_backup`;
    await administration.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()',
      [database.name],
    );
    await administration.query(`CREATE DATABASE ${backup} TEMPLATE ${database.name}`);

    const relay = await start();
    const stream = await openAt(t, relay.url);
    // Never reads, so that it is neither parked nor reading when it happens.
    const slow = openRaw(t, relay.url, 'GET /events/long?last_event_id=earliest HTTP/1.1\r\nHost: x\r\n\r\n');
    slow.socket.pause();
    await publish(4, 6);
    await stream.untilEvents(3);
    const last = stream.lastEventId;
    while (relay.byState().stalled === 0) await delay(POLL_MS);

    proxy.refuse();
    await database.kill('%');
    await administration.query(`ALTER DATABASE ${database.name} RENAME TO ${database.name}_lost`);
    t.teardown(async () => {
      const client = new pg.Client({ connectionString: serverUrl() });
      await client.connect();
      await client.query(`DROP DATABASE ${database.name}_lost WITH (FORCE)`);
      await client.end();
    });
    await administration.query(`ALTER DATABASE ${backup} RENAME TO ${database.name}`);
    if (handedOutAgain) await publish(14, 16);
    const { rows } = await database.query<{ id: string }>('SELECT id FROM outbox ORDER BY position DESC LIMIT 1');
    t.is(rows[0]?.id === last, handedOutAgain, 'the danger is there');
    proxy.heal();

    const reset = await stream.until(isReset);
    t.deepEqual(JSON.parse(reset.data ?? ''), { reason: 'unknown', lastEventId: last });
    t.is(reset.id, rows[0]?.id);
    await publish(17, 17);
    await stream.untilEvents(4);
    t.deepEqual(data(stream), ['4', '5', '6', '17']);
    slow.socket.resume();
    await slow.until('event: stream-reset\ndata: {"reason":"unknown"');
    await database.query("INSERT INTO outbox (channel, data) VALUES ('long', to_jsonb('after'::text))");
    await slow.until('data: after\n');
  });
}
