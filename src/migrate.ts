/**
 * Migrations: what is in `migrations/`, what a database has of it, and how it gets the rest.
 *
 * The bookkeeping table has a name of its own, so that it collides neither with Django's nor with that of another user of
 * node-pg-migrate in the same database.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runner, type MigrationBuilder } from 'node-pg-migrate';
import pg from 'pg';
import { withSession } from './database.js';
import { homeError, type Session } from './session.js';

const TABLE = 'outbox_migrations';
/** Two runs at a time would trip over each other; another user of node-pg-migrate is not in the way. */
const LOCK = 7_237_117_401_130_031;
/** Seconds that looking what is applied may take for each query: they wait for no lock but that of a removal. */
const LOOK_TIMEOUT = 10;
/** From `dist/src/` as from an installed package. */
const DIRECTORY = fileURLToPath(new URL('../../migrations', import.meta.url));

export interface MigrationStatus {
  /** Names of migrations, oldest first. */
  readonly applied: string[];
  readonly pending: string[];
  /** Applied to the database, but not known to this relay: the database is newer. */
  readonly unknown: string[];
}

/**
 * `up` applies what is missing, all or nothing; `down` removes all that was made, events included. Both are harmless to
 * repeat. All is one transaction, which holds the lock: so it passes a pooler in transaction mode, and the second of two waits.
 *
 * @returns the names of the migrations that were run.
 * @throws HomeError `several`; else what PostgreSQL throws; nothing has changed then.
 */
export async function migrate(url: string, direction: 'up' | 'down'): Promise<string[]> {
  return withSession(url, 'outbox-relay migrate', async (session) => {
    const { client } = session;
    const schema = schemaOf(session);
    if (!schema) throw new Error('No schema of search_path exists: create one, or set search_path in DATABASE_URL.');
    // The times of the account are local ones, and give its order.
    await session.begin(
      'READ WRITE',
      `SELECT pg_advisory_xact_lock(${LOCK});
       SELECT set_config('TimeZone', reset_val, true) FROM pg_settings WHERE name = 'TimeZone'`,
    );
    const table = `${pg.escapeIdentifier(schema)}.${TABLE}`;
    // `down` on a database that has nothing must not leave a bookkeeping table behind.
    if (direction === 'down' && !(await hasBookkeeping(session))) return [];
    const run = await runner({
      // The transaction is ours.
      dbClient: {
        query: async (text: string, values?: unknown[]) =>
          /^(BEGIN|COMMIT|ROLLBACK)$/.test(text) ? { rows: [] } : client.query(text, values),
      } as unknown as pg.Client,
      dir: DIRECTORY,
      direction,
      count: Number.POSITIVE_INFINITY,
      migrationsTable: TABLE,
      migrationsSchema: schema,
      migrationLoaderStrategies: [{ extensions: ['.sql'], loader: (files) => loadMigrations(files, schema) }],
      checkOrder: true,
      noLock: true,
      singleTransaction: true,
      log: () => undefined,
    });
    if (direction === 'down') await client.query(`DROP TABLE ${table}`);
    // A relay whose role has SELECT on outbox alone must be able to see whether the schema fits it.
    else await client.query(`GRANT SELECT ON ${table} TO PUBLIC`);
    await client.query('COMMIT');
    return run.map((migration) => migration.name);
  });
}

/** @throws what PostgreSQL throws; or a timeout, as a relay that starts on a dead connection must not wait for ever. */
export async function migrationStatus(url: string): Promise<MigrationStatus> {
  const look = async (session: Session): Promise<MigrationStatus> => {
    const known = await knownMigrations();
    const table = `${pg.escapeIdentifier(schemaOf(session) ?? '')}.${TABLE}`;
    const applied = (await hasBookkeeping(session))
      ? (await session.query<{ name: string }>(`SELECT name FROM ${table} ORDER BY id`)).rows.map((row) => row.name)
      : [];
    return {
      applied,
      pending: known.filter((name) => !applied.includes(name)),
      unknown: applied.filter((name) => !known.includes(name)),
    };
  };
  return withSession(url, 'outbox-relay migrate', look, LOOK_TIMEOUT);
}

/** Where the outbox is, or is to be. @throws HomeError `several` */
function schemaOf(session: Session): string | undefined {
  if (session.rivals.length > 0) throw homeError(session);
  return session.schema ?? session.currentSchema;
}

/** A migration makes its tables in the schema that is first; all else is done while none but PostgreSQL's own is looked in. */
function loadMigrations(files: readonly string[], schema: string) {
  return Promise.all(
    files.map(async (file) => {
      const [up = '', down = ''] = (await readFile(file, 'utf8')).split(/^-- Down Migration$/m);
      const inSchema = (text: string) => (pgm: MigrationBuilder) => {
        pgm.sql(`SET LOCAL search_path = ${pg.escapeIdentifier(schema)}, pg_temp`);
        pgm.sql(text);
        pgm.sql('SET LOCAL search_path = pg_catalog, pg_temp');
      };
      return { id: file, filePaths: [file], actions: { up: inSchema(up), down: inSchema(down) } };
    }),
  );
}

/** What `up` runs, all of it, oldest first. */
export async function migrationsSql(): Promise<string> {
  const names = await knownMigrations();
  const files = await Promise.all(names.map((name) => readFile(path.join(DIRECTORY, `${name}.sql`), 'utf8')));
  return files.map((text) => text.split(/^-- Down Migration$/m, 1)[0]).join('\n');
}

async function knownMigrations(): Promise<string[]> {
  const files = await readdir(DIRECTORY);
  return files
    .filter((file) => file.endsWith('.sql'))
    .map((file) => file.slice(0, -'.sql'.length))
    .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
}

async function hasBookkeeping(session: Session): Promise<boolean> {
  const schema = schemaOf(session);
  if (schema === undefined) return false;
  const { rows } = await session.query<{ found: boolean }>('SELECT to_regclass($1) IS NOT NULL AS found', [
    `${pg.escapeIdentifier(schema)}.${TABLE}`,
  ]);
  return rows[0]?.found ?? false;
}
