/**
 * Migrations: what is in `migrations/`, what a database has of it, and how it gets the rest.
 *
 * The bookkeeping table has a name of its own, so that it collides neither with Django's nor with
 * that of another user of node-pg-migrate in the same database.
 */
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { MigrationBuilder } from 'node-pg-migrate';
import pg from 'pg';
import { commandLine } from '../command-name.js';
import { OperatorError } from '../operator-error.js';
import { manifest, MIGRATIONS } from './manifest.js';
import { withSession } from './client.js';
import { outboxNotFound, type Session } from './session.js';

const TABLE = 'outbox_migrations';
/** Key of the advisory lock: one run at a time. Other users of node-pg-migrate are not affected. */
const LOCK = 7_237_117_401_130_031;
/** Most that a query of `migrationStatus` may take: it waits for no lock but that of a removal. */
const STATUS_TIMEOUT_SECONDS = 10;
const DIRECTORY = fileURLToPath(MIGRATIONS);

export interface MigrationStatus {
  /** Names of migrations, oldest first. */
  readonly applied: string[];
  readonly pending: string[];
  /** Applied to the database, but not known to this relay: the database is newer. */
  readonly unknown: string[];
}

/**
 * `up` applies what is missing, all or nothing; `down` removes all that was made, events included.
 * Both are harmless to repeat. All is one transaction, which holds the lock: so it passes a pooler
 * in transaction mode, and the second of two waits.
 *
 * @param onStep called as each begins, with its number from 1 on.
 * @returns the names of the migrations that were run.
 * @throws OperatorError `several-outboxes`, `no-schema`, `name-taken`; else what PostgreSQL throws;
 * nothing has changed then.
 */
export async function migrate(
  url: string,
  direction: 'up' | 'down',
  onStep: (number: number) => void = () => undefined,
): Promise<string[]> {
  return withSession(url, 'outbox-relay migrate', async (session) => {
    const { client } = session;
    const schema = schemaOf(session);
    if (!schema)
      throw new OperatorError(
        'no-schema',
        'No schema of search_path exists: create one, or set search_path in DATABASE_URL.',
      );
    // The times of the account are local ones, and give its order.
    await session.begin(
      'READ WRITE',
      `SELECT pg_advisory_xact_lock(${LOCK});
       SELECT set_config('TimeZone', reset_val, true) FROM pg_settings WHERE name = 'TimeZone'`,
    );
    const table = `${pg.escapeIdentifier(schema)}.${TABLE}`;
    // `down` on a database that has nothing must not leave a bookkeeping table behind.
    if (direction === 'down' && !(await hasBookkeeping(session))) return [];
    if (direction === 'up' && !(await hasApplied(session, table))) await refuseTaken(client, schema);
    // Only here: a relay that starts has no need of it, and it takes a tenth of a second to load.
    const { runner } = await import('node-pg-migrate');
    const run = await runner({
      // The transaction is ours.
      dbClient: {
        query: async (text: string, values?: unknown[]) =>
          /^(BEGIN|COMMIT|ROLLBACK)$/.test(text) ? { rows: [] } : client.query(text, values),
      } as unknown as pg.Client,
      dir: DIRECTORY,
      ignorePattern: '.*(?<!\\.sql)',
      direction,
      count: Number.POSITIVE_INFINITY,
      migrationsTable: TABLE,
      migrationsSchema: schema,
      migrationLoaderStrategies: [{ extensions: ['.sql'], loader: (files) => loadMigrations(files, schema, onStep) }],
      checkOrder: true,
      noLock: true,
      singleTransaction: true,
      log: () => undefined,
    });
    if (direction === 'down') await client.query(`DROP TABLE ${table}`);
    // A relay whose role has SELECT on outbox alone must be able to see whether the schema fits it.
    else {
      await client.query(`GRANT SELECT ON ${table} TO PUBLIC`);
      await mendFloor(client, pg.escapeIdentifier(schema));
    }
    await client.query('COMMIT');
    return run.map((migration) => migration.name);
  });
}

/** Relations that the migrations make: one by such a name that is there before them is not ours. */
const RELATIONS = [...manifest.tables, ...manifest.sequences];

/** @throws OperatorError `name-taken` where somebody else's relation has a name that we need */
async function refuseTaken(client: pg.ClientBase, schema: string): Promise<void> {
  const { rows } = await client.query<{ name: string; kind: string; columns: string | null }>(
    `SELECT relname AS name, CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
       WHEN 'i' THEN 'index' WHEN 'c' THEN 'type' ELSE 'table' END AS kind,
       (SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped) AS columns
     FROM pg_class WHERE relnamespace = $1::regnamespace AND relname = ANY ($2) ORDER BY relname`,
    [pg.escapeIdentifier(schema), RELATIONS],
  );
  if (rows.length === 0) return;
  const isOurs = rows.length === RELATIONS.length;
  const found = rows.map(({ name, kind, columns }) => `${kind} "${name}"${columns === null ? '' : ` (${columns})`}`);
  throw new OperatorError(
    'name-taken',
    isOurs
      ? `Schema "${schema}" has an outbox, but no account of its migrations. Nothing was changed. Run: ${commandLine('doctor')}`
      : `Schema "${schema}" already exists with what is not of this outbox: ${found.join(', ')}. Nothing was changed.\n` +
          'Give the outbox a schema of its own: in psql, CREATE SCHEMA outbox_relay, and add to DATABASE_URL, here and for the relay, ' +
          '?options=-c%20search_path%3Doutbox_relay\nPublishers then INSERT INTO outbox_relay.outbox. Or rename what is there.',
  );
}

