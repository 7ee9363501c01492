/**
 * The patient: the database that the doctor examines, with all that the checks need to know of it. It can only be read.
 */
import type pg from 'pg';
import type { Session } from '../../postgres/session.js';

export interface Patient {
  readonly databaseUrl: string;
  readonly listenDatabaseUrl: string;
  /** Who we are there. */
  readonly role: string;
  readonly database: string;
  /** Undefined: the search_path leads to no outbox. */
  readonly home: Home | undefined;
  /** The role's own. */
  readonly searchPath: string;
  /** Where a publisher with that search_path publishes. */
  readonly schemaOfTable: string | undefined;
  /** Schemas with an outbox that the search_path does not lead to. */
  readonly elsewhere: readonly string[];
  /** This machine's clock, in milliseconds since 1970. */
  readonly now: () => number;
  /** How long a transaction may be open before it is worth mentioning. */
  readonly oldSeconds: number;
  /**
   * Runs a query in a read-only transaction of its own, which a pooler keeps on one session; `here.` stands for the schema of the
   * outbox.
   *
   * @throws what PostgreSQL throws
   */
  query<Row extends pg.QueryResultRow>(sql: string, values?: readonly unknown[]): Promise<Row[]>;
}

/** Where the outbox is. */
export interface Home {
  readonly schema: string;
  /** The schema as it stands in SQL, quoted where it has to be. */
  readonly quoted: string;
  readonly owner: string;
}

export interface Examination {
  readonly databaseUrl: string;
  readonly listenDatabaseUrl: string;
  readonly now?: () => number;
  readonly oldSeconds?: number;
}

/** A look at a large table may take its time, but a lock that somebody holds must not keep the doctor for ever. */
const QUERY_SECONDS = 60;

/** A database that says nothing for so long has not even heard of that. */
export const ANSWER_SECONDS = QUERY_SECONDS + 10;

/** @throws what PostgreSQL throws */
export async function meetPatient(session: Session, examination: Examination): Promise<Patient> {
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
  const { role, database, schema, quoted, owner, elsewhere } = known;
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
    home: schema === null ? undefined : { schema, quoted, owner },
    query,
  };
}

/** The home of a patient of whom it is known that there is an outbox. */
export function homeOf({ home }: Patient): Home {
  if (home === undefined) throw new TypeError('this check needs an outbox');
  return home;
}

/** Who owns the outbox, for "as …". */
export const ownerOf = (patient: Patient): string => `the owner of the outbox (${homeOf(patient).owner})`;

/** SQL that finds our tables by their bare names, wherever it is pasted. */
export function inHome(patient: Patient, sql: readonly string[]): string[] {
  const { schema, quoted } = homeOf(patient);
  return schema === 'public' ? [...sql] : [`SET search_path = ${quoted}`, ...sql];
}
