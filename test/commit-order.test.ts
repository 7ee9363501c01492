/**
 * Commit order: what the triggers of migrations/ promise to publishers and to readers, on both ends of the range of
 * supported servers. Where a design that was not chosen would break a promise, the test builds it and sees it break.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { startEmbedded } from '../packages/embedded-postgres/embedded.js';
import { migrate } from '../src/postgres/migrate.js';
import { createDatabase, SERVER, type TestDatabase } from './support/database.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';

/** In which a publisher that nothing holds up is done, however busy the machine. */
const PROMPT_MS = 10_000;
/** A sweep that does not come while a test runs: what is delivered was rung for. */
const NO_SWEEP = { SWEEP_SECONDS: '3600' };

/** A connection for a transaction that stays open, up to the end of the test. */
async function connect(t: ExecutionContext, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  return client;
}

interface Queryable {
  query<Row extends pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<pg.QueryResult<Row>>;
}

async function single<Row extends pg.QueryResultRow>(on: Queryable, sql: string, values?: unknown[]): Promise<Row> {
  const { rows } = await on.query<Row>(sql, values);
  if (rows[0] === undefined) throw new Error(`no row: ${sql}`);
  return rows[0];
}

/** Publishes an event whose channel and data are its name. */
async function publish(on: Queryable, ...names: string[]): Promise<void> {
  await on.query('INSERT INTO outbox (channel, data) SELECT name, to_jsonb(name) FROM unnest($1::text[]) AS name', [
    names,
  ]);
}

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

async function outcome(query: Promise<unknown>): Promise<string> {
  try {
    await query;
    return 'done';
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code !== undefined) return error.code;
    throw error;
  }
}

/** The table as if our triggers had never been made. */
function withoutTriggers(db: TestDatabase): Promise<unknown> {
  return db.query('ALTER TABLE outbox DISABLE TRIGGER USER');
}

async function inOrder(db: TestDatabase): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(`SELECT data #>> '{}' AS name FROM outbox ORDER BY position`);
  return rows.map((row) => row.name);
}

async function unplaced(db: TestDatabase): Promise<number> {
  return (await single<{ n: number }>(db, 'SELECT count(*)::int AS n FROM outbox WHERE position IS NULL')).n;
}

test('R1: a reader at a position loses nothing to 16 concurrent writers, and what was visible comes first', async (t) => {
  const db = await createDatabase(t);
  const committed: string[] = [];
  const misplaced: string[] = [];
  let overtaken = 0;

  const write = async (client: pg.Client) => {
    // A run in which nobody overtook anybody would prove nothing.
    for (let n = 0; n < 60 || (overtaken === 0 && n < 1_000); n++) {
      await client.query('BEGIN');
      const { id } = await single<{ id: string }>(client, `INSERT INTO outbox (channel) VALUES ('a') RETURNING id`);
      await delay(Math.random() * 5);
      const visible = await single<{ newest: string }>(
        client,
        'SELECT coalesce(max(position), 0) AS newest FROM outbox',
      );
      await client.query('COMMIT');
      const { position } = await single<{ position: string }>(client, 'SELECT position FROM outbox WHERE id = $1', [
        id,
      ]);
      committed.push(id);
      if (BigInt(position) <= BigInt(visible.newest)) misplaced.push(id);
    }
  };

  const received: string[] = [];
  let writing = true;
  let nulls = 0;
  const read = async (client: pg.Client) => {
    let last = '0';
    for (let more = true; more;) {
      more = writing;
      const { rows } = await client.query<{ id: string; position: string }>(
        'SELECT id, position FROM outbox WHERE position > $1 ORDER BY position',
        [last],
      );
      for (const { id } of rows) {
        if (BigInt(id) < BigInt(received.at(-1) ?? 0)) overtaken += 1;
        received.push(id);
      }
      last = rows.at(-1)?.position ?? last;
      const { rowCount } = await client.query('SELECT FROM outbox WHERE position IS NULL');
      nulls += rowCount ?? 0;
    }
  };

  const clients = await Promise.all(Array.from({ length: 16 }, () => connect(t, db.url)));
  const reading = read(await connect(t, db.url));
  await Promise.all(clients.map(write));
  writing = false;
  await reading;

  t.true(committed.length >= 16 * 60);
  const lost = committed.filter((id) => !received.includes(id));
  t.deepEqual(lost, []);
  t.is(received.length, committed.length, 'received twice');
  t.deepEqual(misplaced, [], 'committed after what was visible, placed before it');
  t.is(nulls, 0, 'visible without a position');
  t.true(overtaken > 0, 'the writers never overtook each other, so this run proves nothing');
});

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

