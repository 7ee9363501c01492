/**
 * An archive on a standby is believed once it has proved that it shows all that is known, on real replication.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { channelFilter } from '../../src/event/channel-filter.js';
import { isOperatorError } from '../../src/operator-error.js';
import { openArchive } from '../../src/outbox/databases.js';
import type { LastRead } from '../../src/outbox/feed.js';
import { createLaggingArchive } from '../../src/outbox/lagging-archive.js';
import { createPostgresArchive } from '../../src/outbox/postgres-archive.js';
import { createPostgresRuns } from '../../src/outbox/postgres-runs.js';
import { createProof, type Known } from '../../src/outbox/proof.js';
import { createUndeliverable } from '../../src/outbox/undeliverable.js';
import { takeStandby } from '../../src/postgres/standby.js';
import { startPostgres, startStandby, type TestPostgres } from '../support/postgres.js';

const ALL = channelFilter(['*']);
/** Time in which what must wait would long have been answered. */
const LEEWAY_MS = 500;
const BYTES = 1_000_000;

async function publish({ query }: TestPostgres, count: number): Promise<LastRead> {
  await query("INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(n) FROM generate_series(1, $1) AS n", [count]);
  const [row] = await query<{ id: string; position: string; created: number }>(
    `SELECT id, position, (extract(epoch FROM created_at) * 1000)::double precision AS created FROM outbox
     ORDER BY position DESC LIMIT 1`,
  );
  return { id: row?.id ?? '0', position: BigInt(row?.position ?? 0), createdAt: row?.created };
}

/** What a feeder says of a server by now. */
async function knownOf({ query }: TestPostgres, newest?: LastRead): Promise<Known> {
  const [row] = await query<{ system: string; timeline: string; wal: string }>(
    `SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system,
       left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS timeline, pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal`,
  );
  if (row === undefined) throw new Error('a server does not say where it is');
  return { system: row.system, timeline: Number.parseInt(row.timeline, 16), wal: BigInt(row.wal), newest };
}

/** An archive on a server, of which it is known what `know` was last given. */
function openProven(t: ExecutionContext, { url }: TestPostgres, patienceMs = 20_000) {
  let known: Known | undefined;
  const settings = {
    archiveDatabaseUrl: url,
    listenTimeoutSeconds: 10,
    queryTimeoutSeconds: 30,
    historyConnections: 2,
  };
  const proof = createProof({ known: () => known, patienceMs, variable: 'ARCHIVE_DATABASE_URL' });
  const { history } = openArchive(settings, proof, pino({ level: 'silent' }));
  t.teardown(history.close);
  const undeliverable = createUndeliverable();
  return {
    archive: createPostgresArchive(history.db, undeliverable, undefined, takeStandby),
    runs: createPostgresRuns(history.db, undeliverable, takeStandby),
    know: (now: Known) => (known = now),
  };
}

async function isWaiting(read: Promise<unknown>): Promise<boolean> {
  return Promise.race([read.then(() => false), delay(LEEWAY_MS, true)]);
}

test('R3: what a standby has not replayed yet is waited for: pages, runs and cursors', async (t) => {
  const primary = await startPostgres(t);
  const standby = await startStandby(t, primary);
  const { archive, runs, know } = openProven(t, standby);
  know(await knownOf(primary, await publish(primary, 10)));
  t.is((await archive.page(ALL, 0n, 10n, BYTES)).events.length, 10);

  await standby.query('SELECT pg_wal_replay_pause()');
  const newest = await publish(primary, 10);
  t.is((await archive.page(ALL, 0n, 10n, BYTES)).events.length, 10, 'what was known before is there');
  know(await knownOf(primary, newest));
  const reads = [
    archive.page(ALL, 0n, newest.position, BYTES).then(({ events }) => events.length),
    runs.run(10n, newest.position).then(({ events }) => events.length),
    archive.lookUpCursors([newest.id]).then(([found]) => found?.kind),
  ];
  for (const read of reads) t.true(await isWaiting(read));
  await standby.query('SELECT pg_wal_replay_resume()');
  t.deepEqual(await Promise.all(reads), [20, 10, 'found']);
});

