/**
 * What the doctor finds of a whole server, on one of this file's own that may be misconfigured, filled up and made a standby.
 */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import type { Fix } from '../../src/admin/doctor/finding.js';
import type { Target } from '../../src/admin/doctor/target.js';
import { checkServer } from '../../src/admin/doctor/server.js';
import { examine } from '../../src/admin/doctor/doctor.js';
import { startEmbedded, type EmbeddedPostgres } from '../../packages/embedded-postgres/embedded.js';
import { migrate } from '../../src/postgres/migrate.js';
import { createDatabase } from '../support/database.js';
import { paste, troubles } from '../support/patient.js';

const SETTINGS = { fsync: 'off', shared_buffers: '8MB', max_notify_queue_pages: '64', max_prepared_transactions: '5' };

let folder: string;
let server: EmbeddedPostgres;
let onLine: (line: string) => void = () => undefined;

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'outbox-relay-doctor-'));
  server = await startEmbedded({ dataDirectory: folder, settings: SETTINGS, log: (line) => onLine(line) });
  await migrate(server.url, 'up');
});

test.after.always(async () => {
  await server.stop('immediate');
  await rm(folder, { recursive: true, force: true });
});

const look = async (oldSeconds?: number) =>
  troubles(
    await examine({
      databaseUrl: server.url,
      listenDatabaseUrl: server.url,
      ...(oldSeconds === undefined ? {} : { oldSeconds }),
    }),
  );

/** Some settings and statistics take effect a moment after the statement. */
async function untilWell(oldSeconds?: number): Promise<void> {
  while ((await look(oldSeconds)).length > 0);
}

async function apply(fix: Fix | undefined): Promise<void> {
  if (fix === undefined || !('sql' in fix)) throw new Error('There is nothing to paste.');
  await paste(server.url, fix.sql);
}

async function connect(t: ExecutionContext): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: server.url, application_name: 'stuck' });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  return client;
}

async function usage(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ usage: number }>('SELECT pg_notification_queue_usage() AS usage');
  return rows[0]?.usage ?? 0;
}

for (const [major, level, what] of [
  [13, 'error', /^PostgreSQL 13\.0, which is older/],
  [14, 'ok', /^PostgreSQL 14\.0/],
  [18, 'ok', /^PostgreSQL 18\.0/],
  [19, 'warning', /^PostgreSQL 19\.0, which is newer/],
] as const) {
  test(`of PostgreSQL ${major} it says ${level}`, async (t) => {
    // Nothing but the answer of such a server: there is none here to ask.
    const query = () => Promise.resolve([{ version: `${major}.0`, major, isStandby: false }]);
    const [finding] = await checkServer({ query } as unknown as Target);
    t.is(finding?.level, level);
    t.regex(finding?.what ?? '', what);
  });
}

for (const [sql, check, what] of [
  ['ALTER SYSTEM SET autovacuum = off', 'vacuum', 'autovacuum is off for the whole server'],
  ['ALTER SYSTEM SET track_counts = off', 'vacuum', 'autovacuum is off for the whole server'],
  ['ALTER SYSTEM SET synchronous_commit = off', 'settings', 'synchronous_commit is off for the whole server'],
  [
    'ALTER SYSTEM SET session_replication_role = replica',
    'settings',
    'session_replication_role is replica for the whole server',
  ],
] as const) {
  test.serial(`it finds what ${sql} does, and its fix works`, async (t) => {
    await untilWell();
    await paste(server.url, [sql, 'SELECT pg_reload_conf()']);
    let found = await look();
    while (found.length === 0) found = await look();
    t.deepEqual(
      found.map((trouble) => [trouble.check, trouble.what]),
      [[check, what]],
    );
    await apply(found[0]?.fix);
    await untilWell();
  });
}

test.serial('it finds a transaction that was prepared and forgotten, and its fix rolls it back', async (t) => {
  await paste(server.url, ['BEGIN', 'CREATE TABLE forgotten ()', `PREPARE TRANSACTION 'it''s mine'`]);
  t.deepEqual(await look(), [], 'not one of this moment');
  const [prepared] = await look(0);
  t.regex(prepared?.what ?? '', /^transaction "it's mine" was prepared .* ago, and is still not committed$/);
  await apply(prepared?.fix);
  await untilWell(0);
});

test.serial('it finds a queue of notifications that fills up, and who holds it, and its fix empties it', async (t) => {
  const stuck = await connect(t);
  await stuck.query('LISTEN other');
  await stuck.query('BEGIN');
  const { rows } = await stuck.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const others = await connect(t);
  const fill = async (limit: number) => {
    while ((await usage(others)) < limit) await others.query(`SELECT pg_notify('other', repeat('x', 7000))`);
  };

  await fill(0.1);
  const [filling] = await look();
  t.deepEqual([filling?.check, filling?.level], ['queue', 'warning']);
  await fill(0.5);
  const [half] = await look();
  t.deepEqual([half?.check, half?.level], ['queue', 'error']);
  t.regex(half?.what ?? '', /^the queue of notifications is 5\d % full$/);
  t.regex(half?.why ?? '', new RegExp(`process ${rows[0]?.pid}, idle in transaction, .* application "stuck"`));
  t.deepEqual(half?.fix && 'sql' in half.fix && half.fix.sql, [`SELECT pg_terminate_backend(${rows[0]?.pid})`]);

  // Full: not even the doctor can notify.
  await t.throwsAsync(fill(2), { message: /too many notifications/ });
  const full = await look();
  t.deepEqual(
    full.map(({ check, level }) => [check, level]),
    [
      ['notifications', 'error'],
      ['queue', 'error'],
    ],
  );
  t.regex(full[0]?.what ?? '', /too many notifications in the NOTIFY queue/);

  await apply(full[1]?.fix);
  // PostgreSQL empties it when it has something else to notify, and the session has ended a moment after it was told to.
  while ((await usage(others)) > 0) await others.query('NOTIFY other').catch(() => undefined);
  t.deepEqual(await look(), []);
});

test.serial('it finds that it was led to a standby, and looks no further', async (t) => {
  const signal = join(folder, 'data', 'standby.signal');
  await writeFile(signal, '');
  await chmod(signal, 0o666);
  const isStandby = new Promise<void>((resolve) => {
    onLine = (line) => {
      if (line.includes('ready to accept read-only connections')) resolve();
    };
  });
  // Settles once the server is a primary again.
  const restarted = server.restart();
  await isStandby;
  const results = await examine({ databaseUrl: server.url, listenDatabaseUrl: server.url });
  t.deepEqual(
    results.map(({ check, findings }) => [check, findings[0]?.level, findings[0]?.what]),
    [['server', 'error', 'DATABASE_URL leads to a standby']],
  );
  const { url } = await createDatabase(t);
  const listening = troubles(await examine({ databaseUrl: url, listenDatabaseUrl: server.url }));
  t.true(listening.some(({ what }) => what === 'LISTEN_DATABASE_URL leads to a standby'));
  await paste(server.url, ['SELECT pg_promote()']);
  await restarted;
  await untilWell();
});