test('R1: 100,000 rows of one INSERT are placed in the order of their ids', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'before');
  await db.query(`INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(n) FROM generate_series(1, 100000) AS n`);
  await publish(db, 'after');
  t.deepEqual(
    await single(
      db,
      `SELECT count(*)::int AS rows, count(DISTINCT position)::int AS positions,
              count(*) FILTER (WHERE position <= previous)::int AS misplaced
       FROM (SELECT position, lag(position) OVER (ORDER BY id) AS previous FROM outbox) AS placed`,
    ),
    { rows: 100_002, positions: 100_002, misplaced: 0 },
  );
});

for (const isolation of ['REPEATABLE READ', 'SERIALIZABLE']) {
  test(`R9: ${isolation} publishers in parallel fail no more often than without our triggers`, async (t) => {
    const run = async (db: TestDatabase) => {
      const clients = await Promise.all(Array.from({ length: 8 }, () => connect(t, db.url)));
      const outcomes = await Promise.all(
        clients.map(async (client) => {
          const failures: string[] = [];
          for (let n = 0; n < 25; n++) {
            await client.query(`BEGIN ISOLATION LEVEL ${isolation}`);
            await publish(client, 'a', 'b');
            await delay(Math.random() * 5);
            await publish(client, 'c');
            const result = await outcome(client.query('COMMIT'));
            if (result !== 'done') failures.push(result);
          }
          return failures;
        }),
      );
      return outcomes.flat();
    };
    const [ours, plain] = [await createDatabase(t), await createDatabase(t)];
    await withoutTriggers(plain);
    t.deepEqual(await run(plain), [], 'this load fails by itself');
    t.deepEqual(await run(ours), []);
    t.deepEqual(
      await single(ours, 'SELECT count(*)::int AS rows, count(DISTINCT position)::int AS placed FROM outbox'),
      { rows: 600, placed: 600 },
    );
  });
}

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
  test(`R1: ${way.title}`, async (t) => {
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

test('R9: publishers succeed while the notification queue is full, and a relay delivers by its sweep', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'outbox-relay-queue-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const server = await startEmbedded({
    dataDirectory: folder,
    // 64 pages, the least there is: half a megabyte.
    settings: { fsync: 'off', shared_buffers: '8MB', max_notify_queue_pages: '64' },
  });
  t.teardown(() => server.stop('immediate'));
  await migrate(server.url, 'up');

  // A listener in a transaction reads nothing, and PostgreSQL keeps for it all that comes after.
  const stuck = await connect(t, server.url);
  await stuck.query('LISTEN outbox');
  await stuck.query('BEGIN');

  const publisher = await connect(t, server.url);
  const usage = async () =>
    (await single<{ usage: number }>(publisher, 'SELECT pg_notification_queue_usage() AS usage')).usage;
  const block = `DO $$ BEGIN
    FOR n IN 1..500 LOOP INSERT INTO outbox (channel, data) VALUES ('a', to_jsonb(n)); COMMIT; END LOOP;
  END $$`;
  // Each transaction rings, and an entry takes more than 32 bytes: these would fill the queue twice.
  const blocks = 64;
  for (let n = 0; n < blocks; n++) await publisher.query(block);
  const half = await usage();
  t.true(half >= 0.5 && half < 0.75, `publishers ring up to the middle of the queue, not ${half}`);

  // Others fill the rest.
  await t.throwsAsync(
    async () => {
      for (;;) await publisher.query(`SELECT pg_notify('other', repeat('x', 7000))`);
    },
    { message: /too many notifications in the NOTIFY queue/ },
  );
  const full = await usage();
  t.true(full > 0.95);
  await publisher.query(block);
  t.is(await usage(), full);

  const relay = await startTestRelay(t, server.url, { SWEEP_SECONDS: '0.1' });
  const stream = await openStream(t, `${relay.url}/events/live`);
  await publisher.query(`INSERT INTO outbox (channel, data) VALUES ('live', '"while full"')`);
  t.is((await stream.untilEvents(1))[0]?.data, 'while full');
  t.is(await usage(), full, 'nobody rang, so it was the sweep');

  // Once the listener is free, so is the queue, and publishers ring again.
  const rung = new Promise<void>((resolve) => {
    stuck.on('notification', (message) => {
      if (message.payload === String(BigInt(blocks + 1) * 500n + 2n)) resolve();
    });
  });
  await stuck.query('COMMIT');
  await publisher.query(`INSERT INTO outbox (channel, data) VALUES ('live', '"after"')`);
  await rung;
  t.is((await stream.untilEvents(2))[1]?.data, 'after');
});
