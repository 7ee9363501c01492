/**
 * Retention: what is old goes, in the order of commits and no further, while others publish, replay and redact; and every
 * cursor is honoured or told that it can't be. On both ends of the range of supported servers where SQL is at stake.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { prune, type Outcome } from '../src/admin/prune.js';
import { startRetention } from '../src/admin/retention.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { startObservedRelay } from './support/observed-relay.js';
import { startRelayProcess } from './support/relay-process.js';
import { startTestRelay } from './support/relay.js';
import { openStream, type TestStream } from './support/stream.js';

const HOUR = 3600;
/** Of a batch, in src/admin/retention.ts. */
const BATCH = 2000;
const POLL_MS = 20;
/** What does not happen has had this long to happen. */
const LEEWAY_MS = 500;

interface Pruned {
  readonly outcome: Outcome;
  /** Rows of each batch. */
  readonly batches: number[];
  readonly rows: number;
}

async function pruneOnce(url: string, keepSeconds: number, onFirst?: () => void): Promise<Pruned> {
  const batches: number[] = [];
  const outcome = await prune({
    url,
    keepSeconds,
    onBatch(rows) {
      batches.push(rows);
      if (batches.length === 1) onFirst?.();
    },
  });
  return { outcome, batches, rows: batches.reduce((sum, rows) => sum + rows, 0) };
}

/** Publishes an event on channel `a` whose transaction began so many hours ago. */
async function publish(db: TestDatabase, data: string, hoursAgo = 0, rows = 1): Promise<string> {
  const { rows: inserted } = await db.query<{ id: string }>(
    `INSERT INTO outbox (channel, data, created_at)
     SELECT 'a', to_jsonb($1::text), now() - make_interval(hours => $2) FROM generate_series(1, $3::integer) RETURNING id`,
    [data, hoursAgo, rows],
  );
  return inserted.at(-1)?.id ?? '';
}

/** Data of what is in the table, in order. */
async function left(db: TestDatabase): Promise<string[]> {
  const { rows } = await db.query<{ data: string }>(`SELECT data #>> '{}' AS data FROM outbox ORDER BY position`);
  return rows.map((row) => row.data);
}

async function floor(db: TestDatabase): Promise<string> {
  return (await db.query<{ id: string }>('SELECT id FROM outbox_floor')).rows[0]?.id ?? '';
}

async function untilLeft(db: TestDatabase, count: number): Promise<void> {
  while ((await db.query('SELECT FROM outbox LIMIT $1', [count + 1])).rowCount !== count) await delay(POLL_MS);
}

async function resetOf(stream: TestStream): Promise<unknown> {
  return JSON.parse((await stream.until((frame) => frame.event === 'stream-reset')).data ?? '');
}

/** What a retention logs, and a way to wait for it. */
function createLog() {
  const entries: { level: number; msg: string; rows?: number }[] = [];
  const waiting = new Set<() => void>();
  const logger = pino(
    { level: 'debug', base: null },
    {
      write(line: string) {
        entries.push(JSON.parse(line) as (typeof entries)[number]);
        for (const look of waiting) look();
      },
    },
  );
  const until = (message: RegExp) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!entries.some(({ msg }) => message.test(msg))) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  return { entries, logger, until };
}

async function startTestRetention(t: ExecutionContext, url: string, keepSeconds: number) {
  const log = createLog();
  const retention = await startRetention({ url, keepSeconds, logger: log.logger });
  t.teardown(retention.stop);
  return { retention, ...log };
}

const database = (t: ExecutionContext) => createDatabase(t);

test('R4: after pruning, the newest event that went resumes, one before is told so, one that is kept resumes exactly', async (t) => {
  const db = await database(t);
  const ids: string[] = [];
  for (const [index, hours] of [30, 20, 10, 3, 2, 1].entries()) ids.push(await publish(db, String(index + 1), hours));
  const relay = await startTestRelay(t, db.url);
  const open = (id: string | undefined) => openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': id });

  t.like(await pruneOnce(db.url, 5 * HOUR), { outcome: 'done', rows: 3 });
  t.deepEqual(await left(db), ['4', '5', '6']);
  for (const [id, expected] of [
    [ids[2], ['4', '5', '6']],
    [ids[4], ['6']],
  ] as const) {
    const stream = await open(id);
    await stream.untilEvents(expected.length);
    t.deepEqual(
      stream.events.map(({ data }) => data),
      expected,
    );
    t.false(stream.frames.some(({ event }) => event === 'stream-reset'));
  }
  t.deepEqual(await resetOf(await open(ids[1])), { reason: 'expired', lastEventId: ids[1] });
  t.like(await pruneOnce(db.url, 5 * HOUR), { outcome: 'done', rows: 0 });
});

