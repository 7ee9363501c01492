/**
 * The cursor of a page, in both forms: what SQL gives, and that a relay's stream from there and the page are together what the
 * table has.
 */
import test, { type ExecutionContext } from 'ava';
import type pg from 'pg';
import { parseExclusions } from '../src/stream/exclusions.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { hangInCommit } from './support/hanging-commit.js';
import { describeLoads, loadPages } from './support/page-loads.js';
import { seedFromEnvironment } from './support/random.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { connect, single, type Queryable } from './support/sessions.js';
import { openStream } from './support/stream.js';

const firstCursor = async (on: Queryable) =>
  (await single<{ cursor: string }>(on, 'SELECT outbox_cursor() AS cursor')).cursor;
const exactCursor = async (on: Queryable, after: string) =>
  (await single<{ cursor: string }>(on, 'SELECT outbox_cursor($1) AS cursor', [after])).cursor;

async function publish(on: Queryable, channel = 'a'): Promise<string> {
  const { id } = await single<{ id: string }>(
    on,
    "INSERT INTO outbox (channel, data) VALUES ($1, 'null') RETURNING id",
    [channel],
  );
  return id;
}

/** What a page that is read in one snapshot, as it is now, gets for a cursor. */
async function exactCursorNow(db: TestDatabase, after = ''): Promise<string> {
  return db.withClient(async (client) => {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    return exactCursor(client, after);
  });
}

test('the cursor of a page is the newest event in the order of positions, and the last one deleted in an empty table', async (t) => {
  const db = await createDatabase(t);
  t.is(await firstCursor(db), '0');
  const early = await connect(t, db.url);
  await early.query('BEGIN');
  const first = await publish(early);
  t.is(await firstCursor(early), '0', 'what has no position yet');
  const second = await publish(db);
  t.is(await firstCursor(db), second);
  await early.query('COMMIT');
  t.is(await firstCursor(db), first);
  await db.query('DELETE FROM outbox WHERE id = $1', [second]);
  t.is(await firstCursor(db), first);
  await db.query('DELETE FROM outbox');
  t.is(await firstCursor(db), first);
});

test('the cursor of a page stays before a commit under way, and the exact one leaves out what the page sees after it', async (t) => {
  const db = await createDatabase(t);
  const before = await publish(db);
  const hanging = await hangInCommit(t, db, ['slow', 'slow']);
  const after = [await publish(db), await publish(db), await publish(db)];
  t.is(await firstCursor(db), before);
  t.is(await exactCursorNow(db, before), `${before}!${after[0]}-${after[1]},${after[2]}`);
  await hanging.succeed();
  t.is(await firstCursor(db), `${after[2]}`);
  t.is(await exactCursorNow(db, after[2]), `${after[2]}`);
});

test('of what is left out the last has the highest position, whatever the ids', async (t) => {
  const db = await createDatabase(t);
  const early = await connect(t, db.url);
  await early.query('BEGIN');
  const lowest = await publish(early);
  const others = [await publish(db), await publish(db), await publish(db)];
  await early.query('COMMIT');
  t.is(await exactCursorNow(db, '0'), `0!${others[0]}-${others[2]},${lowest}`);
});

test('each form of the cursor is refused in the isolation level of the other, with what to do', async (t) => {
  const db = await createDatabase(t);
  const client = await connect(t, db.url);
  for (const level of ['REPEATABLE READ', 'SERIALIZABLE']) {
    await client.query(`BEGIN ISOLATION LEVEL ${level}`);
    const error = await t.throwsAsync(firstCursor(client), {
      message: /outbox_cursor\(\) has to be called in READ COMMITTED/,
    });
    t.regex((error as unknown as pg.DatabaseError).hint ?? '', /before BEGIN ISOLATION LEVEL REPEATABLE READ/);
    await client.query('ROLLBACK');
    await client.query(`BEGIN ISOLATION LEVEL ${level} READ ONLY`);
    t.is(await exactCursor(client, '0'), '0');
    await client.query('COMMIT');
  }
  const error = await t.throwsAsync(exactCursor(client, '0'), { message: /REPEATABLE READ/ });
  t.regex((error as unknown as pg.DatabaseError).hint ?? '', /BEGIN ISOLATION LEVEL REPEATABLE READ/);
});

test('the exact cursor is refused after what is no cursor, and after an event that the transaction does not see', async (t) => {
  const db = await createDatabase(t);
  await publish(db);
  const client = await connect(t, db.url);
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await client.query('SELECT');
  const later = await publish(db);
  const refused = async (after: string | null, message: RegExp) => {
    await client.query('SAVEPOINT before');
    await t.throwsAsync(client.query('SELECT outbox_cursor($1)', [after]), { message });
    await client.query('ROLLBACK TO before');
  };
  for (const text of ['', 'now', '1!2', '-1', '01', null]) await refused(text, /is no cursor/);
  await refused(later, /its snapshot is older than the cursor/);
});

