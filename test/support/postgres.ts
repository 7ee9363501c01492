/**
 * A PostgreSQL of a test's own, to be stopped, killed, replicated and promoted. Its database `postgres` has the outbox.
 */
import { chown, copyFile, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type pg from 'pg';
import { withClient } from '../../src/postgres/client.js';
import { unlessCode } from '../../packages/embedded-postgres/binaries.js';
import { startEmbedded, type EmbeddedPostgres } from '../../packages/embedded-postgres/embedded.js';
import { migrate } from '../../src/postgres/migrate.js';
import { makeFolder } from './folder.js';
import { freePort } from './port.js';

/** `immediate` and `kill` leave recovery to the next start, `kill` is SIGKILL. */
export type Ending = 'fast' | 'immediate' | 'kill';

export interface TestPostgres {
  readonly url: string;
  readonly folder: string;
  query<Row extends pg.QueryResultRow = pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<Row[]>;
  /** Ends the server; resolves when no backend is left. */
  end(how: Ending): Promise<void>;
  /** Starts it again, after `end`, on the same port; resolves when a client has got in. */
  start(): Promise<void>;
  /** Resolves when the server says the next time that it accepts connections. */
  recovered(): Promise<void>;
}

export interface TestPostgresOptions {
  /** Beside those that all have. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Called with each line that it writes. */
  readonly log?: (line: string) => void;
}

/** Durability is not tested: what a killed server has written is in the kernel, and that lives on. */
const SETTINGS = {
  fsync: 'off',
  wal_level: 'replica',
  max_wal_senders: '4',
  wal_keep_size: '256MB',
  shared_buffers: '32MB',
};

/** How often a server is asked for a state of which it gives no signal. */
const POLL_MS = 20;

/** Starts one with the outbox in it; ends it with the test. */
export async function startPostgres(
  t: Pick<ExecutionContext, 'teardown'>,
  { settings, log }: TestPostgresOptions = {},
): Promise<TestPostgres> {
  const postgres = await run(t, await makeFolder(t, 'postgres'), { ...SETTINGS, ...settings }, log);
  await migrate(postgres.url, 'up');
  return postgres;
}

/**
 * Starts a streaming standby, for which commits on the primary wait from then on. All that the npm packages bring is the
 * server, so the base backup is made as chapter "Making a Base Backup Using the Low Level API" of the manual says.
 */
export async function startStandby(
  t: Pick<ExecutionContext, 'teardown'>,
  primary: TestPostgres,
  settings: TestPostgresOptions['settings'] = {},
): Promise<TestPostgres> {
  const folder = await makeFolder(t, 'standby');
  const [from, to] = [join(primary.folder, 'data'), join(folder, 'data')];
  // Label and end of the backup belong to the session that began it.
  await withClient(primary.url, 'test', async (client) => {
    await client.query("SELECT pg_backup_start('standby', true)");
    await copyData(from, to);
    const { rows } = await client.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(false)');
    await writeFile(join(to, 'backup_label'), rows[0]?.labelfile ?? '');
  });
  await writeFile(join(to, 'standby.signal'), '');
  const { uid, gid } = await stat(from);
  for (const name of ['backup_label', 'standby.signal']) await chown(join(to, name), uid, gid);
  await copyFile(join(primary.folder, 'password'), join(folder, 'password'));

  const { hostname, port, username, password } = new URL(primary.url);
  const conninfo = `host=${hostname} port=${port} user=${username} password=${password} application_name=standby`;
  const standby = await run(t, folder, { ...SETTINGS, ...settings, primary_conninfo: conninfo });
  await primary.query("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
  await primary.query('SELECT pg_reload_conf()');
  while ((await primary.query("SELECT FROM pg_stat_replication WHERE sync_state = 'sync'")).length === 0) {
    await delay(POLL_MS);
  }
  return standby;
}

async function run(
  t: Pick<ExecutionContext, 'teardown'>,
  dataDirectory: string,
  settings: Readonly<Record<string, string>>,
  onLine = (line: string) => (process.env['TEST_LOG'] === '1' ? console.error(line) : undefined),
): Promise<TestPostgres> {
  const port = await freePort();
  const waiting = new Set<() => void>();
  const log = (line: string) => {
    onLine(line);
    if (!line.includes('ready to accept connections')) return;
    for (const wake of waiting) wake();
    waiting.clear();
  };
  const start = () => startEmbedded({ dataDirectory, settings, port, log });
  let server: EmbeddedPostgres = await start();
  t.teardown(() => server.stop('immediate'));
  return {
    url: server.url,
    folder: dataDirectory,
    query: (sql, values) =>
      withClient(server.url, 'test', async (client) => (await client.query(sql, values)).rows as never),
    async end(how) {
      if (how === 'kill') await server.kill();
      await server.stop(how === 'fast' ? 'fast' : 'immediate');
    },
    async start() {
      server = await start();
      await withClient(server.url, 'test', (client) => client.query('SELECT 1'));
    },
    recovered: () => new Promise((resolve) => waiting.add(resolve)),
  };
}

/** A copy of the data of a server that runs, with all but its WAL, which the copy will ask it for. */
async function copyData(from: string, to: string): Promise<void> {
  const { uid, gid, mode } = await stat(from);
  await mkdir(to, { mode });
  await chown(to, uid, gid);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.name === 'postmaster.pid' || entry.name === 'postmaster.opts') continue;
    if (entry.isDirectory()) {
      await copyData(source, target);
    } else if (!from.endsWith('/pg_wal')) {
      // Files come and go while the server runs; WAL has what became of them.
      await copyFile(source, target)
        .then(() => chown(target, uid, gid))
        .catch(unlessCode('ENOENT'));
    }
  }
}
