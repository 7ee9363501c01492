/**
 * Commit order under load: many writers at once, large transactions, and a queue of notifications that is full.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type pg from 'pg';
import { startEmbedded, type EmbeddedPostgres } from '../../packages/embedded-postgres/embedded.js';
import { migrate } from '../../src/postgres/migrate.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startTestRelay } from '../support/relay.js';
import { openStream } from '../support/stream.js';
import { connect, outcome, publish, single, withoutTriggers } from '../support/sessions.js';

/** A server of a test's own, with the outbox. */
async function startServer(t: ExecutionContext, settings: Record<string, string>): Promise<EmbeddedPostgres> {
  const folder = await mkdtemp(join(tmpdir(), 'outbox-relay-commit-order-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const server = await startEmbedded({
    dataDirectory: folder,
    settings: { fsync: 'off', shared_buffers: '8MB', ...settings },
  });
  t.teardown(() => server.stop('immediate'));
  await migrate(server.url, 'up');
  return server;
}

test('R1: a reader up to what is settled loses nothing to 16 concurrent writers, and what was visible comes first', async (t) => {
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
      const { through } = await single<{ through: string }>(client, 'SELECT through FROM outbox_settled()');
      const { rows } = await client.query<{ id: string; position: string }>(
        'SELECT id, position FROM outbox WHERE position > $1 AND position <= $2 ORDER BY position',
        [last, through],
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

test('R1: where transactions may be prepared, one that has published is not, whether or not a relay is awake, or another rings', async (t) => {
  const server = await startServer(t, { max_prepared_transactions: '5' });
  const [publisher, holder] = [await connect(t, server.url), await connect(t, server.url)];
  for (const key of [undefined, 2, 3]) {
    await holder.query('SELECT pg_advisory_unlock_all()');
    if (key) await holder.query(`SELECT pg_advisory_lock('outbox'::regclass::oid::integer, $1)`, [key]);
    for (const level of ['READ COMMITTED', 'SERIALIZABLE']) {
      await publisher.query(`BEGIN ISOLATION LEVEL ${level}`);
      await publish(publisher, 'a', 'b');
      t.is(await outcome(publisher.query(`PREPARE TRANSACTION 'p'`)), '0A000');
      await publisher.query(`BEGIN ISOLATION LEVEL ${level}; CREATE TABLE t (); PREPARE TRANSACTION 'p'`);
      await publisher.query(`ROLLBACK PREPARED 'p'`);
    }
  }
  await publish(publisher, 'c');
  t.deepEqual(await single(publisher, 'SELECT through, waits_for FROM outbox_settled()'), {
    through: '13',
    waits_for: null,
  });
});

/** Whether a commit of that process ends up waiting for the standby, and does not end. */
async function waitsForStandby(observer: pg.Client, pid: number, commit: Promise<unknown>): Promise<boolean> {
  const state = { isOver: false };
  void commit.finally(() => (state.isOver = true));
  for (;;) {
    const waiting = await observer.query(`SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'`, [
      pid,
    ]);
    if (state.isOver || waiting.rowCount === 1) return !state.isOver;
  }
}

const WAYS_TO_READ = ['a relay is awake', 'a relay is asleep', 'there is no relay'] as const;
for (const way of WAYS_TO_READ) {
  test(`R2: while a synchronous standby is gone and ${way}, publishers wait for it and not for each other`, async (t) => {
    const server = await startServer(t, { wal_level: 'replica', max_wal_senders: '2' });
    const [hanging, other, local, observer] = [
      await connect(t, server.url),
      await connect(t, server.url),
      await connect(t, server.url),
      await connect(t, server.url),
    ];
    const pidOf = async (client: pg.Client) =>
      (await single<{ pid: number }>(client, 'SELECT pg_backend_pid() AS pid')).pid;
    const [pid, otherPid] = [await pidOf(hanging), await pidOf(other)];
    await hanging.query('CREATE TABLE other ()');
    const relay = way === 'a relay is asleep' && (await startTestRelay(t, server.url, { SWEEP_SECONDS: '3600' }));
    const stream = relay && (await openStream(t, `${relay.url}/events?channel=*`));
    await observer.query(`ALTER SYSTEM SET synchronous_standby_names = 'gone'`);
    await observer.query('SELECT pg_reload_conf()');
    // It does not end before the server, if this test fails.
    t.teardown(() => observer.query('SELECT pg_cancel_backend(pid) FROM unnest($1::int[]) AS pid', [[pid, otherPid]]));
    // Commits wait once the checkpointer has read the setting. PostgreSQL gives a wait up that is canceled, and the commit stands.
    for (let waiting = false; !waiting;) {
      const commit = hanging.query('INSERT INTO other DEFAULT VALUES');
      waiting = await waitsForStandby(observer, pid, commit);
      if (waiting) await observer.query('SELECT pg_cancel_backend($1)', [pid]);
      await commit;
    }

    const isAwake = way === 'a relay is awake';
    if (isAwake) await observer.query(`SELECT pg_advisory_lock('outbox'::regclass::oid::integer, 2)`);
    /** Who has, or waits for, the lock that NOTIFY holds until a commit is over. */
    const notifying = async () =>
      (
        await observer.query<{ pid: number }>(
          `SELECT pid FROM pg_locks WHERE locktype = 'object' AND database = 0 AND classid = 'pg_database'::regclass AND objid = 0`,
        )
      ).rows.map((row) => row.pid);
    const committed = publish(hanging, 'hangs');
    t.true(await waitsForStandby(observer, pid, committed));
    t.deepEqual(await notifying(), isAwake ? [] : [pid]);

    await local.query(`SET synchronous_commit = local; SET statement_timeout = '10s'`);
    for (const name of ['a', 'b']) await publish(local, name);
    const otherCommitted = publish(other, 'c');
    t.true(await waitsForStandby(observer, otherPid, otherCommitted));
    t.deepEqual(await notifying(), isAwake ? [] : [pid]);
    t.deepEqual(await single(observer, 'SELECT through, waits_for FROM outbox_settled()'), {
      through: '0',
      waits_for: pid,
    });
    const names = async () =>
      (await observer.query<{ channel: string }>('SELECT channel FROM outbox ORDER BY position')).rows.map(
        ({ channel }) => channel,
      );
    t.deepEqual(await names(), ['a', 'b']);

    await observer.query('SELECT pg_cancel_backend($1)', [otherPid]);
    await otherCommitted;
    t.deepEqual(await names(), ['a', 'b', 'c']);
    await observer.query('SELECT pg_cancel_backend($1)', [pid]);
    await committed;
    t.deepEqual(await single(observer, 'SELECT through, waits_for FROM outbox_settled()'), {
      through: '4',
      waits_for: null,
    });
    t.deepEqual(await names(), ['hangs', 'a', 'b', 'c']);
    if (stream) {
      const events = await stream.untilEvents(4);
      t.deepEqual(
        events.map((event) => event.data),
        ['hangs', 'a', 'b', 'c'],
      );
    }
  });
}

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

test('R9: publishers succeed while the notification queue is full, and a relay delivers by its sweep', async (t) => {
  // 64 pages, the least there is: half a megabyte.
  const server = await startServer(t, { max_notify_queue_pages: '64' });

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
