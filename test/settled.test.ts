/**
 * What is settled: whose positions may still appear, as outbox_settled() tells it from the markers of commits under way.
 * Nobody waits for these, nobody else can make one, and whoever has ended is told of no more. On both ends of the range of
 * supported servers.
 */
import test, { type ExecutionContext } from 'ava';
import { migrate } from '../src/postgres/migrate.js';
import { createDatabase, useDatabase, type TestDatabase } from './support/database.js';
import { hangInCommit } from './support/hanging-commit.js';
import { connect, outcome, publish, single, type Queryable, startListening } from './support/sessions.js';

/** In which a publisher that nothing holds up is done, however busy the machine. */
const PROMPT_MS = 10_000;

interface Settled {
  readonly through: number;
  /** The process; null where nobody is waited for. */
  readonly pid: number | null;
}

const settled = (on: Queryable) =>
  single<Settled & { [column: string]: unknown }>(
    on,
    'SELECT through::double precision, waits_for AS pid FROM outbox_settled()',
  );

/** How many advisory locks somebody has, or waits for, in this database. */
async function advisoryLocks(on: Queryable, condition = 'granted'): Promise<number> {
  const { count } = await single<{ count: number }>(
    on,
    `SELECT count(*)::integer AS count FROM pg_locks WHERE locktype = 'advisory' AND ${condition}
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );
  return count;
}

/** Publishes as any publisher does, and fails where anybody holds it up. */
async function publishPromptly(t: ExecutionContext, db: TestDatabase, ...names: string[]): Promise<void> {
  const client = await connect(t, db.url);
  await client.query(`SET statement_timeout = ${PROMPT_MS}`);
  await publish(client, ...names);
}

/** Has a publisher's position drawn before its commit, by what one statement does. Resolves with its process. */
async function placeEarly(publisher: Queryable): Promise<number> {
  await publisher.query('BEGIN');
  await publisher.query(`DO $$ BEGIN
    INSERT INTO outbox (channel, data) VALUES ('early', '"early"');
    SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL IMMEDIATE;
  END $$`);
  return (await single<{ pid: number }>(publisher, 'SELECT pg_backend_pid() AS pid')).pid;
}

for (const [end, isThere] of [
  ['commits', true],
  ['fails', false],
  ['is killed', false],
] as const) {
  test(`R2: a commit that hangs after drawing delays no publisher, and is waited for until it ${end}`, async (t) => {
    const db = await createDatabase(t);
    await publish(db, 'before');
    t.deepEqual(await settled(db), { through: 1, pid: null });
    const hanging = await hangInCommit(t, db, ['a', 'b']);
    t.deepEqual(await settled(db), { through: 1, pid: hanging.process });
    await publishPromptly(t, db, 'after');
    const second = await hangInCommit(t, db, ['c']);
    t.deepEqual(await settled(db), { through: 1, pid: hanging.process }, 'of two it is the first');

    if (end === 'commits') await hanging.succeed();
    else if (end === 'fails') await hanging.fail();
    else {
      await db.query('SELECT pg_terminate_backend($1, 10000)', [hanging.process]);
    }
    t.deepEqual(await settled(db), { through: 4, pid: second.process });
    await second.succeed();
    t.deepEqual(await settled(db), { through: 5, pid: null });
    const { rows } = await db.query<{ position: string }>('SELECT position FROM outbox ORDER BY position');
    t.deepEqual(
      rows.map(({ position }) => Number(position)),
      isThere ? [1, 2, 3, 4, 5] : [1, 4, 5],
    );
  });
}

test('R2: a commit that hangs before it has drawn a position is waited for by nobody, and placed when it goes on', async (t) => {
  const db = await createDatabase(t);
  await db.query(`
    CREATE TABLE slow ();
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()`);
  const [keeper, publisher] = [await connect(t, db.url), await connect(t, db.url)];
  await keeper.query('SELECT pg_advisory_lock(1)');
  await publisher.query('BEGIN');
  await publish(publisher, 'slow');
  await publisher.query('INSERT INTO slow DEFAULT VALUES');
  const committed = outcome(publisher.query('COMMIT'));
  while ((await advisoryLocks(db, 'NOT granted')) === 0);
  await publishPromptly(t, db, 'fast');
  t.deepEqual(await settled(db), { through: 1, pid: null });
  await keeper.query('SELECT pg_advisory_unlock(1)');
  t.is(await committed, 'done');
  t.is((await single<{ data: string }>(db, 'SELECT data FROM outbox ORDER BY position DESC LIMIT 1')).data, 'slow');
});

test('R2: at every isolation level publishers commit beside a commit that hangs, and are seen themselves', async (t) => {
  const db = await createDatabase(t);
  const hanging = await hangInCommit(t, db, ['a']);
  for (const level of ['READ UNCOMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE']) {
    const client = await connect(t, db.url);
    await client.query(
      `SET statement_timeout = ${PROMPT_MS}; SET default_transaction_isolation = '${level.toLowerCase()}'`,
    );
    await client.query('BEGIN');
    await publish(client, 'x', 'y', 'z');
    t.is(await outcome(client.query('COMMIT')), 'done', level);
    const process = await placeEarly(client);
    await hanging.succeed();
    t.is((await settled(db)).pid, process, level);
    // It asks within its own transaction, whose snapshot is as old as that transaction.
    t.is((await settled(client)).pid, process, level);
    await client.query('COMMIT');
  }
  t.is((await settled(db)).pid, null);
});

test('a position that is drawn before the commit is waited for up to the end of its transaction, or of its savepoint', async (t) => {
  const db = await createDatabase(t);
  const publisher = await connect(t, db.url);
  const process = await placeEarly(publisher);
  t.deepEqual(await settled(db), { through: 0, pid: process });
  await publisher.query('ROLLBACK');
  t.deepEqual(await settled(db), { through: 1, pid: null });

  await publisher.query('BEGIN; SAVEPOINT s');
  await publisher.query('SAVEPOINT inner_one; CREATE TABLE t (); RELEASE inner_one');
  await publisher.query(`DO $$ BEGIN
    INSERT INTO outbox (channel) VALUES ('a'); SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL IMMEDIATE;
  END $$`);
  t.deepEqual(await settled(db), { through: 1, pid: process });
  await publisher.query('ROLLBACK TO s');
  t.deepEqual(await settled(db), { through: 2, pid: null });
  await publish(publisher, 'b');
  await publisher.query('COMMIT');
  t.deepEqual(await settled(db), { through: 3, pid: null });
});

test('two outboxes in one database, and those of two databases, do not wait for each other', async (t) => {
  const [db, neighbour] = [await createDatabase(t), await createDatabase(t)];
  await db.query('CREATE SCHEMA other');
  const url = new URL(db.url);
  url.searchParams.set('options', '-c search_path=other');
  await migrate(url.href, 'up');
  const other = useDatabase(url.href);
  t.teardown(() => other.pool.end());
  const outboxes = [db, neighbour, other];
  for (const outbox of outboxes) {
    const hanging = await hangInCommit(t, outbox, ['a']);
    const pids = await Promise.all(outboxes.map(async (one) => (await settled(one)).pid));
    t.deepEqual(
      pids,
      outboxes.map((one) => (one === outbox ? hanging.process : null)),
    );
    await hanging.succeed();
  }
});

/** What a role without rights on the outbox may do to look like a publisher, or to be in one's way. */
const FORGERIES: readonly (readonly [title: string, sql: (marker: Marker) => string])[] = [
  [
    'takes the locks of a commit under way, and those of publishing by PREPARE',
    ({ classid, objid }) => `BEGIN; PREPARE p AS INSERT INTO outbox_pending DEFAULT VALUES; SELECT pg_current_xact_id();
      SELECT pg_advisory_xact_lock_shared(${classid}, ${objid})`,
  ],
  [
    'takes them for the session',
    ({ classid, objid }) => `SELECT pg_advisory_lock_shared(${classid}, ${objid});
      BEGIN; PREPARE p AS INSERT INTO outbox_pending DEFAULT VALUES; SELECT pg_current_xact_id()`,
  ],
  [
    'takes them, and that of the table by nextval()',
    ({ classid, objid }) => `BEGIN; SAVEPOINT s; DO $$ BEGIN
      PERFORM nextval('outbox_pending'::regclass); EXCEPTION WHEN OTHERS THEN NULL; END $$; SELECT pg_current_xact_id();
      SELECT pg_advisory_xact_lock_shared(${classid}, ${objid})`,
  ],
  [
    'takes 5,000 shared locks of any key',
    ({ classid }) => `BEGIN; PREPARE p AS INSERT INTO outbox_pending DEFAULT VALUES; SELECT pg_current_xact_id();
      SELECT count(pg_try_advisory_lock_shared(classid, key)) FROM generate_series(0, 1249) AS key,
        (VALUES (${classid}), (0), ('outbox_pending'::regclass::oid::integer), ('outbox'::regclass::oid::integer)) AS c(classid)`,
  ],
  [
    'takes 5,000 locks of any key for itself alone',
    ({ classid, objid }) => `SELECT count(pg_try_advisory_lock(classid, key)) FROM generate_series(0, 1249) AS key,
        (VALUES (${classid}), (0), ('outbox_pending'::regclass::oid::integer), ('outbox'::regclass::oid::integer)) AS c(classid);
      SELECT pg_try_advisory_lock(${classid}, ${objid})`,
  ],
];

interface Marker {
  readonly classid: number;
  readonly objid: number;
  readonly [column: string]: unknown;
}

for (const [title, sql] of FORGERIES) {
  test(`R2: a role without rights that ${title} delays neither publishers nor delivery`, async (t) => {
    const db = await createDatabase(t);
    await publish(db, 'a', 'b', 'c');
    const hanging = await hangInCommit(t, db, ['d']);
    const marker = await single<Marker>(
      db,
      `SELECT classid::bigint::bit(32)::integer AS classid, objid::bigint::integer AS objid FROM pg_locks
       WHERE pid = $1 AND locktype = 'advisory' AND mode = 'ShareLock' AND granted AND objsubid = 2`,
      [hanging.process],
    );
    t.is(marker.objid, 3, 'it is the marker');
    const forger = await connect(t, db.url);
    // Of all servers, and without rights on ours.
    await forger.query('SET SESSION AUTHORIZATION pg_monitor');
    t.is(await outcome(forger.query('SELECT FROM outbox')), '42501');
    await forger.query(sql(marker));

    t.deepEqual(await settled(db), { through: 3, pid: hanging.process });
    await publishPromptly(t, db, 'e');
    await publishPromptly(t, db, 'f', 'g');
    await hanging.succeed();
    t.deepEqual(await settled(db), { through: 7, pid: null });
    await publishPromptly(t, db, 'h');
    t.deepEqual(await settled(db), { through: 8, pid: null });
    t.true((await advisoryLocks(db)) > 0, 'the forger still has them');
  });
}

test('a publisher that takes an old marker of its own delays delivery no longer than by a transaction that publishes', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'a');
  const publisher = await connect(t, db.url);
  const process = await placeEarly(publisher);
  await publisher.query(`DO $$ DECLARE key record; BEGIN
    SELECT classid::bigint::bit(32)::integer AS class, objid::bigint::integer AS object INTO key FROM pg_locks
      WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND mode = 'ShareLock' AND objsubid = 2;
    PERFORM pg_advisory_lock_shared(key.class, key.object);
  END $$`);
  t.deepEqual(await settled(db), { through: 1, pid: process });
  await publisher.query('COMMIT');
  await publish(publisher, 'b');
  t.deepEqual(await settled(db), { through: 3, pid: null });
  const again = await placeEarly(publisher);
  t.deepEqual(await settled(db), { through: 3, pid: again }, 'of another transaction it is worth nothing');
  await publisher.query('ROLLBACK');
});

for (const last of [
  2n ** 31n - 2n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 2n,
  2n ** 32n,
  3n * 2n ** 31n + 2n ** 30n - 1n,
]) {
  test(`commits are seen around position ${last}, of which a marker has the last 31 bits`, async (t) => {
    const db = await createDatabase(t);
    await db.query(`SELECT setval('outbox_position_seq', $1)`, [String(last)]);
    const hanging = await hangInCommit(t, db, ['a']);
    await publish(db, ...Array.from({ length: 5 }, (_, n) => String(n)));
    t.deepEqual(await settled(db), { through: Number(last), pid: hanging.process });
    const second = await hangInCommit(t, db, ['b']);
    await hanging.succeed();
    t.deepEqual(await settled(db), { through: Number(last) + 6, pid: second.process });
    await second.succeed();
    t.deepEqual(await settled(db), { through: Number(last) + 7, pid: null });
  });
}

test('the first commit of a sequence is seen, of one that was set to begin anew, too', async (t) => {
  const db = await createDatabase(t);
  t.deepEqual(await settled(db), { through: 0, pid: null });
  for (const first of [1, 5_000_000_000]) {
    await db.query(`ALTER SEQUENCE outbox_position_seq RESTART WITH ${first}`);
    t.deepEqual(await settled(db), { through: first - 1, pid: null });
    const hanging = await hangInCommit(t, db, ['a']);
    t.deepEqual(await settled(db), { through: first - 1, pid: hanging.process });
    await hanging.succeed();
    t.deepEqual(await settled(db), { through: first, pid: null });
  }
});

test('what the owner queues by hand is placed behind a marker, too', async (t) => {
  const db = await createDatabase(t);
  await db.query(`ALTER TABLE outbox DISABLE TRIGGER USER; INSERT INTO outbox (channel) SELECT 'a' FROM generate_series(1, 100);
    ALTER TABLE outbox ENABLE TRIGGER USER`);
  const owner = await connect(t, db.url);
  await owner.query('BEGIN');
  await owner.query(`DO $$ BEGIN
    INSERT INTO outbox_pending (listed) SELECT string_agg(id || ' ' || ctid, ';' ORDER BY id) FROM outbox WHERE position IS NULL;
    SET CONSTRAINTS ALL IMMEDIATE;
  END $$`);
  t.deepEqual(await settled(db), {
    through: 0,
    pid: (await single<{ pid: number }>(owner, 'SELECT pg_backend_pid() AS pid')).pid,
  });
  await owner.query('COMMIT');
  t.deepEqual(await settled(db), { through: 100, pid: null });
});

test('while somebody holds the lock of the relay that is awake nobody rings or waits, and where it is shared all ring', async (t) => {
  const db = await createDatabase(t);
  const { heard, until } = await startListening(t, db);
  const holder = await connect(t, db.url);
  await holder.query('SET SESSION AUTHORIZATION pg_monitor');
  const key = `'outbox'::regclass::oid::integer, 2`;
  await holder.query(`SELECT pg_advisory_lock(${key})`);
  await publishPromptly(t, db, '1');
  await holder.query(`SELECT pg_advisory_unlock(${key}), pg_advisory_lock_shared(${key})`);
  await publishPromptly(t, db, '2');
  await holder.query('SELECT pg_advisory_unlock_all()');
  await publishPromptly(t, db, '3');
  await until('3');
  t.deepEqual(heard, ['2', '3']);
  t.is(await advisoryLocks(db), 0);
});
