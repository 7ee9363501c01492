/**
 * R8: redaction is final. Nobody who comes after the UPDATE has committed gets the old data: not from memory, not from a read that is under
 * way or shared; and nothing but what was redacted leaves memory for it, whoever notifies what.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createDatabase, type TestDatabase } from './support/database.js';
import { startProxy } from './support/proxy.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { request } from './support/request.js';
import { openStream, type TestStream } from './support/stream.js';

/** How often a state is asked for of which there is no signal. */
const POLL_MS = 5;
/** How late an answer of the database is to come: long enough for an UPDATE and a client in between. */
const LATE_MS = 200;
/** Longer than a relay that is let would take to answer. */
const NEVER_MS = 300;

const REDACT = `UPDATE outbox SET data = '"redacted"' WHERE id = ANY ($1)`;

async function publish(db: TestDatabase, count: number, channel = 'a'): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `INSERT INTO outbox (channel, data) SELECT $2, '"secret"' FROM generate_series(1, $1::int) RETURNING id`,
    [count, channel],
  );
  return rows.map(({ id }) => id);
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await delay(POLL_MS);
}

/** A relay that has just read `count` events, and that by itself looks for nothing. */
async function setUp(t: ExecutionContext, count: number, env: Environment = {}) {
  const db = await createDatabase(t);
  const listen = await startProxy(t, db.url);
  const history = await startProxy(t, db.url);
  const relay = await startTestRelay(t, history.url, {
    LISTEN_DATABASE_URL: listen.url,
    SWEEP_SECONDS: '3600',
    ...env,
  });
  const ids = await publish(db, count);
  await until(() => relay.log.head.id === ids.at(-1));
  const open = (cursor: string) => openStream(t, `${relay.url}/events/a?last_event_id=${cursor}`);
  return { db, listen, history, relay, ids, open };
}

/** What a client got of each event, by its id. */
const got = (stream: TestStream) => new Map(stream.events.map(({ id, data }) => [id, data]));

