/**
 * Databases that went back in time: without `advance-ids` an id names two events, and with it no cursor from before is
 * honoured as that of another.
 */
import { randomBytes } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { advanceIds } from '../src/admin/advance-ids.js';
import { DEFAULT_STEP } from '../src/cli/program/program.js';
import { examine } from '../src/admin/doctor/doctor.js';
import { runCommand } from './support/command.js';
import { createDatabase, serverUrl, type TestDatabase } from './support/database.js';
import { createPatient, paste, troubles } from './support/patient.js';
import { startTestRelay } from './support/relay.js';
import { hangInCommit } from './support/hanging-commit.js';
import { openStream } from './support/stream.js';

const publish = (from: number, to: number) =>
  `INSERT INTO outbox (channel, data) SELECT 'a:b', to_jsonb(n::text) FROM generate_series(${from}, ${to}) AS n`;

/** A copy of a database as it is now, whose sessions have all ended: a backup, and what it is restored to. */
async function copy(t: ExecutionContext, db: TestDatabase): Promise<string> {
  const name = `test_copy_${randomBytes(6).toString('hex')}`;
  const administer = (sql: string) => paste(serverUrl(), [sql]);
  await administer(`CREATE DATABASE ${name} TEMPLATE ${db.name}`);
  t.teardown(() => administer(`DROP DATABASE ${name} WITH (FORCE)`));
  const url = new URL(db.url);
  url.pathname = `/${name}`;
  return url.href;
}

/**
 * 100 events, a backup, 50 more that a client gets, and then the backup is all there is. Resolves with the address of the
 * restored database.
 */
async function loseEvents(t: ExecutionContext): Promise<string> {
  const db = await createDatabase(t);
  await paste(db.url, [publish(1, 100)]);
  const restored = await copy(t, db);
  const relay = await startTestRelay(t, db.url);
  const stream = await openStream(t, `${relay.url}/events/a:b`);
  await paste(db.url, [publish(101, 150)]);
  await stream.untilEvents(50);
  t.is(stream.lastEventId, '150');
  await relay.stop();
  return restored;
}

async function query<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  await client.connect();
  return (await client.query<Row>(sql).finally(() => client.end())).rows;
}

const sequences = (url: string) =>
  query<{ id: string; position: string }>(
    url,
    'SELECT i.last_value AS id, p.last_value AS position FROM outbox_id_seq i, outbox_position_seq p',
  );

test('the danger: in a restored database a cursor from before the restore names another event', async (t) => {
  const url = await loseEvents(t);
  await paste(url, [publish(1001, 1060)]);
  const relay = await startTestRelay(t, url);
  const stream = await openStream(t, `${relay.url}/events/a:b`, { 'Last-Event-ID': '150' });
  await stream.untilEvents(10);
  t.false(stream.frames.some(({ event }) => event === 'stream-reset'));
  t.is(stream.events[0]?.data, '1051', 'fifty events are skipped in silence');
});

test('R4: after advance-ids every cursor of a lost event is reset, and every other honoured', async (t) => {
  const url = await loseEvents(t);
  const { code, output } = await runCommand(['advance-ids'], { DATABASE_URL: url });
  t.is(code, 0, output);
  t.true(output.includes('outbox_id_seq goes on after 1000000100; it was at 100'), output);
  t.true(output.includes('outbox_position_seq goes on after 1000000100; it was at 100'), output);
  t.true(output.includes('need no restart'), output);

  const relay = await startTestRelay(t, url, { WINDOW_MEGABYTES: '0' });
  const reset = async (id: string) => {
    const stream = await openStream(t, `${relay.url}/events/a:b`, { 'Last-Event-ID': id });
    return JSON.parse((await stream.until(({ event }) => event === 'stream-reset')).data ?? '') as unknown;
  };
  const lost = await openStream(t, `${relay.url}/events/a:b`, { 'Last-Event-ID': '150' });
  await lost.until(({ event }) => event === 'stream-reset');
  for (const id of ['101', '150']) t.deepEqual(await reset(id), { reason: 'unknown', lastEventId: id });

  await paste(url, [publish(1001, 1060)]);
  await lost.untilEvents(60);
  t.deepEqual(
    lost.events.map(({ data }) => data),
    Array.from({ length: 60 }, (_, n) => String(1001 + n)),
    'it goes on with what is published now',
  );
  // Below an id in use: not known to be lost, but not honoured either.
  for (const id of ['101', '150', '1000000100']) t.deepEqual(await reset(id), { reason: 'expired', lastEventId: id });
  for (const channels of ['a:b', 'a:*']) {
    const kept = await openStream(t, `${relay.url}/events/${channels}`, { 'Last-Event-ID': '90' });
    await kept.untilEvents(70);
    t.deepEqual([kept.events[0]?.data, kept.events[9]?.data, kept.events[10]?.data], ['91', '100', '1001']);
    t.false(kept.frames.some(({ event }) => event === 'stream-reset'));
  }
});