test('R4: a cursor that a standby does not show yet is looked up once more when it is known where the primary is', async (t) => {
  const primary = await startPostgres(t);
  const standby = await startStandby(t, primary);
  const { archive, know } = openProven(t, standby);
  know(await knownOf(primary, await publish(primary, 1)));
  t.is((await archive.page(ALL, 0n, 1n, BYTES)).events.length, 1);
  await standby.query('SELECT pg_wal_replay_pause()');
  const newest = await publish(primary, 1);
  t.deepEqual(await archive.lookUpCursors([newest.id]), [{ kind: 'unknown' }], 'what a standby alone would say');
  const lagging = createLaggingArchive(archive, async () => void know(await knownOf(primary, newest)));
  const found = lagging.lookUpCursors([newest.id, '999']);
  t.true(await isWaiting(found));
  await standby.query('SELECT pg_wal_replay_resume()');
  t.deepEqual(await found, [{ kind: 'found', position: newest.position }, { kind: 'unknown' }]);
});

test('a standby that does not catch up is refused in the end, and one that had nothing to replay is believed', async (t) => {
  const primary = await startPostgres(t);
  const standby = await startStandby(t, primary);
  const newest = await publish(primary, 1);
  const { archive, know } = openProven(t, standby, LEEWAY_MS);
  // Where a segment ends, the primary is at the header of the next, and the standby at the end of the last.
  for (let n = 0; n < 3; n += 1) {
    await primary.query('SELECT pg_switch_wal()');
    know(await knownOf(primary, newest));
    t.is((await archive.page(ALL, 0n, 1n, BYTES)).events.length, 1);
  }
  await standby.query('SELECT pg_wal_replay_pause()');
  know(await knownOf(primary, await publish(primary, 1)));
  const error = await t.throwsAsync(archive.page(ALL, 0n, 2n, BYTES));
  t.true(isOperatorError(error, 'stale-archive'));
  t.regex(error.message, /^ARCHIVE_DATABASE_URL leads to a standby that lags by \d+ bytes/);
  await standby.query('SELECT pg_wal_replay_resume()');
});

test('an archive of another system is refused, and so is a primary that was deposed and what follows it', async (t) => {
  const [primary, other] = await Promise.all([startPostgres(t), startPostgres(t)]);
  const standby = await startStandby(t, primary);
  const first = await publish(primary, 3);
  const refusal = async (server: TestPostgres, known: Known, patienceMs?: number) => {
    const { archive, know } = openProven(t, server, patienceMs);
    know(known);
    const error = await t.throwsAsync(archive.page(ALL, 0n, 3n, BYTES));
    t.true(isOperatorError(error), String(error));
    return error.message;
  };
  const before = await knownOf(primary, first);
  t.regex(
    await refusal(other, before),
    /leads to another PostgreSQL \(system \d+\) than events come from \(system \d+\)/,
  );

  // As if another standby had been promoted, and had gone on by itself.
  const elsewhere = { ...first, id: '77' };
  t.regex(
    await refusal(standby, { ...before, wal: 0n, newest: elsewhere }),
    /leads to a standby that follows another primary/,
  );

  await primary.query('ALTER SYSTEM RESET synchronous_standby_names');
  await primary.query('SELECT pg_reload_conf()');
  const { archive, know } = openProven(t, standby);
  know(before);
  t.is((await archive.page(ALL, 0n, 3n, BYTES)).events.length, 3);
  await standby.query('SELECT pg_promote()');
  const newest = await publish(standby, 2);
  const after = await knownOf(standby, newest);
  t.true(after.timeline > before.timeline);
  know(after);
  t.is((await archive.page(ALL, 0n, newest.position, BYTES)).events.length, 5, 'the one that was promoted is believed');
  t.regex(
    await refusal(primary, after),
    /leads to a primary that was deposed: it is on timeline 1, and events come from 2/,
  );
});