test('after an event that was deleted with what followed it the exact cursor is that event, and the stream is reset', async (t) => {
  const db = await createDatabase(t);
  const ids = [await publish(db), await publish(db), await publish(db)];
  await db.query('DELETE FROM outbox WHERE id = ANY ($1)', [ids.slice(0, 2)]);
  t.is(await exactCursorNow(db, ids[0]), `${ids[0]}`);
  t.is(await exactCursorNow(db, '0'), '0');
  t.is(await exactCursorNow(db, ids[1]), `${ids[1]}!${ids[2]}`, 'the floor itself');
});

test('the exact cursor leaves out many events that follow one another, and is refused where it would be too long', async (t) => {
  const db = await createDatabase(t);
  const insert = (count: number, every = 1) =>
    db.query(
      `INSERT INTO outbox (channel, data)
       SELECT 'a', 'null' FROM generate_series(1, $1) WHERE $2 = 1 OR nextval('outbox_id_seq') > 0`,
      [count, every],
    );
  await insert(20_000);
  t.is(await exactCursorNow(db, '0'), '0!1-19999,20000');
  const last = await firstCursor(db);
  await insert(300, 2);
  t.regex(await exactCursorNow(db, last), /^20000!20002(,\d+){299}$/);
  await insert(300, 2);
  await t.throwsAsync(exactCursorNow(db, last), { message: /too many events follow the cursor 20000/ });
  await insert(40_000);
  await t.throwsAsync(exactCursorNow(db, '0'), { message: /too many events/ });
});

test('who may use the schema may ask for cursors, without a right to the table', async (t) => {
  const db = await createDatabase(t);
  const id = await publish(db);
  const role = `reader_${db.name}`;
  await db.query(`CREATE ROLE ${role}`);
  t.teardown(() => db.query(`DROP ROLE ${role}`));
  await db.withClient(async (client) => {
    await client.query(`SET ROLE ${role}`);
    t.is(await firstCursor(client), id);
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    t.is(await exactCursor(client, '0'), `0!${id}`);
  });
});

test('exclusions are ids and runs of ids, of which the last is the newest', (t) => {
  const parsed = parseExclusions('41!60,43-45,50-52,47');
  t.is(parsed?.id, '41');
  t.like(parsed?.exclusions, { suffix: '!60,43-45,50-52,47', newestId: '47' });
  const left = Array.from({ length: 30 }, (_, n) => BigInt(40 + n)).filter((id) => parsed?.exclusions.has(id));
  t.deepEqual(left.map(Number), [43, 44, 45, 47, 50, 51, 52, 60]);
  t.true(parseExclusions('0!1-100,50-60')?.exclusions.has(70n), 'one within another');
  const longest = Array.from({ length: 400 }, (_, n) => 1000 + 2 * n).join(',');
  t.is(longest.length, 1999);
  t.is(parseExclusions(`1!${longest}`)?.exclusions.newestId, '1798');
  const largest = String(2n ** 63n);
  for (const text of [
    '41',
    '41!',
    '41!x',
    '41!43-',
    '41!45-43',
    '41!43,,44',
    '41!-43',
    `41!${largest}`,
    `1!${longest},1`,
  ]) {
    t.is(parseExclusions(text), undefined, text.slice(0, 20));
  }
});

interface Scene {
  readonly db: TestDatabase;
  readonly url: string;
  /** Of the events on `a` and `b` in turn. */
  readonly ids: readonly string[];
}

async function setUp(t: ExecutionContext, env: Environment = {}, size = 10): Promise<Scene> {
  const db = await createDatabase(t);
  const ids: string[] = [];
  for (let n = 0; n < 12; n += 1) {
    const { id } = await single<{ id: string }>(
      db,
      "INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb(repeat('x', $2))) RETURNING id",
      ['ab'[n % 2], size],
    );
    ids.push(id);
  }
  return { db, url: (await startTestRelay(t, db.url, env)).url, ids };
}

const FROM_WINDOW = {} as const;
/** One event is all that stays in the window. */
const FROM_HISTORY = { WINDOW_MEGABYTES: '0.01' } as const;