test('R3: all that is old goes, the newest too, and a client that had it resumes', async (t) => {
  const db = await database(t);
  await publish(db, '1', 3);
  const newest = await publish(db, '2', 2);
  t.like(await pruneOnce(db.url, HOUR), { rows: 2 });
  t.is(await floor(db), newest);
  const relay = await startTestRelay(t, db.url);
  await publish(db, '3');
  const stream = await openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': newest });
  t.is((await stream.untilEvents(1))[0]?.data, '3');
});

test('R4: nothing is taken out of the middle: what committed late waits for the younger before it', async (t) => {
  const db = await database(t);
  await publish(db, 'old', 9);
  const before = await publish(db, 'younger', 2);
  await publish(db, 'late', 8);
  await publish(db, 'youngest', 1);
  t.like(await pruneOnce(db.url, 5 * HOUR), { rows: 1 });
  t.deepEqual(await left(db), ['younger', 'late', 'youngest']);

  const relay = await startTestRelay(t, db.url);
  const stream = await openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': before });
  t.is((await stream.untilEvents(2))[0]?.data, 'late');
  t.like(await pruneOnce(db.url, 1.5 * HOUR), { rows: 2 });
  t.deepEqual(await left(db), ['youngest']);
});

test('what somebody left below the floor goes too, once it is old', async (t) => {
  const db = await database(t);
  await publish(db, 'older', 9, BATCH + 10);
  await publish(db, 'old', 4);
  const middle = await publish(db, 'deleted', 3);
  await publish(db, 'kept', 1);
  await db.query('DELETE FROM outbox WHERE id = $1', [middle]);
  t.is(await floor(db), middle);
  t.deepEqual(await pruneOnce(db.url, 5 * HOUR), { outcome: 'done', batches: [BATCH, 10], rows: BATCH + 10 });
  t.deepEqual(await left(db), ['old', 'kept']);
  t.like(await pruneOnce(db.url, 2 * HOUR), { rows: 1 });
  t.deepEqual(await left(db), ['kept']);
  t.is(await floor(db), middle);
});

test.serial(
  'an old transaction elsewhere does not make a batch walk what the batches before it have deleted',
  async (t) => {
    const rows = 15 * BATCH;
    const db = await database(t);
    await publish(db, 'old', 2, rows);
    await db.query('VACUUM ANALYZE outbox');
    // Entries of the index that were looked at, those of deleted rows included.
    const read = async () => {
      const { rows: found } = await db.query<{ read: number }>(
        `SELECT idx_tup_read::integer AS read FROM pg_stat_user_indexes WHERE indexrelname = 'outbox_position'`,
      );
      return found[0]?.read ?? 0;
    };
    const before = await read();
    await db.withClient(async (old) => {
      await old.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      await old.query('SELECT txid_current()');
      t.like(await pruneOnce(db.url, HOUR), { outcome: 'done', rows });
      // Counted when the session has ended, and by the oldest server somewhat later.
      while ((await read()) - before < 2 * rows) await delay(POLL_MS);
      await delay(LEEWAY_MS);
      // Each row twice by its own batch, and once more for what may stand below the floor.
      t.true((await read()) - before < 4 * rows, `${((await read()) - before) / rows} times`);
    });
  },
);

test('while another prunes it leaves that to the other', async (t) => {
  const db = await database(t);
  await publish(db, 'old', 2);
  await db.withClient(async (other) => {
    await other.query(`BEGIN; SELECT pg_advisory_xact_lock('outbox'::regclass::oid::integer, 1)`);
    t.deepEqual(await pruneOnce(db.url, HOUR), { outcome: 'another prunes', batches: [], rows: 0 });
  });
  t.like(await pruneOnce(db.url, HOUR), { outcome: 'done', rows: 1 });
});

