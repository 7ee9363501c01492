/**
 * Migrations: what is in `migrations/`, what a database has of it, and how it gets the rest.
 *
 * The bookkeeping table has a name of its own, so that it collides neither with Django's nor with that of another user of
 * node-pg-migrate in the same database.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runner } from 'node-pg-migrate';
import type pg from 'pg';
import { withClient } from './database.js';

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
 * repeat.
 *
 * @returns the names of the migrations that were run.
 * @throws what PostgreSQL throws; nothing has changed then.
 */
export async function migrate(url: string, direction: 'up' | 'down'): Promise<string[]> {
  return withClient(url, 'outbox-relay migrate', async (client) => {
    // `down` on a database that has nothing must not leave a bookkeeping table behind.
    if (direction === 'down' && !(await hasBookkeeping(client))) return [];
    const { rows } = await client.query<{ schema: string | null }>('SELECT current_schema() AS schema');
    const schema = rows[0]?.schema;
    if (!schema) throw new Error('No schema of search_path exists: create one, or set search_path in DATABASE_URL.');
    const existed = await hasBookkeeping(client);
    const run = await runner({
      dbClient: client,
      dir: DIRECTORY,
      direction,
      count: Number.POSITIVE_INFINITY,
      migrationsTable: TABLE,
      migrationsSchema: schema,
      lockValue: LOCK,
      checkOrder: true,
      // All of them: by itself each has a transaction of its own.
      singleTransaction: true,
      log: () => undefined,
    }).catch(async (error: unknown) => {
      // It is made ahead of the transaction; one that failed is to leave nothing behind.
      await client.query('ROLLBACK');
      if (!existed) await client.query(`DROP TABLE IF EXISTS ${TABLE}`);
      throw error;
    });
    if (direction === 'down') await client.query(`DROP TABLE ${TABLE}`);
    // A relay whose role has SELECT on outbox alone must be able to see whether the schema fits it.
    else await client.query(`GRANT SELECT ON ${TABLE} TO PUBLIC`);
    return run.map((migration) => migration.name);
  });
}

/** @throws what PostgreSQL throws; or a timeout, as a relay that starts on a dead connection must not wait for ever. */
export async function migrationStatus(url: string): Promise<MigrationStatus> {
  const look = async (client: pg.Client): Promise<MigrationStatus> => {
    const known = await knownMigrations();
    const applied = (await hasBookkeeping(client))
      ? (await client.query<{ name: string }>(`SELECT name FROM ${TABLE} ORDER BY id`)).rows.map((row) => row.name)
      : [];
    return {
      applied,
      pending: known.filter((name) => !applied.includes(name)),
      unknown: applied.filter((name) => !known.includes(name)),
    };
  };
  return withClient(url, 'outbox-relay migrate', look, LOOK_TIMEOUT);
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

async function hasBookkeeping(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ found: boolean }>(`SELECT to_regclass('${TABLE}') IS NOT NULL AS found`);
  return rows[0]?.found ?? false;
}
