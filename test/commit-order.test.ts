/**
 * Commit order: what the triggers of migrations/ promise to publishers and to readers, on both ends of the range of
 * supported servers. Where a design that was not chosen would break a promise, the test builds it and sees it break.
 */
import test from 'ava';
import type pg from 'pg';
import { createDatabase, SERVER, type TestDatabase } from './support/database.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';
import { connect, outcome, publish, single, withoutTriggers } from './support/sessions.js';

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

test('R2: immediate constraints in a savepoint that is rolled back do not go on holding up publishers', async (t) => {
  const db = await createDatabase(t);
  const [open, other] = [await connect(t, db.url), await connect(t, db.url)];
  await open.query('BEGIN');
  await publish(open, 'open');
  await open.query('SAVEPOINT s');
  await open.query('SET CONSTRAINTS ALL IMMEDIATE');
  const waiting = publish(other, 'other');
  await untilBlocked(db);
  await open.query('ROLLBACK TO s');
  await waiting;
  await open.query('COMMIT');
  t.deepEqual(await inOrder(db), ['other', 'open']);
});

/** More than are placed at a time. */
const MANY = Array.from({ length: 300 }, (_, n) => `m${n}`);

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
