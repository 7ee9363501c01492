/**
 * Retention: what is old goes, in the order of commits and no further, while others publish, replay and redact; and every
 * cursor is honoured or told that it can't be. On both ends of the range of supported servers where SQL is at stake.
 */
import test from 'ava';
import type pg from 'pg';
import { createDatabase } from './support/database.js';
import { hangInCommit } from './support/hanging-commit.js';
import { startObservedRelay } from './support/observed-relay.js';
import { startRelayProcess } from './support/relay-process.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';
import {
  BATCH,
  HOUR,
  floor,
  left,
  pruneOnce,
  publish,
  resetOf,
  startTestRetention,
  untilLeft,
} from './support/pruning.js';

test('R4: after pruning, the newest event that went resumes, one before is told so, one that is kept resumes exactly', async (t) => {
  const db = await createDatabase(t);
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
  const db = await createDatabase(t);
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
  const db = await createDatabase(t);
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
  const db = await createDatabase(t);
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

test('while another prunes it leaves that to the other', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'old', 2);
  await db.withClient(async (other) => {
    await other.query(`BEGIN; SELECT pg_advisory_xact_lock('outbox'::regclass::oid::integer, 1)`);
    t.deepEqual(await pruneOnce(db.url, HOUR), { outcome: 'another prunes', batches: [], rows: 0 });
  });
  t.like(await pruneOnce(db.url, HOUR), { outcome: 'done', rows: 1 });
});

test('R9: it gives way to a redaction that is not committed, and neither of them delays publishers', async (t) => {
  const db = await createDatabase(t);
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

test('R9: it deletes up to a commit that hangs, waits for nobody, and says who keeps the rest', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'before', 4);
  const hanging = await hangInCommit(t, db, ['a']);
  await publish(db, 'after', 3);
  await publish(db, 'young');
  const error = await t.throwsAsync(pruneOnce(db.url, HOUR), { name: 'OperatorError', code: 'commit-hangs' });
  t.true(error.message.startsWith(`Process ${hanging.process} is committing events`), error.message);
  t.deepEqual(await left(db), ['after', 'young']);
  const refused = await t.throwsAsync<pg.DatabaseError>(db.query(`DELETE FROM outbox WHERE data = '"after"'`));
  t.is(refused.code, '55P03');
  t.is(
    refused.detail,
    `Process ${hanging.process} is committing events that may come before the newest of those: all up to position 1 can be deleted.`,
  );
  await db.query(`DELETE FROM outbox WHERE position <= 1`);
  await hanging.succeed();
  t.like(await pruneOnce(db.url, HOUR), { outcome: 'done', rows: 0 });
  t.deepEqual(await left(db), ['1', 'after', 'young'], 'the late one is younger, and comes first');
});

test('R9: where nothing after a commit that hangs is due, there is nothing to say', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'before', 4);
  const hanging = await hangInCommit(t, db, ['a']);
  await publish(db, 'young');
  t.like(await pruneOnce(db.url, HOUR), { outcome: 'done', rows: 1 });
  await hanging.fail();
  t.deepEqual(await left(db), ['young']);
});

test('a DELETE of what its own transaction has placed waits for nobody else, and not for itself', async (t) => {
  const db = await createDatabase(t);
  await db.withClient(async (client) => {
    await client.query('BEGIN');
    // Within one statement, constraints that are made immediate twice have it placed before the commit.
    await client.query(`DO $$ BEGIN
      INSERT INTO outbox (channel, data) VALUES ('a', '"own"');
      SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL IMMEDIATE;
    END $$`);
    await client.query('DELETE FROM outbox WHERE position IS NOT NULL');
    await client.query('COMMIT');
  });
  t.deepEqual(await left(db), []);
  await publish(db, 'next');
  await db.query('TRUNCATE outbox');
  t.is(await floor(db), '2');
});

test('a retention that has just begun deletes nothing that it has not seen before', async (t) => {
  const db = await createDatabase(t);
  await publish(db, 'old', 100);
  const { until } = await startTestRetention(t, db.url, HOUR);
  await until(/looked for what is due/);
  t.deepEqual(await left(db), ['old']);
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