/**
 * Puts back the one row of outbox_floor, where it is gone. How far the log was pruned is not known
 * then, but what was deleted has left a gap in the positions: the newest events that follow one
 * another without one, up to the sequence, are all there, and the floor is just below them. It gets
 * an id that nobody was given, so that no cursor is taken for it.
 */
async function mendFloor(client: pg.ClientBase, here: string): Promise<void> {
  const { rowCount } = await client.query(`SELECT FROM ${here}.outbox_floor`);
  if (rowCount !== 0) return;
  // No position is drawn meanwhile, and each that was drawn is committed or never will be.
  await client.query(`LOCK TABLE ${here}.outbox IN EXCLUSIVE MODE`);
  await client.query(
    `WITH sequence AS (
       SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS last FROM ${here}.outbox_position_seq
     ), newest AS (
       SELECT position + row_number() OVER (ORDER BY position DESC) AS run, position FROM ${here}.outbox WHERE position IS NOT NULL
     ), floor AS (
       SELECT coalesce((SELECT min(position) - 1 FROM newest WHERE run = sequence.last + 1),
         greatest(sequence.last, (SELECT max(position) FROM newest))) AS position FROM sequence
     )
     INSERT INTO ${here}.outbox_floor (id, position, highest_id)
     SELECT id, position, id FROM (
       SELECT CASE position WHEN 0 THEN 0 ELSE nextval($1::regclass) END AS id, position FROM floor
     ) mended WHERE NOT EXISTS (SELECT FROM ${here}.outbox_floor)`,
    [`${here}.outbox_id_seq`],
  );
}

/** Most events that are counted: a table of many millions takes minutes. */
const MOST_COUNTED = 1_000_000;

/** What `down` would delete. */
export interface Contents {
  readonly database: string;
  /** Events in the outbox: those that are not committed yet not among them. */
  readonly events: number;
  /** There are more than `events`. */
  readonly areMore: boolean;
}

/**
 * @returns undefined where `down` has nothing to do
 * @throws OperatorError `several-outboxes`, or what PostgreSQL throws
 */
export async function outboxContents(url: string): Promise<Contents | undefined> {
  return withSession(url, 'outbox-relay migrate', async (session) => {
    if (!(await hasBookkeeping(session))) return undefined;
    // A bookkeeping table may be all that is left.
    const outbox = session.schema === undefined ? '(VALUES (0) OFFSET 1)' : 'here.outbox';
    const { rows } = await session.query<{ database: string; events: number }>(
      `SELECT current_database() AS database, count(*)::int AS events
       FROM (SELECT FROM ${outbox} AS outbox LIMIT ${MOST_COUNTED + 1}) AS counted`,
    );
    const { database = '', events = 0 } = rows[0] ?? {};
    return { database, events: Math.min(events, MOST_COUNTED), areMore: events > MOST_COUNTED };
  });
}

/** @throws what PostgreSQL throws, or a timeout: a relay that starts must not wait for ever */
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
  return withSession(url, 'outbox-relay migrate', look, STATUS_TIMEOUT_SECONDS);
}

/** Where the outbox is, or is to be. @throws OperatorError `several-outboxes` */
function schemaOf(session: Session): string | undefined {
  if (session.rivals.length > 0) throw outboxNotFound(session);
  return session.schema ?? session.currentSchema;
}

/** A migration makes its tables in `schema`; after it only PostgreSQL's schema is searched. */
function loadMigrations(files: readonly string[], schema: string, onStep: (number: number) => void) {
  let begun = 0;
  return Promise.all(
    files.map(async (file) => {
      const [up = '', down = ''] = (await readFile(file, 'utf8')).split(/^-- Down Migration$/m);
      const inSchema = (text: string) => (pgm: MigrationBuilder) => {
        begun += 1;
        onStep(begun);
        pgm.sql(`SET LOCAL search_path = ${pg.escapeIdentifier(schema)}, pg_temp`);
        pgm.sql(text);
        pgm.sql('SET LOCAL search_path = pg_catalog, pg_temp');
      };
      return { id: file, filePaths: [file], actions: { up: inSchema(up), down: inSchema(down) } };
    }),
  );
}

async function knownMigrations(): Promise<string[]> {
  const files = await readdir(DIRECTORY);
  return files
    .filter((file) => file.endsWith('.sql'))
    .map((file) => file.slice(0, -'.sql'.length))
    .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
}

async function hasApplied(session: Session, table: string): Promise<boolean> {
  return (await hasBookkeeping(session)) && (await session.query(`SELECT FROM ${table}`)).rowCount !== 0;
}

async function hasBookkeeping(session: Session): Promise<boolean> {
  const schema = schemaOf(session);
  if (schema === undefined) return false;
  const { rows } = await session.query<{ found: boolean }>('SELECT to_regclass($1) IS NOT NULL AS found', [
    `${pg.escapeIdentifier(schema)}.${TABLE}`,
  ]);
  return rows[0]?.found ?? false;
}