/** Resolves once the relay's connection of that name has begun a statement with that text in it, after `then`. */
async function begun(db: TestDatabase, name: string, text: string, then: Date): Promise<void> {
  await until(async () => {
    const { rowCount } = await db.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1
         AND position($2 IN query) > 0 AND query_start > $3`,
      [name, text, then],
    );
    return rowCount !== 0;
  });
}

async function now(db: TestDatabase): Promise<Date> {
  const { rows } = await db.query<{ now: Date }>('SELECT clock_timestamp() AS now');
  return rows[0]?.now ?? new Date(Number.NaN);
}

/** Redactions are recorded as ever, and nobody is told. */
const SILENCE = `
  CREATE OR REPLACE FUNCTION outbox_redacted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    INSERT INTO outbox_redaction (position) VALUES (OLD.position)
      ON CONFLICT (position) DO UPDATE SET changed_by = pg_current_xact_id();
    RETURN NULL;
  END $$`;

for (const isTold of [true, false]) {
  const how = isTold ? 'at once' : 'though no notification told of it';
  test(`R8: who comes after a redaction gets nothing old from memory, ${how}`, async (t) => {
    const { db, relay, ids, open } = await setUp(t, 100);
    if (!isTold) await db.query(SILENCE);
    for (const [index, id] of ids.slice(0, 30).entries()) {
      await db.query(REDACT, [[id]]);
      const stream = await open(index % 2 === 0 ? 'earliest' : String(Number(ids[0]) - 1 || 'earliest'));
      await stream.untilEvents(100);
      t.is(got(stream).get(id), 'redacted');
      stream.close();
    }
    t.is(relay.log.size.events, 70, 'what was not redacted is where it was');
  });
}

test('R8: who comes after a redaction shares no read of the table from before it', async (t) => {
  const { db, history, ids, open } = await setUp(t, 20, { WINDOW_MEGABYTES: '0' });
  (await open('earliest')).close();
  let shown = 0;
  for (const id of ids.slice(0, 8)) {
    const then = await now(db);
    history.delay(LATE_MS);
    const early = await open('earliest');
    await begun(db, 'outbox-relay history', 'WITH page', then);
    await db.query(REDACT, [[id]]);
    const late = await open('earliest');
    history.delay(0);
    await Promise.all([early.untilEvents(20), late.untilEvents(20)]);
    if (got(early).get(id) === 'secret') shown += 1;
    t.is(got(late).get(id), 'redacted');
    early.close();
    late.close();
  }
  t.true(shown > 0, 'there were reads from before');
});

test('R8: who asks for a page after a redaction shares no read of the table from before it', async (t) => {
  const { db, relay, history, ids } = await setUp(t, 20, { WINDOW_MEGABYTES: '0' });
  const page = async () => (await request(relay.url, '/history/a')).body;
  await page();
  let shown = 0;
  for (const id of ids.slice(0, 8)) {
    const then = await now(db);
    history.delay(LATE_MS);
    const early = page();
    await begun(db, 'outbox-relay history', 'WITH page', then);
    await db.query(REDACT, [[id]]);
    const late = page();
    history.delay(0);
    const isShownIn = (body: string) =>
      body.includes(`{"id":"${id}"`) && new RegExp(`"id":"${id}".*"secret"`).test(body);
    if (isShownIn(await early)) shown += 1;
    t.false(isShownIn(await late));
  }
  t.true(shown > 0, 'there were reads from before');
});

test('R8: who comes after a redaction, at the head, gets nothing old of what the relay is about to read', async (t) => {
  const { db, listen, open } = await setUp(t, 1);
  for (let round = 0; round < 5; round += 1) {
    const then = await now(db);
    listen.delay(LATE_MS);
    const [id = ''] = await publish(db, 1);
    await begun(db, 'outbox-relay tail', 'WITH page', then);
    await db.query(REDACT, [[id]]);
    const stream = await open('now');
    listen.delay(0);
    const [next = ''] = await publish(db, 1);
    await stream.until((frame) => frame.id === next && frame.data === 'secret');
    t.not(got(stream).get(id), 'secret');
    stream.close();
  }
});

test(`R8: while the table can't be asked, who has missed something waits; who has not does not`, async (t) => {
  const { db, relay, listen, ids, open } = await setUp(t, 10);
  listen.refuse();
  await until(() => relay.readiness().reasons.length > 0);
  await db.query(REDACT, [[ids[5]]]);
  const behind = await open(ids[0] ?? '');
  await (await open('now')).until(({ event }) => event === 'stream-open');
  await delay(NEVER_MS);
  t.is(behind.events.length, 0);
  listen.heal();
  await behind.untilEvents(9);
  t.is(got(behind).get(ids[5]), 'redacted');
});

test('R8: a redaction is found however long its transaction was open, and with savepoints', async (t) => {
  const { db, relay, ids, open } = await setUp(t, 10);
  await db.withClient(async (slow) => {
    await slow.query('BEGIN');
    await slow.query(REDACT, [[ids[1]]]);
    await slow.query('SAVEPOINT a');
    await slow.query(REDACT, [[ids[2]]]);
    await slow.query('ROLLBACK TO a');
    await slow.query('SAVEPOINT b');
    await slow.query(REDACT, [[ids[3]]]);
    for (const id of ids.slice(5, 8)) {
      await db.query(REDACT, [[id]]);
      const stream = await open('earliest');
      await stream.untilEvents(10);
      t.deepEqual([got(stream).get(id), got(stream).get(ids[1])], ['redacted', 'secret']);
    }
    const { changes } = relay.log;
    await (await open('earliest')).untilEvents(10);
    t.is(relay.log.changes, changes, 'what was found before is not found again');
    t.is(relay.log.size.events, 7);
    await slow.query('COMMIT');
  });
  const stream = await open('earliest');
  await stream.untilEvents(10);
  t.deepEqual(
    ids.map((id) => got(stream).get(id) === 'redacted'),
    [0, 1, 0, 1, 0, 1, 1, 1, 0, 0].map(Boolean),
  );
  t.is(relay.log.size.events, 5);
});

test('redacting the newest event, or one amid others, takes that one from memory', async (t) => {
  const { db, relay, ids, open } = await setUp(t, 100);
  const { size, floor } = relay.log;
  for (const [index, id] of [ids.at(-1) ?? '', ids[50] ?? ''].entries()) {
    await db.query(REDACT, [[id]]);
    await until(() => relay.log.size.events === 99 - index);
    t.is(relay.log.floor, floor);
    t.true(relay.log.size.bytes < size.bytes);
    const stream = await open('earliest');
    await stream.untilEvents(100);
    t.is(got(stream).get(id), 'redacted');
    t.deepEqual([...got(stream).keys()], ids);
  }
  const [next] = await publish(db, 1);
  await until(() => relay.log.head.id === next);
  t.is(relay.log.size.events, 99);
});

test('many redactions in one transaction notify once, and none is missed', async (t) => {
  const MANY = 10_500;
  const { db, relay, ids, open } = await setUp(t, MANY);
  const heard: (string | undefined)[] = [];
  await db.withClient(async (client) => {
    client.on('notification', ({ payload }) => heard.push(payload));
    await client.query('LISTEN outbox');
    await db.query(REDACT, [ids.slice(1)]);
    await publish(db, 1, 'other');
    await until(() => heard.includes(String(Number(ids.at(-1)) + 1)));
  });
  t.is(heard.filter((payload) => payload === 'changed').length, 1);
  const stream = await open('earliest');
  await stream.untilEvents(MANY);
  t.is([...got(stream).values()].filter((text) => text === 'redacted').length, MANY - 1);
  t.deepEqual([...got(stream).keys()], ids);
  t.true(relay.log.size.events <= 2);
});

test('a lost listening session empties nothing', async (t) => {
  const { db, relay } = await setUp(t, 50);
  for (let times = 0; times < 3; times += 1) {
    t.is(await db.kill('outbox-relay listener'), 1);
    await until(() => relay.readiness().reasons.length > 0);
    await until(() => relay.readiness().reasons.length === 0);
    const [next] = await publish(db, 1);
    await until(() => relay.log.head.id === next);
  }
  t.is(relay.log.size.events, 53);
});

test('whatever anybody notifies, memory stays as it is and events arrive', async (t) => {
  const { db, relay, ids, open } = await setUp(t, 50);
  const stream = await open(ids.at(-1) ?? '');
  const forger = await db.pool.connect();
  const over = new AbortController();
  const forging = (async () => {
    for (let n = 0; !over.signal.aborted; n += 1) {
      const payload = ['changed', 'forget:999', `forget:${ids[25]}`, '999999', '', 'probe:x', '\u{1f600}'][n % 7];
      await forger.query("SELECT pg_notify('outbox', $1)", [payload]);
    }
  })();
  for (let count = 1; count <= 50; count += 1) {
    await publish(db, 1);
    await stream.untilEvents(count);
  }
  over.abort();
  await forging;
  forger.release();
  t.is(relay.log.size.events, 100);
  t.deepEqual(relay.readiness().reasons, []);
});

test('an account of redactions that a restore brought from elsewhere is not taken for news', async (t) => {
  const { db, relay, ids, open } = await setUp(t, 10);
  await db.query("INSERT INTO outbox_redaction SELECT position, '999999999999' FROM outbox");
  const { changes } = relay.log;
  for (let times = 0; times < 3; times += 1) await (await open('earliest')).untilEvents(10);
  t.is(relay.log.changes, changes);
  await db.query(REDACT, [[ids[4]]]);
  const stream = await open('earliest');
  await stream.untilEvents(10);
  t.is(got(stream).get(ids[4]), 'redacted');
  t.is(relay.log.size.events, 9);
});

test('what is deleted is deleted from the account of redactions, too', async (t) => {
  const { db, ids } = await setUp(t, 10);
  await db.query(REDACT, [ids]);
  await db.query('DELETE FROM outbox WHERE id = ANY ($1)', [ids.slice(0, 4)]);
  const left = async () => (await db.query('SELECT FROM outbox_redaction')).rowCount;
  t.is(await left(), 6);
  await db.query('TRUNCATE outbox');
  t.is(await left(), 0);
});

test('without its row the floor stops no event, is said, and ready is ready once it is back', async (t) => {
  const { db, relay, open } = await setUp(t, 1, { SWEEP_SECONDS: '0.1' });
  const stream = await open('now');
  await stream.until(({ event }) => event === 'stream-open');
  await db.query('ALTER TABLE outbox_floor DISABLE TRIGGER USER; TRUNCATE outbox_floor');
  const ids = await publish(db, 20);
  await stream.untilEvents(20);
  t.deepEqual([...got(stream).keys()], ids);
  t.false(stream.frames.some(({ event }) => event === 'stream-reset'));
  await until(() => relay.readiness().reasons.some(({ code }) => code === 'floor_missing'));
  for (const cursor of [ids[0] ?? '', 'earliest']) {
    const replay = await open(cursor);
    await replay.untilEvents(cursor === 'earliest' ? 21 : 19);
  }
  await db.kill('outbox-relay tail');
  const later = await publish(db, 3);
  await stream.untilEvents(23);
  t.deepEqual([...got(stream).keys()], [...ids, ...later]);
  await db.query('INSERT INTO outbox_floor (id, position) VALUES (0, 0)');
  await until(() => relay.readiness().reasons.length === 0);
});
