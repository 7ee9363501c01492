/**
 * Retention of many events: in batches, among publishers, replays and others that prune, and after trouble.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { createDatabase } from '../support/database.js';
import { startTestRelay } from '../support/relay.js';
import { openStream } from '../support/stream.js';
import {
  BATCH,
  HOUR,
  LEEWAY_MS,
  POLL_MS,
  floor,
  left,
  pruneOnce,
  publish,
  startTestRetention,
  untilLeft,
} from '../support/pruning.js';

test.serial(
  'an old transaction elsewhere does not make a batch walk what the batches before it have deleted',
  async (t) => {
    const rows = 15 * BATCH;
    const db = await createDatabase(t);
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

test.serial('several that prune at once delete each event once, and no other', async (t) => {
  const db = await createDatabase(t);
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
