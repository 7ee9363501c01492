/**
 * Commit order: what the triggers of migrations/ promise to publishers and to readers, on both ends of the range of
 * supported servers. Where a design that was not chosen would break a promise, the test builds it and sees it break.
 */
import test from 'ava';
import type pg from 'pg';
import { createDatabase, SERVER, type TestDatabase } from './support/database.js';
import { hangInCommit } from './support/hanging-commit.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';
import { connect, outcome, publish, single, withoutTriggers, startListening } from './support/sessions.js';

/** In which a publisher that nothing holds up is done, however busy the machine. */
const PROMPT_MS = 10_000;

/** A sweep that does not come while a test runs: what is delivered was rung for. */
const NO_SWEEP = { SWEEP_SECONDS: '3600' };

/** Resolves when a session waits for a lock. PostgreSQL tells nobody, so it is asked until one does. */
async function untilBlocked(db: TestDatabase): Promise<void> {
  for (const end = Date.now() + PROMPT_MS; Date.now() < end;) {
    const { rowCount } = await db.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    if (rowCount) return;
  }
  throw new Error('a session was expected to wait for a lock');
}

/** More than are placed at a time. */
const MANY = Array.from({ length: 300 }, (_, n) => `m${n}`);

/** What settings of our names may have been set to. */
const OF_OTHERS = ['x', '-', '*', '+', '+1 (0,1)', '0 -', 'first', 'taken', ''];

async function inOrder(db: TestDatabase): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(`SELECT data #>> '{}' AS name FROM outbox ORDER BY position`);
  return rows.map((row) => row.name);
}

async function unplaced(db: TestDatabase): Promise<number> {
  return (await single<{ n: number }>(db, 'SELECT count(*)::int AS n FROM outbox WHERE position IS NULL')).n;
}

test('R1: a writer that commits late is placed late; by id, or by a position drawn at INSERT, it would be lost', async (t) => {
  const db = await createDatabase(t);
  const [slow, fast] = [await connect(t, db.url), await connect(t, db.url)];

  /** What a reader gets that looks after each commit and resumes at the last `cursor` it saw. */
  const received = async (cursor: 'id' | 'position') => {
    let { last } = await single<{ last: string }>(db, `SELECT coalesce(max(${cursor}), 0) AS last FROM outbox`);
    const names: string[] = [];
    const look = async () => {
      const { rows } = await db.query<{ name: string; cursor: string }>(
        `SELECT channel AS name, ${cursor} AS cursor FROM outbox WHERE ${cursor} > $1 ORDER BY ${cursor}`,
        [last],
      );
      names.push(...rows.map((row) => row.name));
      last = rows.at(-1)?.cursor ?? last;
    };
    await slow.query('BEGIN');
    await publish(slow, 'slow');
    await fast.query('BEGIN');
    await publish(fast, 'fast');
    await fast.query('COMMIT');
    await look();
    await slow.query('COMMIT');
    await look();
    return names;
  };

  t.deepEqual(await received('position'), ['fast', 'slow']);
  t.deepEqual(await received('id'), ['fast']);
  await withoutTriggers(db);
  t.deepEqual(await received('id'), ['fast']);
  t.is(await unplaced(db), 2, 'nothing but the triggers places a row');
  await db.query(`ALTER TABLE outbox ALTER position SET DEFAULT nextval('outbox_position_seq')`);
  t.deepEqual(await received('position'), ['fast']);
});