test('it goes on from the highest number in use, wherever a sequence is, and never back', async (t) => {
  const { db, owner } = await createPatient(t);
  await paste(db.url, [
    publish(1, 10),
    `SELECT setval('outbox_id_seq', 3)`,
    `SELECT setval('outbox_position_seq', 1, false)`,
  ]);
  t.deepEqual(await advanceIds(owner.url, 5n), [
    { sequence: 'outbox_id_seq', from: '10', to: '15' },
    { sequence: 'outbox_position_seq', from: '10', to: '15' },
  ]);
  t.deepEqual(await sequences(db.url), [{ id: '15', position: '15' }]);
  await paste(db.url, [publish(11, 11), 'DELETE FROM outbox', `SELECT setval('outbox_id_seq', 3)`]);
  t.deepEqual(
    (await advanceIds(owner.url, DEFAULT_STEP)).map(({ from }) => from),
    ['16', '16'],
    'the floor counts, where nothing else is left',
  );
  const all = await Promise.all([1n, 1000n, 1n].map((step) => advanceIds(owner.url, step)));
  t.is(all.length, 3);
  t.deepEqual(await sequences(db.url), [
    { id: String(16n + DEFAULT_STEP + 1002n), position: String(16n + DEFAULT_STEP + 1002n) },
  ]);
  t.deepEqual(troubles(await examine({ databaseUrl: owner.url, listenDatabaseUrl: owner.url })), []);
});

test('R1: while publishers run it neither gives a number twice nor breaks the order of commits', async (t) => {
  const db = await createDatabase(t);
  let over = false;
  const writers = Array.from({ length: 4 }, async () => {
    while (!over) await db.query(publish(1, 3));
  });
  for (let n = 0; n < 20; n += 1) await advanceIds(db.url, 1000n);
  over = true;
  await Promise.all(writers);
  const [sums] = await query(
    db.url,
    'SELECT count(*) = count(DISTINCT id) AND count(*) = count(DISTINCT position) AS once, max(id) > 20000 AS moved FROM outbox',
  );
  t.deepEqual(sums, { once: true, moved: true });
});

test('it waits for commits under way, and nobody waits for it: what hangs is seen across the jump', async (t) => {
  const db = await createDatabase(t);
  await db.query(publish(1, 10));
  const hanging = await hangInCommit(t, db, ['slow']);
  const advanced = advanceIds(db.url, 3_000_000_000n);
  // A billion positions it may pass by, and waits with the rest.
  while (BigInt((await sequences(db.url))[0]?.position ?? 0) < 1_000_000_000n);
  await db.query(publish(11, 12));
  t.is((await sequences(db.url))[0]?.position, '1000000013');
  await hanging.succeed();
  t.deepEqual(
    (await advanced).map(({ to }) => to),
    ['3000000011', '3000000011'],
  );

  const across = await hangInCommit(t, db, ['slow']);
  const [before] = await sequences(db.url);
  await advanceIds(db.url, 1_000_000_000n);
  const settled = async () =>
    (
      await query<{ through: string; pid: number | null }>(
        db.url,
        'SELECT through, waits_for AS pid FROM outbox_settled()',
      )
    )[0];
  t.deepEqual(await settled(), { through: String(BigInt(before?.position ?? 0) - 1n), pid: across.process });
  await across.succeed();
  t.is((await settled())?.pid, null);
});

test('who may not do it is told who may, and nothing changes', async (t) => {
  const { db, owner, relay } = await createPatient(t);
  const before = await sequences(db.url);
  const refused = await runCommand(['advance-ids'], { DATABASE_URL: relay.url });
  t.deepEqual(refused, {
    code: 1,
    output: `Role ${relay.name} may not do that: run it as ${owner.name}, the owner of the outbox, or as a superuser.\n`,
  });
  t.deepEqual(await sequences(db.url), before);
  const empty = await createDatabase(t, { template: false });
  const none = await runCommand(['advance-ids'], { DATABASE_URL: empty.url });
  t.deepEqual([none.code, none.output.startsWith('The database has no outbox')], [1, true]);
});

test('--by is a whole number above 0', async (t) => {
  const db = await createDatabase(t);
  for (const by of ['0', '-1', '1.5', 'many', '1000000000000000']) {
    const { code, output } = await runCommand(['advance-ids', `--by=${by}`], { DATABASE_URL: db.url });
    t.is(code, 1);
    t.regex(output, /'--by <number>' .* is invalid.* a whole number from 1 to 999999999999999/);
  }
  t.is((await runCommand(['advance-ids', '--by', '7'], { DATABASE_URL: db.url })).code, 0);
  t.deepEqual(await sequences(db.url), [{ id: '8', position: '8' }]);
  const unset = await runCommand(['advance-ids']);
  t.is(unset.code, 1);
  t.true(unset.output.includes('DATABASE_URL is not set'));
});