test.serial('several that prune at once delete each event once, and no other', async (t) => {
  const db = await database(t);
  const last = await publish(db, 'old', 2, 5 * BATCH);
  await publish(db, 'kept');
  const all = await Promise.all([1, 2, 3].map(() => pruneOnce(db.url, HOUR)));
  t.is(
    all.reduce((sum, { rows }) => sum + rows, 0),
    5 * BATCH,
  );
  t.true(all.some(({ outcome }) => outcome === 'done'));
  t.deepEqual(await left(db), ['kept']);
  t.is(await floor(db), last);
});

test('R9: it gives way to a redaction that is not committed, and neither of them delays publishers', async (t) => {
  const db = await database(t);
  await publish(db, 'one', 3);
  const redacted = await publish(db, 'two', 2);
  await db.withClient(async (redactor) => {
    await redactor.query('BEGIN');
    await redactor.query(`UPDATE outbox SET data = '"redacted"' WHERE id = $1`, [redacted]);
    const pruning = t.throwsAsync(pruneOnce(db.url, HOUR), { name: 'OperatorError', code: 'locked' });
    await publish(db, 'three');
    await pruning;
    t.deepEqual(await left(db), ['one', 'two', 'three']);
    await redactor.query('COMMIT');
  });
  t.like(await pruneOnce(db.url, HOUR), { rows: 2 });
  t.deepEqual(await left(db), ['three']);
});

test.serial('what commits while it runs stays, however old its transaction', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'old', 2, 6 * BATCH);
  let late: Promise<unknown> | undefined;
  const { rows } = await pruneOnce(db.url, HOUR, () => {
    late = publish(db, 'late', 5);
  });
  await late;
  t.is(rows, 6 * BATCH);
  t.deepEqual(await left(db), ['late']);
});

test.serial('large events go in small batches', async (t) => {
  const db = await createDatabase(t);
  for (let n = 0; n < 6; n += 1) await publish(db, randomBytes(3_000_000).toString('base64'), 2);
  const { rows, batches } = await pruneOnce(db.url, HOUR);
  t.is(rows, 6);
  t.is(batches.length, 2);
});

test.serial(
  'R9: publishers and replays go on while it prunes, and no client misses an event without being told',
  async (t) => {
    const db = await createDatabase(t);
    await db.query(`
    CREATE TABLE placed (id bigint, position bigint);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN INSERT INTO public.placed VALUES (NEW.id, NEW.position); RETURN NULL; END';
    CREATE TRIGGER note AFTER UPDATE OF position ON outbox FOR EACH ROW EXECUTE FUNCTION note()`);
    await publish(db, 'old', 5, 4 * BATCH);
    const relay = await startTestRelay(t, db.url, { WINDOW_MEGABYTES: '0.01' });
    const streams = [await openStream(t, `${relay.url}/events/a`)];

    const working = new AbortController();
    const { signal } = working;
    async function write(): Promise<number> {
      let count = 0;
      for (; !signal.aborted; count += 1) await publish(db, 'new', 0, 1 + (count % 3));
      return count;
    }
    async function replay(): Promise<void> {
      while (!signal.aborted) {
        streams.push(await openStream(t, `${relay.url}/events/a?last_event_id=earliest`));
        await delay(100);
      }
    }
    const others = Promise.all([write(), write(), write(), replay()]);
    let pruned = 0;
    while (pruned < 4 * BATCH + 200) pruned += (await pruneOnce(db.url, 1)).rows;
    working.abort();
    const [count] = await others;
    t.true(count > 0);

    const end = await publish(db, 'end');
    const order = new Map(
      (await db.query<{ id: string }>('SELECT id FROM placed ORDER BY position')).rows.map(({ id }, index) => [
        id,
        index,
      ]),
    );
    for (const stream of streams) {
      await stream.until(({ id, data }) => id === end && data === 'end');
      let next: number | undefined;
      let seen = 0;
      for (const { id, event, data } of stream.frames) {
        if (event === 'stream-reset') next = undefined;
        if (data === undefined || event?.startsWith('stream-')) continue;
        const index = order.get(id ?? '') ?? -1;
        t.true(index >= 0 && (next === undefined || index === next), `${id} came as ${index} instead of ${next}`);
        next = index + 1;
        seen += 1;
      }
      t.true(seen > 0);
      stream.close();
    }
  },
);

test('a retention that has just begun deletes nothing that it has not seen before', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'old', 100);
  const { until } = await startTestRetention(t, db.url, HOUR);
  await until(/looked for what is due/);
  t.deepEqual(await left(db), ['old']);
});