test('R2: publishing never deadlocks with deferred foreign keys, as placing in one round would', async (t) => {
  const db = await createDatabase(t);
  await db.query(`
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (parent_id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO parent VALUES (1)`);
  const [first, second] = [await connect(t, db.url), await connect(t, db.url)];

  const race = async () => {
    for (const client of [first, second]) await client.query(`SET deadlock_timeout = '50ms'`);
    await first.query('BEGIN');
    await publish(first, 'first');
    await first.query('INSERT INTO child VALUES (1)');
    await second.query('BEGIN');
    await second.query('SELECT FROM parent WHERE id = 1 FOR UPDATE');
    await publish(second, 'second');
    const commit = outcome(first.query('COMMIT'));
    await untilBlocked(db);
    return [...(await Promise.all([commit, outcome(second.query('COMMIT'))]))].sort();
  };

  t.deepEqual(await race(), ['done', 'done']);
  t.deepEqual(await inOrder(db), ['second', 'first']);

  await withoutTriggers(db);
  await db.query(`
    CREATE FUNCTION one_round() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      PERFORM pg_advisory_xact_lock(1);
      UPDATE outbox SET position = nextval('outbox_position_seq') WHERE id = NEW.id;
      RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER one_round AFTER INSERT ON outbox
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION one_round()`);
  t.deepEqual(await race(), ['40P01', 'done'], 'the scenario does not provoke what it is to rule out');
});

test('R2: an open transaction, published in or not, delays neither other publishers nor their events', async (t) => {
  const db = await createDatabase(t);
  const relay = await startTestRelay(t, db.url, NO_SWEEP);
  const stream = await openStream(t, `${relay.url}/events?channel=*`);
  const [open, snapshot, other] = [await connect(t, db.url), await connect(t, db.url), await connect(t, db.url)];
  // An old snapshot and a transaction id of its own hold back what a reader that went by xmin would wait for.
  await snapshot.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await snapshot.query('CREATE TABLE unrelated ()');
  await open.query('BEGIN');
  await publish(open, 'open');

  await other.query(`SET statement_timeout = ${PROMPT_MS}`);
  for (const name of ['a', 'b', 'c']) await publish(other, name);
  const events = await stream.untilEvents(3);
  t.deepEqual(
    events.map((event) => event.data),
    ['a', 'b', 'c'],
  );
  const { idle } = await single<{ idle: number }>(
    db,
    `SELECT count(*)::int AS idle FROM pg_stat_activity
     WHERE datname = current_database() AND state = 'idle in transaction'`,
  );
  t.is(idle, 2, 'both transactions are still open');

  await open.query('COMMIT');
  t.is((await stream.untilEvents(4))[3]?.data, 'open');
  await snapshot.query('ROLLBACK');
});