for (const [place, env, size] of [
  ['the window', FROM_WINDOW, 10],
  ['history', FROM_HISTORY, 9000],
] as const) {
  for (const subscription of ['channel=a', 'channel=a&channel=b', 'channel=*']) {
    test(`R3: what a cursor leaves out is left out of ${place}, and resuming at each id that was given, of ${subscription}`, async (t) => {
      const { url, ids } = await setUp(t, env, size);
      const [first = '', ...rest] = ids;
      const excluded = [rest[1], rest[2], rest[4], rest[6], rest[7]];
      const suffix = `!${rest[6]},${rest[4]},${rest[1]}-${rest[2]},${rest[7]}`;
      const wanted = rest.filter((id, n) => !excluded.includes(id) && (subscription !== 'channel=a' || n % 2 === 1));
      const read = async (cursor: string) => {
        const stream = await openStream(t, `${url}/events?${subscription}&last_event_id=${cursor}`);
        const last = wanted.at(-1);
        await stream.until(({ event }) => event === 'stream-open');
        if (cursor !== last) await stream.until(({ id, event }) => id === last && event === undefined);
        stream.close();
        t.is(stream.frames[0]?.id, cursor);
        return stream.frames.slice(1).map(({ id = '' }) => id);
      };
      const all = await read(`${first}${suffix}`);
      t.deepEqual(
        all.map((id) => id.split('!')[0]),
        wanted,
      );
      for (const [n, id] of all.entries()) {
        // The newest that is left out is rest[7].
        t.is(id, `${wanted[n]}${rest.indexOf(wanted[n] ?? '') < 7 ? suffix : ''}`);
        t.deepEqual(await read(id), all.slice(n + 1), `after ${id}`);
      }
    });
  }
}

test('R3: a client whose page shows what the relay has yet to come to gets what it lacks once the relay has', async (t) => {
  const db = await createDatabase(t);
  const before = await publish(db);
  const { url } = await startTestRelay(t, db.url, { HEARTBEAT_SECONDS: '0.2' });
  const hanging = await hangInCommit(t, db, ['a']);
  const shown = [await publish(db), await publish(db)];
  const cursor = await exactCursorNow(db, before);
  t.is(cursor, `${before}!${shown.join(',')}`);
  const stream = await openStream(t, `${url}/events?channel=a&last_event_id=${cursor}`);
  await stream.until(({ event }) => event === 'stream-open');
  const opened = stream.frames.length;
  const heartbeats = () => stream.frames.slice(opened).filter(({ event }) => event === 'stream-cursor');
  while (heartbeats().length === 0) await stream.more();
  t.is(heartbeats()[0]?.id, undefined);
  t.is(stream.lastEventId, cursor);
  await hanging.succeed();
  const later = await publish(db);
  await stream.until(({ id }) => id === later);
  const { rows } = await db.query<{ id: string }>('SELECT id FROM outbox ORDER BY position');
  const lacking = rows.map(({ id }) => id).filter((id) => id !== before && !shown.includes(id));
  t.deepEqual(
    stream.events.map(({ id = '' }) => id.split('!')[0]),
    lacking,
  );
  await stream.until(({ event, id }) => event === 'stream-cursor' && id === later);
});

test('R4: exclusions that are none, or that no table has had, are answered with a reset as unknown', async (t) => {
  const { url, ids } = await setUp(t);
  for (const text of ['!', '!x', `!${ids[3]}-`, `!${ids[3]}-${ids[2]}`, '!999999', `!${'1,'.repeat(1500)}1`]) {
    const cursor = `${ids[1]}${text}`;
    const stream = await openStream(t, `${url}/events/a?last_event_id=${encodeURIComponent(cursor)}`);
    const reset = await stream.until(({ event }) => event === 'stream-reset');
    t.is((JSON.parse(reset.data ?? '') as { reason: string }).reason, 'unknown', text);
    t.is(reset.id, ids.at(-1));
  }
});

test('R4: where what is left out has been deleted the stream is reset as expired', async (t) => {
  const { db, url, ids } = await setUp(t);
  await db.query('DELETE FROM outbox WHERE id <= $1', [ids[4]]);
  const stream = await openStream(t, `${url}/events/a?last_event_id=${ids[1]}!${ids[4]}`);
  const reset = await stream.until(({ event }) => event === 'stream-reset');
  t.is((JSON.parse(reset.data ?? '') as { reason: string }).reason, 'expired');
});

test('R3: pages and their streams are the table while commits are slow and fail, by the exact cursor each event once', async (t) => {
  const seed = seedFromEnvironment();
  const database = await createDatabase(t);
  const { url } = await startTestRelay(t, database.url);
  const figures = await loadPages(t, { database, relays: [url], seed, writers: 6, readers: 3, loads: 90 });
  t.log(describeLoads(figures));
  const { missed, doubled, strange, resets } = figures;
  t.deepEqual(
    { missed, doubled: doubled.exact, strange, resets },
    { missed: { first: 0, exact: 0 }, doubled: 0, strange: 0, resets: 0 },
    `SEED=${seed}`,
  );
  t.true(figures.excluded > 20 && figures.cutExcluding > 0 && figures.aborted > 0, describeLoads(figures));
});
