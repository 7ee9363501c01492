/**
 * A database of its own for each test, cloned from the migrated template that run.ts has made in
 * each server that it started: one, or in some suites both ends of what is supported.
 *
 * It is dropped when the test ends; and a relay that has then not let go of its connections fails
 * the test, as dropping the database by force would hide it.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import pg from 'pg';

export type ServerName = 'newest' | 'oldest';

export interface CreateDatabaseOptions {
  /** Default: the one that all tests of this run are for. */
  readonly server?: ServerName | undefined;
  /** False: an empty database, without our tables. Default: true. */
  readonly template?: boolean | undefined;
}

export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** Its application_name is `test`. */
  readonly pool: pg.Pool;
  query<Row extends pg.QueryResultRow = pg.QueryResultRow>(
    sql: string,
    values?: unknown[],
  ): Promise<pg.QueryResult<Row>>;
  /**
   * Ends all sessions of that application_name (a LIKE pattern) in this database; resolves with how
   * many there were.
   */
  kill(applicationName: string): Promise<number>;
  /**
   * A connection of its own, for transactions; closed, not reused, so that no state of it outlives
   * the callback.
   */
  withClient<T>(use: (client: pg.Client) => Promise<T>): Promise<T>;
  /**
   * Runs `use` while nobody can read or write our tables, and gives them back when it is over,
   * however it ends.
   *
   * Waiting for one table with the other in hand would be a deadlock with a read of the relay's: it
   * takes both or neither.
   */
  withTablesLocked<T>(use: () => Promise<T>): Promise<T>;
  /** Called by the test's teardown; a file's hook, which has no teardown, calls it itself. */
  readonly drop: () => Promise<void>;
}

/**
 * What a closed connection may take to leave pg_stat_activity: the server notices it only after the
 * client has gone.
 */
export const BACKEND_LEEWAY_MS = 2_000;

/** What a gap between the relay's reads may take to come. */
const LOCK_LEEWAY_MS = 10_000;

const SERVERS = JSON.parse(process.env['TEST_SERVERS'] ?? '{}') as Partial<Record<ServerName, string>>;

/** What all tests of this run are for: the first server of the runner's. */
export const SERVER = (Object.keys(SERVERS)[0] ?? 'newest') as ServerName;

/** Of the superuser. */
export function serverUrl(name: ServerName = SERVER): string {
  const url = SERVERS[name];
  if (url === undefined)
    throw new Error(`The runner of these tests has started no server '${name}': run \`npm test\`.`);
  return url;
}

/**
 * @param t the test, whose teardown drops the database; undefined in a hook, which then has to call
 * `drop`
 */
export async function createDatabase(
  t: Pick<ExecutionContext, 'teardown'> | undefined,
  options: CreateDatabaseOptions = {},
): Promise<TestDatabase> {
  const server = serverUrl(options.server);
  const name = `test_${Date.now().toString(36)}_${process.pid}_${randomBytes(4).toString('hex')}`;
  const template = options.template === false ? 'template1' : 'outbox_template';
  // Of a template as small as ours, copying the files takes a tenth of the time that logging its
  // pages does.
  const strategy = (options.server ?? SERVER) === 'oldest' ? '' : 'STRATEGY FILE_COPY';
  await onServer(server, (client) => cloneTemplate(client, `${name} TEMPLATE ${template} ${strategy}`));

  const database = useDatabase(withPath(server, name));
  let dropped: Promise<void> | undefined;
  const drop = async (): Promise<void> => {
    if (!database.pool.ended) await database.pool.end();
    await onServer(server, async (client) => {
      const left = await relayBackends(client, name);
      await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
      if (left.length > 0) throw new Error(`The test has left connections of the relay open: ${left.join(', ')}`);
    });
  };
  const dropOnce = () => (dropped ??= drop());
  t?.teardown(dropOnce);
  return { ...database, drop: dropOnce };
}

/** One that is there already. Its pool is for the caller to end, and nothing is dropped. */
export function useDatabase(url: string): Omit<TestDatabase, 'drop'> {
  const name = new URL(url).pathname.slice(1);
  const pool = new pg.Pool({ connectionString: url, application_name: 'test' });
  // A test that ends sessions or restarts the server breaks idle ones too; unheard, the event would
  // end the process.
  pool.on('error', () => {});

  const withClient: TestDatabase['withClient'] = (use) => onServer(url, use, 'test');

  return {
    url,
    name,
    pool,
    query: (sql, values) => pool.query(sql, values),
    kill: (applicationName) =>
      onServer(withPath(url, 'postgres'), async (client) => {
        const { rowCount } = await client.query(
          'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE $2',
          [name, applicationName],
        );
        return rowCount ?? 0;
      }),
    withClient,
    withTablesLocked: (use) =>
      withClient(async (client) => {
        await lockTables(client);
        return await use();
      }),
  };
}

/**
 * The application_name of each connection that a relay still holds, in one database or in all, once
 * the leeway is over.
 */
export async function relayBackends(client: pg.Client, name?: string): Promise<string[]> {
  for (const end = Date.now() + BACKEND_LEEWAY_MS; ;) {
    const { rows } = await client.query<{ application_name: string }>(
      `SELECT application_name FROM pg_stat_activity
       WHERE application_name LIKE 'outbox-relay%' AND ($1::text IS NULL OR datname = $1)`,
      [name ?? null],
    );
    if (rows.length === 0 || Date.now() > end) return rows.map((row) => row.application_name);
    await delay(20);
  }
}

/** Leaves a transaction open that holds both. */
async function lockTables(client: pg.Client): Promise<void> {
  for (const end = Date.now() + LOCK_LEEWAY_MS; ;) {
    try {
      await client.query('BEGIN; LOCK TABLE outbox, outbox_floor IN ACCESS EXCLUSIVE MODE NOWAIT');
      return;
    } catch (error) {
      await client.query('ROLLBACK');
      const taken = error instanceof pg.DatabaseError && error.code === '55P03'; // lock_not_available
      if (!taken || Date.now() > end) throw error;
      await delay(5);
    }
  }
}

/**
 * PostgreSQL refuses to clone while a session is in the template, and autovacuum may be in it for a
 * moment.
 */
async function cloneTemplate(client: pg.Client, clone: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query(`CREATE DATABASE ${clone}`);
      return;
    } catch (error) {
      const busy = error instanceof pg.DatabaseError && error.code === '55006'; // object_in_use
      if (!busy || attempt === 5) throw error;
    }
  }
}

function withPath(url: string, name: string): string {
  const address = new URL(url);
  address.pathname = `/${name}`;
  return address.href;
}

async function onServer<T>(
  url: string,
  use: (client: pg.Client) => Promise<T>,
  applicationName = 'test administration',
): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: applicationName });
  client.on('error', () => {});
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