/** Who has the bell. */
async function ringing(db: TestDatabase): Promise<number[]> {
  const { rows } = await db.query<{ pid: number }>(
    `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 'outbox'::regclass AND objid = 3 AND objsubid = 2
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );
  return rows.map(({ pid }) => pid);
}

for (const ending of ['succeed', 'fail'] as const) {
  test(`R2: publishers leave ringing to one whose commit hangs, wait for nobody, and ring again when it did ${ending}`, async (t) => {
    const db = await createDatabase(t);
    const { heard, until } = await startListening(t, db);
    const hanging = await hangInCommit(t, db, ['hangs']);
    t.deepEqual(await ringing(db), [hanging.process]);
    const others = await Promise.all(['a', 'b', 'c'].map(() => connect(t, db.url)));
    for (const other of others) await other.query(`SET statement_timeout = ${PROMPT_MS}`);
    await Promise.all(others.map((other, n) => publish(other, `at once ${n}`)));
    await publish(db, 'at last');
    await hanging[ending]();
    t.deepEqual(await ringing(db), []);
    await publish(db, 'after');
    await until('6');
    t.deepEqual(heard, ending === 'succeed' ? ['1', '6'] : ['6']);
  });
}

test('R2: what takes a publication back gives the bell back with it', async (t) => {
  const db = await createDatabase(t);
  const { heard, until } = await startListening(t, db);
  const client = await connect(t, db.url);
  await client.query('BEGIN');
  await client.query('SAVEPOINT s');
  // Placed early, as by a statement that makes constraints immediate twice.
  await client.query(`DO $$ BEGIN
    INSERT INTO outbox (channel) VALUES ('lost'); SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL IMMEDIATE;
  END $$`);
  t.is((await ringing(db)).length, 1);
  await client.query('ROLLBACK TO s');
  t.deepEqual(await ringing(db), []);
  await publish(db, 'beside');
  await publish(client, 'a');
  await client.query('COMMIT');
  await until('3');
  t.deepEqual(heard, ['2', '3']);
});

test('R2: a role that holds the bell stops no publisher', async (t) => {
  const db = await createDatabase(t);
  const { heard, until } = await startListening(t, db);
  const [holder, publisher] = [await connect(t, db.url), await connect(t, db.url)];
  await holder.query('SET SESSION AUTHORIZATION pg_monitor');
  await publisher.query(`SET statement_timeout = ${PROMPT_MS}`);
  for (const lock of ['pg_advisory_lock', 'pg_advisory_lock_shared']) {
    await holder.query(`SELECT ${lock}('outbox'::regclass::oid::integer, 3)`);
    await publish(publisher, lock);
    await holder.query('SELECT pg_advisory_unlock_all()');
  }
  await publish(publisher, 'after');
  await until('3');
  t.deepEqual(heard, ['3']);
  t.deepEqual(await inOrder(db), ['pg_advisory_lock', 'pg_advisory_lock_shared', 'after']);
});

for (const ending of ['succeed', 'fail'] as const) {
  test(`R6: events of publishers who left ringing to another are delivered when that one did ${ending}`, async (t) => {
    const db = await createDatabase(t);
    const relay = await startTestRelay(t, db.url, NO_SWEEP);
    const stream = await openStream(t, `${relay.url}/events?channel=*`);
    const hanging = await hangInCommit(t, db, ['hangs']);
    await publish(db, 'a');
    await publish(db, 'b', 'c');
    await hanging[ending]();
    const expected = [...(ending === 'succeed' ? ['1'] : []), 'a', 'b', 'c'];
    const events = await stream.untilEvents(expected.length);
    t.deepEqual(
      events.map((event) => event.data),
      expected,
    );
  });
}

test('R6: events are delivered, by all relays, while a role that publishes nothing holds the bell', async (t) => {
  const db = await createDatabase(t);
  const relays = await Promise.all([1, 2].map(() => startTestRelay(t, db.url, NO_SWEEP)));
  const streams = await Promise.all(relays.map((relay) => openStream(t, `${relay.url}/events?channel=*`)));
  const holder = await connect(t, db.url);
  await holder.query('SET SESSION AUTHORIZATION pg_monitor');
  await holder.query(`SELECT pg_advisory_lock('outbox'::regclass::oid::integer, 3)`);
  for (const [n, name] of ['a', 'b', 'c'].entries()) {
    await publish(db, name);
    for (const stream of streams) t.is((await stream.untilEvents(n + 1))[n]?.data, name);
  }
});

// Finding a row by an index would leave a predicate lock on a page of it that all publishers insert into.
test('R9: a SERIALIZABLE publisher that has read what another changed commits, as without our triggers', async (t) => {
  const run = async (db: TestDatabase) => {
    await db.query('CREATE TABLE account (id int PRIMARY KEY, balance int); INSERT INTO account VALUES (1, 0)');
    const [reader, writer, publisher] = [await connect(t, db.url), await connect(t, db.url), await connect(t, db.url)];
    for (const client of [reader, writer, publisher]) await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
    await reader.query('SELECT balance FROM account');
    await publisher.query('SELECT');
    await writer.query('UPDATE account SET balance = 1');
    await writer.query('COMMIT');
    await publish(publisher, 'publisher');
    await publisher.query('COMMIT');
    const results = [await outcome(publish(reader, 'reader')), await outcome(reader.query('COMMIT'))];
    return results;
  };
  const [ours, plain] = [await createDatabase(t), await createDatabase(t)];
  await withoutTriggers(plain);
  t.deepEqual(await run(plain), ['done', 'done'], 'this load fails by itself');
  t.deepEqual(await run(ours), ['done', 'done']);
});

test('R2: constraints that are made immediate delay neither publishers nor delivery, savepoints and all', async (t) => {
  const db = await createDatabase(t);
  const [open, other] = [await connect(t, db.url), await connect(t, db.url)];
  await open.query('BEGIN');
  await publish(open, 'open');
  await open.query('SAVEPOINT s');
  await open.query('SET CONSTRAINTS ALL IMMEDIATE');
  await publish(open, 'lost');
  await publish(other, 'during');
  await open.query('ROLLBACK TO s');
  await open.query('SET CONSTRAINTS ALL IMMEDIATE');
  await publish(open, 'open 2');
  await publish(other, 'after');
  t.deepEqual(await single(db, 'SELECT through, waits_for FROM outbox_settled()'), { through: '2', waits_for: null });
  await open.query('COMMIT');
  t.deepEqual(await inOrder(db), ['during', 'after', 'open', 'open 2']);
});

test('R2: no deadlock with constraints made immediate and a deferred trigger that inserts what has a deferred foreign key', async (t) => {
  const db = await createDatabase(t);
  await db.query(`
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (parent_id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE thing (id int);
    INSERT INTO parent VALUES (1);
    CREATE FUNCTION add_child() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO child VALUES (NEW.id);
      RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER add_child AFTER INSERT ON thing
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION add_child()`);
  const [site, migration] = [await connect(t, db.url), await connect(t, db.url)];
  for (const client of [site, migration]) await client.query(`SET deadlock_timeout = '50ms'`);
  await migration.query('BEGIN');
  await migration.query('SELECT FROM parent WHERE id = 1 FOR UPDATE');
  await publish(migration, 'migration');
  await migration.query('SET CONSTRAINTS ALL IMMEDIATE');
  // Its foreign key is checked in the second round, after its event has been placed.
  await site.query('BEGIN');
  await publish(site, 'site');
  await site.query('INSERT INTO thing VALUES (1)');
  const committed = outcome(site.query('COMMIT'));
  await untilBlocked(db);
  await publish(migration, 'migration 2');
  t.is(await outcome(migration.query('COMMIT')), 'done');
  t.is(await committed, 'done');
  t.deepEqual(await inOrder(db), ['site', 'migration', 'migration 2']);
});

test('R1: a trigger of the application that keeps an event from its position fails the transaction, and says so', async (t) => {
  const db = await createDatabase(t);
  await db.query(`
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER keep BEFORE UPDATE ON outbox FOR EACH ROW WHEN (NEW.channel IN ('kept', 'm7')) EXECUTE FUNCTION keep()`);
  for (const names of [['kept'], MANY])
    await t.throwsAsync(publish(db, ...names), { message: /keeps an event from getting its position/ });
  await publish(db, 'a', 'b');
  t.deepEqual(await inOrder(db), ['a', 'b']);
  t.is(await unplaced(db), 0);
});

interface Way {
  /** What holds, as the test's title. */
  readonly title: string;
  readonly run: (client: pg.Client) => Promise<unknown>;
  /** The names that were committed, in commit order. */
  readonly published: readonly string[];
  readonly only?: 'newest';
}

/** Every way to publish, from one session: what is committed is placed, rung for and delivered, in order, once. */
const WAYS: readonly Way[] = [
  {
    title: 'a transaction that is rolled back publishes nothing',
    async run(client) {
      await client.query('BEGIN');
      await publish(client, 'lost');
      await client.query('ROLLBACK');
    },
    published: [],
  },
  {
    title: 'of a savepoint that is rolled back nothing is published, and all around it is',
    async run(client) {
      await client.query('BEGIN');
      await publish(client, 'a');
      await client.query('SAVEPOINT s');
      await publish(client, 'lost');
      await client.query('ROLLBACK TO s');
      await publish(client, 'b');
      await client.query('COMMIT');
    },
    published: ['a', 'b'],
  },
  {
    title: 'a savepoint that is released publishes with its transaction',
    async run(client) {
      await client.query('BEGIN');
      await publish(client, 'a');
      await client.query('SAVEPOINT s');
      await publish(client, 'b');
      await client.query('RELEASE s');
      await publish(client, 'c');
      await client.query('COMMIT');
    },
    published: ['a', 'b', 'c'],
  },
  {
    title: 'a function that catches an error publishes what it did not take back',
    run: (client) =>
      client.query(`DO $$ BEGIN
        INSERT INTO outbox (channel, data) VALUES ('a', '"a"');
        BEGIN
          INSERT INTO outbox (channel, data) VALUES ('lost', '"lost"');
          PERFORM 1 / 0;
        EXCEPTION WHEN division_by_zero THEN
          INSERT INTO outbox (channel, data) VALUES ('b', '"b"');
        END;
      END $$`),
    published: ['a', 'b'],
  },
  {
    title: 'COPY publishes its lines in order',
    // The program's output is `a,"a"` and so on, as CSV has it.
    run: (client) =>
      client.query(
        `COPY outbox (channel, data) FROM PROGRAM 'for c in a b c; do echo "$c,\\"\\"\\"$c\\"\\"\\""; done' (FORMAT csv)`,
      ),
    published: ['a', 'b', 'c'],
  },
  {
    title: 'an INSERT of several rows publishes them in order',
    run: (client) => client.query(`INSERT INTO outbox (channel, data) VALUES ('a', '"a"'), ('b', '"b"'), ('c', '"c"')`),
    published: ['a', 'b', 'c'],
  },
  {
    title: 'ON CONFLICT DO NOTHING publishes what was inserted, and an INSERT of nothing is no error',
    async run(client) {
      await client.query(`CREATE UNIQUE INDEX once ON outbox (channel) WHERE event = 'once'`);
      const insert = (values: string) =>
        client.query(`INSERT INTO outbox (channel, event, data) VALUES ${values} ON CONFLICT DO NOTHING`);
      await insert(`('a', 'once', '"a"'), ('a', 'once', '"again"'), ('b', 'once', '"b"')`);
      await insert(`('a', 'once', '"again"')`);
      await client.query(`INSERT INTO outbox (channel) SELECT 'a' WHERE false`);
    },
    published: ['a', 'b'],
  },
  {
    title: 'every INSERT of a statement with several is published',
    run: (client) =>
      client.query(`
        WITH first AS (INSERT INTO outbox (channel, data) VALUES ('a', '"a"') RETURNING id),
             second AS (INSERT INTO outbox (channel, data) SELECT 'b', '"b"' FROM first RETURNING id)
        INSERT INTO outbox (channel, data) SELECT 'c', '"c"' FROM second`),
    published: ['a', 'b', 'c'],
  },
  {
    title: 'MERGE publishes what it inserts',
    run: (client) =>
      client.query(`
        MERGE INTO outbox USING (VALUES ('a', '"a"'::jsonb), ('b', '"b"')) AS v (channel, data) ON false
        WHEN NOT MATCHED THEN INSERT (channel, data) VALUES (v.channel, v.data)`),
    published: ['a', 'b'],
    only: 'newest',
  },
  {
    title: 'constraints that are made immediate place what there is, and what follows',
    async run(client) {
      await client.query('BEGIN');
      await publish(client, 'a');
      await client.query('SET CONSTRAINTS ALL IMMEDIATE');
      await publish(client, 'b', 'c');
      await client.query('SET CONSTRAINTS ALL DEFERRED');
      await publish(client, 'd');
      await client.query('COMMIT');
    },
    published: ['a', 'b', 'c', 'd'],
  },
  {
    title: 'constraints that are made immediate in a savepoint that is rolled back leave nothing unplaced',
    async run(client) {
      await client.query('BEGIN');
      await publish(client, 'a');
      await client.query('SAVEPOINT s');
      await client.query('SET CONSTRAINTS ALL IMMEDIATE');
      await publish(client, 'lost');
      await client.query('ROLLBACK TO s');
      await publish(client, 'b');
      await client.query('COMMIT');
    },
    published: ['a', 'b'],
  },
  {
    title: 'what is redacted or deleted in its own transaction is published as it is committed',
    async run(client) {
      await client.query('BEGIN');
      await publish(client, 'secret', 'gone', 'b');
      await client.query(`UPDATE outbox SET data = '"a"' WHERE channel = 'secret'`);
      await client.query(`DELETE FROM outbox WHERE channel = 'gone'`);
      await client.query('COMMIT');
    },
    published: ['a', 'b'],
  },
  {
    title: 'of many rows, some of them redacted or deleted in the same transaction, what is left is published in order',
    async run(client) {
      await client.query('BEGIN');
      await publish(client, 'first', ...MANY);
      await client.query(`UPDATE outbox SET data = to_jsonb('now ' || channel) WHERE channel IN ('m7', 'm250')`);
      await client.query(`DELETE FROM outbox WHERE channel IN ('m0', 'm150', 'm299')`);
      await publish(client, 'end');
      await client.query('COMMIT');
    },
    published: [
      'first',
      ...MANY.filter((name) => !['m0', 'm150', 'm299'].includes(name)).map((name) =>
        ['m7', 'm250'].includes(name) ? `now ${name}` : name,
      ),
      'end',
    ],
  },
  {
    title: 'many rows under immediate constraints are published in order',
    async run(client) {
      await client.query('BEGIN');
      await client.query('SET CONSTRAINTS ALL IMMEDIATE');
      await publish(client, ...MANY);
      await publish(client, 'end');
      await client.query('COMMIT');
    },
    published: [...MANY, 'end'],
  },
  ...['outbox_1_reach_second_round', 'outbox_2_place'].map((trigger): Way => ({
    title: `with ${trigger} alone made immediate, savepoints and all, everything is published in order`,
    async run(client) {
      await client.query('BEGIN');
      await client.query(`SET CONSTRAINTS ${trigger} IMMEDIATE`);
      await publish(client, 'a');
      await client.query('SAVEPOINT s');
      await publish(client, 'lost', ...MANY);
      await client.query('ROLLBACK TO s');
      await publish(client, 'b', 'c');
      await client.query('SAVEPOINT s');
      await publish(client, 'lost', ...MANY);
      await client.query('ROLLBACK TO s');
      await publish(client, 'd', ...MANY);
      await client.query('COMMIT');
    },
    published: ['a', 'b', 'c', 'd', ...MANY],
  })),
  {
    title: 'ids that a publisher chooses are published as they were inserted',
    run: (client) =>
      client.query(`
        INSERT INTO outbox (id, channel, data) OVERRIDING SYSTEM VALUE
        VALUES (7000, 'a', '"a"'), (9000, 'b', '"b"'), (8000, 'c', '"c"')`),
    published: ['a', 'b', 'c'],
  },
  {
    title: 'transactions of a session do not take each other for their own, committed or not',
    async run(client) {
      for (const [name, end] of [
        ['lost', 'ROLLBACK'],
        ['a', 'COMMIT'],
        ['b', 'COMMIT'],
      ] as const) {
        await client.query('BEGIN');
        await publish(client, name, `${name}2`, `${name}3`);
        await client.query(end);
      }
    },
    published: ['a', 'a2', 'a3', 'b', 'b2', 'b3'],
  },
  {
    title: 'a deferred trigger of the application may publish while its transaction commits',
    async run(client) {
      await client.query(`
        CREATE TABLE thing (id int);
        CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO outbox (channel, data) VALUES ('b', '"b"'), ('c', '"c"');
          RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER announce AFTER INSERT ON thing
          DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION announce()`);
      await client.query('BEGIN');
      await client.query('INSERT INTO thing VALUES (1)');
      await publish(client, 'a');
      await client.query('COMMIT');
    },
    published: ['a', 'b', 'c'],
  },
  {
    title:
      'triggers of the application on outbox may publish themselves, before and after each row, and when it is placed',
    async run(client) {
      await client.query(`
        CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO public.outbox (channel, data) VALUES (TG_ARGV[0], to_jsonb(TG_ARGV[0]));
          RETURN NEW;
        END $$;
        CREATE TRIGGER before BEFORE INSERT ON outbox FOR EACH ROW WHEN (NEW.channel = 'b') EXECUTE FUNCTION follow('a');
        CREATE TRIGGER zafter AFTER INSERT ON outbox FOR EACH ROW WHEN (NEW.channel = 'b') EXECUTE FUNCTION follow('c');
        CREATE TRIGGER placed AFTER UPDATE OF position ON outbox FOR EACH ROW WHEN (NEW.channel = 'b') EXECUTE FUNCTION follow('d')`);
      await publish(client, 'b');
    },
    published: ['a', 'b', 'c', 'd'],
  },
  {
    title: 'deferred triggers of the application may publish in each round, under immediate constraints too',
    async run(client) {
      await client.query(`
        CREATE TABLE thing (id int);
        CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF NEW.id = 2 THEN SET CONSTRAINTS ALL IMMEDIATE; END IF;
          INSERT INTO outbox (channel, data) SELECT name, to_jsonb(name) FROM concat('round ', NEW.id) AS name;
          IF NEW.id < 5 THEN INSERT INTO thing VALUES (NEW.id + 1); END IF;
          IF NEW.id = 3 THEN SET CONSTRAINTS announce DEFERRED; END IF;
          RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER announce AFTER INSERT ON thing
          DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION announce()`);
      await client.query('BEGIN');
      await publish(client, 'a');
      await client.query('INSERT INTO thing VALUES (1)');
      await client.query('COMMIT');
    },
    published: ['a', 'round 1', 'round 2', 'round 3', 'round 4', 'round 5'],
  },
  {
    title: 'what one message publishes and commits stays after what was published under immediate constraints',
    async run(client) {
      for (const [n, which] of ['ALL', 'outbox_1_reach_second_round', 'outbox_2_place'].entries()) {
        await client.query('BEGIN');
        await client.query(`SET CONSTRAINTS ${which} IMMEDIATE`);
        await publish(client, `${n} first`);
        await client.query(`INSERT INTO outbox (channel, data)
          SELECT 'm', to_jsonb('${n} ' || i) FROM generate_series(1, 100) AS i; COMMIT`);
      }
    },
    published: [0, 1, 2].flatMap((n) => [`${n} first`, ...Array.from({ length: 100 }, (_, i) => `${n} ${i + 1}`)]),
  },
  {
    title: 'constraints that are made immediate and deferred, again and again, leave everything in order',
    async run(client) {
      await client.query('BEGIN');
      for (let n = 0; n < 12; n += 1) {
        await publish(client, `${n}`, `${n}b`);
        if (n % 4 === 2) await client.query('SAVEPOINT s');
        await client.query(
          `SET CONSTRAINTS ${['ALL', 'outbox_2_place'][n % 2] ?? ''} ${n % 3 === 0 ? 'DEFERRED' : 'IMMEDIATE'}`,
        );
        if (n % 4 === 3) await client.query('RELEASE s');
      }
      await client.query('COMMIT');
    },
    published: Array.from({ length: 12 }, (_, n) => [`${n}`, `${n}b`]).flat(),
  },
  {
    title: 'constraints that one statement makes immediate twice have their events placed before the commit, in order',
    async run(client) {
      await client.query('BEGIN');
      await client.query(`DO $$ BEGIN
        INSERT INTO outbox (channel, data) VALUES ('a', '"a"'), ('b', '"b"');
        SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL IMMEDIATE;
        INSERT INTO outbox (channel, data) VALUES ('c', '"c"');
        SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED;
      END $$`);
      await publish(client, 'd', 'e');
      await client.query('COMMIT');
    },
    published: ['a', 'b', 'c', 'd', 'e'],
  },
  {
    title: 'who resets all settings in a transaction loses no event',
    async run(client) {
      await client.query('BEGIN');
      await client.query('SET CONSTRAINTS ALL IMMEDIATE');
      await publish(client, 'a', 'b', 'c');
      await client.query('RESET ALL');
      await client.query('COMMIT');
    },
    published: ['a', 'b', 'c'],
  },
  {
    title: 'what a session has set under the names of our settings is not believed',
    async run(client) {
      for (const [n, value] of OF_OTHERS.entries()) {
        for (const name of ['listed', 'marker', 'put_off']) {
          await client.query(`SET outbox.${name} = '${value}'`);
          await publish(client, `${name}${n}`);
          await client.query('BEGIN');
          await publish(client, `${name}${n}a`, `${name}${n}b`, `${name}${n}c`);
          await client.query('COMMIT');
        }
      }
    },
    published: OF_OTHERS.flatMap((_, n) =>
      ['listed', 'marker', 'put_off'].flatMap((name) => ['', 'a', 'b', 'c'].map((end) => `${name}${n}${end}`)),
    ),
  },
  {
    title: 'a procedure that commits again and again publishes each time',
    async run(client) {
      await client.query(`
        CREATE PROCEDURE several() LANGUAGE plpgsql AS $$ BEGIN
          FOR n IN 1..3 LOOP
            INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(n || name) FROM unnest(ARRAY['a', 'b', 'c']) AS name;
            IF n = 2 THEN ROLLBACK; ELSE COMMIT; END IF;
          END LOOP;
        END $$`);
      await client.query('CALL several()');
    },
    published: ['1a', '1b', '1c', '3a', '3b', '3c'],
  },
  {
    title: 'several statements in one message publish in order, in one transaction and in several',
    async run(client) {
      const insert = (name: string) => `INSERT INTO outbox (channel, data) VALUES ('${name}', '"${name}"')`;
      await client.query(`${insert('a')}; ${insert('b')}`);
      await client.query(
        `BEGIN; ${insert('c')}; SET CONSTRAINTS ALL IMMEDIATE; ${insert('d')}; COMMIT; ${insert('e')}`,
      );
      await client.query(`BEGIN; ${insert('f')}`);
      await client.query(`${insert('g')}; COMMIT; BEGIN; ${insert('h')}; COMMIT`);
    },
    published: ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'],
  },
  ...['REPEATABLE READ', 'SERIALIZABLE'].map((isolation): Way => ({
    title: `in ${isolation} rows are placed in order, changed ones too, and under immediate constraints`,
    async run(client) {
      await client.query(`BEGIN ISOLATION LEVEL ${isolation}`);
      await publish(client, 'a', ...MANY);
      await client.query(`UPDATE outbox SET data = '"b"' WHERE channel = 'm3'`);
      await client.query(`DELETE FROM outbox WHERE channel IN ('m0', 'm200')`);
      await client.query('SET CONSTRAINTS ALL IMMEDIATE');
      await publish(client, 'end');
      await client.query('COMMIT');
    },
    published: [
      'a',
      ...MANY.filter((name) => name !== 'm0' && name !== 'm200').map((name) => (name === 'm3' ? 'b' : name)),
      'end',
    ],
  })),
];

for (const way of WAYS) {
  if ((way.only ?? SERVER) !== SERVER) continue;
  // One by one: a relay for each at once would keep all of them waiting for their connections.
  test.serial(`R1: ${way.title}`, async (t) => {
    const db = await createDatabase(t);
    const relay = await startTestRelay(t, db.url, NO_SWEEP);
    const stream = await openStream(t, `${relay.url}/events?channel=*`);
    await db.withClient(way.run);
    await publish(db, 'last');

    const expected = [...way.published, 'last'];
    t.deepEqual(await inOrder(db), expected);
    t.is(await unplaced(db), 0);
    const events = await stream.untilEvents(expected.length);
    t.deepEqual(
      events.map((event) => event.data),
      expected,
    );
  });
}
