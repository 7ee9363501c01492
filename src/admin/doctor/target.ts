/**
 * The target: the database that the doctor examines, with all that the checks need to know of it.
 * It can only be read.
 */
import type pg from 'pg';
import type { Session } from '../../postgres/session.js';

export interface Target {
  readonly databaseUrl: string;
  readonly listenDatabaseUrl: string;
  /** The role that the doctor examines as. */
  readonly role: string;
  readonly database: string;
  /** Undefined: the search_path leads to no outbox. */
  readonly schema: OutboxSchema | undefined;
  /** The role's own. */
  readonly searchPath: string;
  /** Where a publisher with that search_path publishes. */
  readonly schemaOfTable: string | undefined;
  /** Schemas with an outbox that the search_path does not lead to. */
  readonly elsewhere: readonly string[];
  /** This machine's clock, in ms since 1970. */
  readonly now: () => number;
  /** Age from which an open transaction is reported. */
  readonly oldSeconds: number;
  /**
   * Runs a query in a read-only transaction of its own, which a pooler keeps on one session;
   * `here.` stands for the schema of the outbox.
   *
   * @throws what PostgreSQL throws
   */
  query<Row extends pg.QueryResultRow>(sql: string, values?: readonly unknown[]): Promise<Row[]>;
}

/** The schema that the outbox is in. */
export interface OutboxSchema {
  readonly name: string;
  /** The name as it stands in SQL, quoted where it has to be. */
  readonly quoted: string;
  readonly owner: string;
}

export interface Examination {
  readonly databaseUrl: string;
  readonly listenDatabaseUrl: string;
  /** This machine's clock, in ms since 1970. Default: Date.now. */
  readonly now?: () => number;
  /** Age from which an open transaction is reported. Default: 3600. */
  readonly oldSeconds?: number;
}

/** Most that a query may take: tables are large, and a lock must not stop the doctor for good. */
const QUERY_SECONDS = 60;

/** Time without an answer after which the connection counts as dead. */
export const ANSWER_SECONDS = QUERY_SECONDS + 10;

/** @throws what PostgreSQL throws */
export async function readTarget(session: Session, examination: Examination): Promise<Target> {
  async function query<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    await session.begin('READ ONLY', `SET LOCAL statement_timeout = '${QUERY_SECONDS}s'`);
    try {
      return (await session.query<Row>(text, values)).rows;
    } finally {
      await session.query('COMMIT');
    }
  }

  const [known] = await query<{
    role: string;
    database: string;
    schema: string | null;
    quoted: string;
    owner: string;
    elsewhere: string[];
  }>(
    `SELECT current_user AS role, current_database() AS database, nspname AS schema, quote_ident(nspname) AS quoted,
      pg_get_userbyid(relowner) AS owner,
      ARRAY(SELECT o.relnamespace::regnamespace::text FROM pg_class o
            WHERE o.relname = 'outbox_floor' AND o.relkind = 'r' AND o.oid IS DISTINCT FROM floor.oid ORDER BY 1) AS elsewhere
    FROM (VALUES (true)) AS always (present) LEFT JOIN (pg_namespace n JOIN pg_class floor ON n.oid = floor.relnamespace)
      ON nspname = $1 AND floor.relname = 'outbox_floor'`,
    [session.schema ?? null],
  );
  if (known === undefined) throw new Error('PostgreSQL does not say who we are.');
  const { role, database, schema: name, quoted, owner, elsewhere } = known;
  return {
    databaseUrl: examination.databaseUrl,
    listenDatabaseUrl: examination.listenDatabaseUrl,
    now: examination.now ?? Date.now,
    oldSeconds: examination.oldSeconds ?? 3600,
    role,
    database,
    elsewhere,
    searchPath: session.searchPath,
    schemaOfTable: session.schemaOfTable,
    schema: name === null ? undefined : { name, quoted, owner },
    query,
  };
}

/** The schema of a target that has an outbox. @throws TypeError where it has none */
export function schemaOf({ schema }: Target): OutboxSchema {
  if (schema === undefined) throw new TypeError('this check needs an outbox');
  return schema;
}

/** Who owns the outbox, for "as …". */
export const ownerOf = (target: Target): string => `the owner of the outbox (${schemaOf(target).owner})`;

/** SQL that finds our tables by their bare names, wherever it is pasted. */
export function inSchema(target: Target, sql: readonly string[]): string[] {
  const { name, quoted } = schemaOf(target);
  return name === 'public' ? [...sql] : [`SET search_path = ${quoted}`, ...sql];
}