test.serial('it goes on after trouble, which it logs once, and is over promptly', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'old', 2, 10 * BATCH);
  const { retention, entries, until } = await startTestRetention(t, db.url, 1);
  // In the middle of its work, most likely in a pause.
  while ((await floor(db)) === '0') await delay(POLL_MS);
  t.is(await db.kill('outbox-relay retention'), 1);
  await until(/cannot prune/);
  await untilLeft(db, 0);
  await until(/works again/);
  t.is(entries.filter(({ msg }) => msg.includes('cannot prune')).length, 1);

  await publish(db, 'old', 2, 10 * BATCH);
  while ((await db.query('SELECT FROM outbox')).rowCount === 10 * BATCH) await delay(POLL_MS);
  await retention.stop();
  await retention.stop();
  const { rowCount } = await db.query('SELECT FROM outbox');
  t.true((rowCount ?? 0) > 0, 'it was stopped in the middle');
  await delay(LEEWAY_MS);
  t.is((await db.query('SELECT FROM outbox')).rowCount, rowCount);
  const rows = entries.reduce((sum, entry) => sum + (entry.msg === 'pruned' ? (entry.rows ?? 0) : 0), 0);
  t.is(rows, 20 * BATCH - (rowCount ?? 0), 'what is logged is what is gone');
});

test('a locked event is trouble that is logged once and over when the lock is', async (t) => {
  const db = await createDatabase(t);
  const id = await publish(db, 'old', 2);
  await db.withClient(async (redactor) => {
    await redactor.query('BEGIN');
    await redactor.query(`UPDATE outbox SET data = '1' WHERE id = $1`, [id]);
    const { until } = await startTestRetention(t, db.url, 1);
    await until(/cannot prune/);
    await redactor.query('COMMIT');
    await until(/works again/);
  });
  t.deepEqual(await left(db), []);
});

test('what others delete from the middle does not keep what stands before it', async (t) => {
  const db = await createDatabase(t);
  await startTestRetention(t, db.url, 2);
  await publish(db, 'before');
  const middle = await publish(db, 'deleted');
  const after = await publish(db, 'after');
  await db.query('DELETE FROM outbox WHERE id = $1', [middle]);
  await untilLeft(db, 0);
  t.is(await floor(db), after);
});

test('R3: with RETENTION the relay prunes, its clients miss nothing, and each cursor is honoured or told', async (t) => {
  const db = await createDatabase(t);
  const relay = await startRelayProcess(t, db.url, { RETENTION: '1s', HEARTBEAT_SECONDS: '0.2' });
  const live = await openStream(t, `${relay.url}/events/a`);
  const first = await publish(db, '1');
  const second = await publish(db, '2');
  await live.untilEvents(2);
  const quiet = await openStream(t, `${relay.url}/events/other?last_event_id=${first}`);
  await untilLeft(db, 0);
  // Heartbeats keep the cursor of who is connected ahead of what is pruned.
  await quiet.until(({ id }) => id === second);
  quiet.close();

  t.deepEqual(await resetOf(await openStream(t, `${relay.url}/events/a?last_event_id=${first}`)), {
    reason: 'expired',
    lastEventId: first,
  });
  t.is(await relay.end('SIGTERM'), 0);
  await relay.start();
  const resumed = await openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': live.lastEventId });
  await resumed.until(({ event }) => event === 'stream-open');
  await publish(db, '3');
  t.is((await resumed.untilEvents(1))[0]?.data, '3');
  t.false(resumed.frames.some(({ event }) => event === 'stream-reset'));
  t.is(await relay.end('SIGTERM'), 0);
});

test('of several workers none prunes: the process that started them does', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'old', 2);
  const relay = await startObservedRelay({ DATABASE_URL: db.url, PUBLIC_CHANNELS: '*', WORKERS: '2', RETENTION: '1s' });
  t.teardown(relay.kill);
  await untilLeft(db, 0);
  await publish(db, 'old', 2);
  await untilLeft(db, 0);
  t.is(await relay.stop(), 0);
  const entries = relay.output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { msg: string; pid: number });
  const pidsOf = (msg: string) => [...new Set(entries.filter((entry) => entry.msg === msg).map(({ pid }) => pid))];
  t.is(pidsOf('listening').length, 2);
  t.deepEqual(pidsOf('pruned'), pidsOf('all workers serve'));
});
