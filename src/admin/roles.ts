/**
 * Roles: which rights each part of a system needs on the outbox, how roles get them, and what a
 * relay's role has too many.
 *
 * Rights are granted and never taken away: a role that was there before may have others for reasons
 * of its own. Whoever is shown the SQL, and whoever has it run, gets the same text.
 */
import { sql, type Kysely } from 'kysely';
import pg from 'pg';
import type { Logger } from 'pino';
import { OperatorError } from '../operator-error.js';
import { manifest } from '../postgres/manifest.js';
import { withSession, type Tables } from '../postgres/pool.js';
import type { Session } from '../postgres/session.js';

/** What a role is for. */
export const PURPOSES = ['app', 'relay', 'retention', 'redaction'] as const;
export type Purpose = (typeof PURPOSES)[number];

/** Names of roles, case-sensitive. One role may serve several purposes. */
export type RoleNames = Readonly<Partial<Record<Purpose, readonly string[] | undefined>>>;

interface Right {
  readonly privilege: 'SELECT' | 'INSERT' | 'UPDATE' | 'DELETE';
  readonly table: string;
  /** Absent: the whole table. */
  readonly columns?: readonly string[];
}

/** Functions that PUBLIC may execute, unless somebody has taken that away, and who needs them. */
const FUNCTIONS: Readonly<Partial<Record<Purpose, readonly string[]>>> = {
  app: ['outbox_cursor()', 'outbox_cursor(text)'],
  relay: ['outbox_settled(integer)'],
  retention: ['outbox_settled(integer)'],
};

/**
 * The least that does the job. The floor, redactions and the account of migrations are readable for
 * PUBLIC as well; named here, they still are for these roles when PUBLIC has lost that.
 */
const RIGHTS: Readonly<Record<Purpose, readonly Right[]>> = {
  // Not id and created_at: an id ahead of the sequence's would make the relay take unknown cursors
  // for expired ones, and a time of choice would mislead ?since= and retention. SELECT is for
  // INSERT ... RETURNING, for the cursor that a page's stream starts at, and for an application's
  // own lists of what it published.
  app: [
    { privilege: 'INSERT', table: 'outbox', columns: ['channel', 'event', 'data'] },
    { privilege: 'SELECT', table: 'outbox' },
    { privilege: 'SELECT', table: 'outbox_floor' },
  ],
  relay: [
    { privilege: 'SELECT', table: 'outbox' },
    { privilege: 'SELECT', table: 'outbox_floor' },
    { privilege: 'SELECT', table: 'outbox_redaction' },
    { privilege: 'SELECT', table: 'outbox_migrations' },
  ],
  // A trigger of the owner's raises the floor; each batch starts at it.
  retention: [
    { privilege: 'SELECT', table: 'outbox' },
    { privilege: 'DELETE', table: 'outbox' },
    { privilege: 'SELECT', table: 'outbox_floor' },
  ],
  redaction: [
    { privilege: 'SELECT', table: 'outbox' },
    { privilege: 'UPDATE', table: 'outbox', columns: ['data'] },
  ],
};

/**
 * The SQL that `makeRoles` runs, for somebody else to run: in a transaction of its own, harmless to
 * repeat, without secrets.
 *
 * @throws OperatorError `no-role`, `bad-role`, `no-outbox`
 */
export async function rolesSql(url: string, names: RoleNames): Promise<string> {
  const wanted = byName(names);
  const compose = (session: Session): string => {
    const schema = outboxSchema(session);
    const roles = [...wanted].map(([name, purposes]) =>
      [`-- ${purposes.join(', ')}`, createRole(name), ...grants(schema, name, purposes)].join('\n'),
    );
    return [
      `-- Run as the owner of the outbox, if it may create roles, or as a superuser.\nBEGIN;`,
      ...roles,
      'COMMIT;',
      [
        '-- A new role has no password. In psql:',
        ...[...wanted.keys()].map((name) => `--   ${passwordCommand(name)}`),
      ].join('\n'),
    ].join('\n\n');
  };
  return withSession(url, 'outbox-relay roles', (session) => Promise.resolve().then(() => compose(session)));
}

/**
 * Makes the roles that are missing, able to log in and without a password, and gives each the
 * rights that it needs: all of it or, on any error, nothing. Harmless to repeat.
 *
 * @returns the names, in the order asked for, each with whether it is new
 * @throws OperatorError, as `rolesSql` and `may-not-create-roles`, `may-not-grant`; else what
 * PostgreSQL throws
 */
export async function makeRoles(url: string, names: RoleNames): Promise<{ name: string; created: boolean }[]> {
  const wanted = byName(names);
  return withSession(url, 'outbox-relay roles', async (session) => {
    const schema = outboxSchema(session);
    const made: { name: string; created: boolean }[] = [];
    // An error leaves the transaction open, and the connection, which closes then, rolls it back.
    await session.begin('READ WRITE');
    for (const [name, purposes] of wanted) {
      const { rowCount } = await session.query('SELECT FROM pg_roles WHERE rolname = $1', [name]);
      const created = rowCount === 0;
      if (created) await orRefused(session.client.query(createRole(name)), 'may-not-create-roles');
      for (const grant of grants(schema, name, purposes)) await orRefused(session.client.query(grant), 'may-not-grant');
      // To who may not grant, but has some right of their own on the table, PostgreSQL gives a mere
      // warning.
      if (!(await hasRights(session, schema, name, purposes))) throw refusal('may-not-grant');
      made.push({ name, created });
    }
    await session.query('COMMIT');
    return made;
  });
}

/** The line with which to give a role a password in psql, which asks for it and sends it hashed. */
export function passwordCommand(name: string): string {
  return `\\password ${pg.escapeIdentifier(name)}`;
}

/** @throws OperatorError `no-role`, `bad-role` */
function byName(names: RoleNames): Map<string, Purpose[]> {
  const wanted = new Map<string, Purpose[]>();
  for (const purpose of PURPOSES) {
    for (const name of new Set(names[purpose])) {
      const reason = reasonAgainst(name);
      if (reason) throw new OperatorError('bad-role', `--${purpose} ${JSON.stringify(name)}: ${reason}`);
      wanted.set(name, [...(wanted.get(name) ?? []), purpose]);
    }
  }
  if (wanted.size === 0) {
    const options = PURPOSES.map((purpose) => `--${purpose}`).join(', ');
    throw new OperatorError('no-role', `Which roles? Name at least one, by ${options}; as in: --relay outbox_relay`);
  }
  return wanted;
}

function reasonAgainst(name: string): string | undefined {
  if (name === '') return 'a role needs a name.';
  if (Buffer.byteLength(name) > 63) return 'PostgreSQL cuts names after 63 bytes; choose a shorter one.';
  if (/[\x00-\x1f\x7f]/.test(name)) return 'control characters do not belong into a name.';
  // GRANT takes even a quoted "public" for everybody.
  if (name === 'public' || name === 'none' || name.startsWith('pg_')) return 'PostgreSQL keeps that name to itself.';
  return undefined;
}

function outboxSchema({ schema }: Session): string {
  if (schema === undefined) {
    throw new OperatorError(
      'no-outbox',
      'The database has no outbox yet, or the search_path does not lead to it. As its owner, run: npx outbox-relay migrate',
    );
  }
  return schema;
}

function createRole(name: string): string {
  const body = `BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) ${pg.escapeLiteral(name)}) THEN
    CREATE ROLE ${pg.escapeIdentifier(name)} LOGIN;
  END IF;
END`;
  let quote = '$role$';
  while (body.includes(quote)) quote = quote.replace('role', 'role_');
  return `DO ${quote} ${body} ${quote};`;
}

function grants(schema: string, name: string, purposes: readonly Purpose[]): string[] {
  const role = pg.escapeIdentifier(name);
  const tables = new Map<string, Set<string>>();
  for (const { privilege, table, columns } of purposes.flatMap((purpose) => RIGHTS[purpose])) {
    const privileges = tables.get(table) ?? new Set();
    tables.set(table, privileges.add(columns ? `${privilege} (${columns.join(', ')})` : privilege));
  }
  return [
    `GRANT USAGE ON SCHEMA ${pg.escapeIdentifier(schema)} TO ${role};`,
    ...[...tables].map(
      ([table, privileges]) =>
        `GRANT ${[...privileges].join(', ')} ON ${pg.escapeIdentifier(schema)}.${table} TO ${role};`,
    ),
    ...functionsOf(purposes).map(
      (signature) => `GRANT EXECUTE ON FUNCTION ${pg.escapeIdentifier(schema)}.${signature} TO ${role};`,
    ),
  ];
}

function functionsOf(purposes: readonly Purpose[]): string[] {
  return [...new Set(purposes.flatMap((purpose) => FUNCTIONS[purpose] ?? []))];
}

async function hasRights(
  session: Session,
  schema: string,
  name: string,
  purposes: readonly Purpose[],
): Promise<boolean> {
  const rights = purposes.flatMap((purpose) => RIGHTS[purpose]);
  const { rows } = await session.query<{ complete: boolean }>(
    `SELECT has_schema_privilege($1, $2, 'USAGE') AND NOT EXISTS (
       SELECT FROM jsonb_to_recordset($3) AS r(privilege text, "table" text, columns text[])
       WHERE NOT CASE WHEN columns IS NULL THEN has_table_privilege($1, format('%I.%I', $2::text, "table"), privilege)
         ELSE (SELECT bool_and(has_column_privilege($1, format('%I.%I', $2::text, "table"), c, privilege))
               FROM unnest(columns) AS c) END
     ) AND NOT EXISTS (
       SELECT FROM unnest($4::text[]) AS f(signature)
       WHERE NOT has_function_privilege($1, format('%I.%s', $2::text, signature), 'EXECUTE')
     ) AS complete`,
    [name, schema, JSON.stringify(rights), functionsOf(purposes)],
  );
  return rows[0]?.complete ?? false;
}

async function orRefused(query: Promise<unknown>, code: 'may-not-create-roles' | 'may-not-grant'): Promise<void> {
  try {
    await query;
  } catch (error) {
    const denied = error instanceof pg.DatabaseError && error.code === '42501'; // insufficient_privilege
    throw denied ? refusal(code, error) : error;
  }
}

function refusal(code: 'may-not-create-roles' | 'may-not-grant', cause?: unknown): OperatorError {
  const what =
    code === 'may-not-grant'
      ? 'The role in DATABASE_URL may not grant rights on the outbox: that is for its owner.'
      : 'The role in DATABASE_URL may not create roles.';
  const advice = 'Run the same command with --print, and hand the SQL to your administrator.';
  return new OperatorError(code, `${what} ${advice}`, cause === undefined ? undefined : { cause });
}

/** All relations of the outbox. */
const OURS = [...manifest.tables, ...manifest.sequences, 'outbox_migrations'];

export interface ExcessRights {
  /** Whose they are. */
  readonly role: string;
  /** In words; empty for a role that may only read. */
  readonly rights: string[];
}

/**
 * What the connection's role may do that a relay need not: to the outbox and what belongs to it, in
 * its schema, and to the server. What it could do after SET ROLE counts, so it does not matter
 * whether a membership is inherited.
 *
 * @throws what PostgreSQL throws
 */
export async function excessRights(db: Kysely<Tables>): Promise<ExcessRights> {
  const { rows } = await sql<{ role: string; superuser: boolean; right: string | null }>`
    WITH may_be AS (
      SELECT * FROM pg_roles WHERE pg_has_role(oid, 'MEMBER')
    ), home AS (
      SELECT * FROM pg_namespace WHERE oid = (SELECT relnamespace FROM pg_class WHERE oid = 'here.outbox'::regclass)
    ), ours AS (
      SELECT pg_class.*, pg_has_role(relowner, 'MEMBER') AS owned FROM pg_class
      WHERE relnamespace = (SELECT oid FROM home) AND relname = ANY (${OURS})
    ), excess AS (
      SELECT DISTINCT 1 AS rank, n, word FROM may_be, LATERAL (VALUES
        (1, rolcreaterole, 'CREATEROLE'), (2, rolcreatedb, 'CREATEDB'), (3, rolreplication, 'REPLICATION')
      ) AS attribute(n, has, word) WHERE has
      UNION ALL
      SELECT 2, 0, 'owner of ' || string_agg(relname, ', ' ORDER BY relname) FROM ours WHERE owned HAVING count(*) > 0
      UNION ALL
      SELECT 3, 0, string_agg(privilege, ', ' ORDER BY n) || ' on ' || relname
      FROM ours, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'USAGE'])
        WITH ORDINALITY AS p(privilege, n)
      WHERE NOT owned AND EXISTS (SELECT FROM may_be WHERE CASE
        WHEN relkind = 'S' THEN privilege IN ('UPDATE', 'USAGE') AND has_sequence_privilege(may_be.oid, ours.oid, privilege)
        WHEN privilege = 'USAGE' THEN false
        WHEN privilege IN ('INSERT', 'UPDATE', 'REFERENCES') THEN has_any_column_privilege(may_be.oid, ours.oid, privilege)
        ELSE has_table_privilege(may_be.oid, ours.oid, privilege) END)
      GROUP BY relname
      UNION ALL
      SELECT 4, 0, CASE
        WHEN pg_has_role(nspowner, 'MEMBER') THEN format('owner of schema %I', nspname)
        WHEN has_schema_privilege('public', oid, 'CREATE')
          THEN format('CREATE in schema %1$I, as everybody has (REVOKE CREATE ON SCHEMA %1$I FROM PUBLIC)', nspname)
        ELSE format('CREATE in schema %I', nspname) END
      FROM home WHERE EXISTS (SELECT FROM may_be WHERE has_schema_privilege(may_be.oid, home.oid, 'CREATE'))
    )
    SELECT current_user AS role, (SELECT bool_or(rolsuper) FROM may_be) AS superuser, excess.word AS right
    FROM (VALUES (true)) AS always(present) LEFT JOIN excess ON true
    ORDER BY rank, n, word`.execute(db);
  const role = rows[0]?.role ?? '';
  // Who may do everything needs no list of it.
  if (rows[0]?.superuser) return { role, rights: ['superuser'] };
  return { role, rights: rows.flatMap((row) => row.right ?? []) };
}

/**
 * Warns once of each role that can do more than a relay needs. Never rejects: a relay that cannot
 * find out runs all the same.
 *
 * @param databases those that the relay reads from; each may have a role of its own
 */
export async function warnOfExcessRights(databases: readonly Kysely<Tables>[], logger: Logger): Promise<void> {
  const warned = new Set<string>();
  for (const db of databases) {
    try {
      const { role, rights } = await excessRights(db);
      if (rights.length === 0 || warned.has(role)) continue;
      warned.add(role);
      logger.warn(
        { role, rights },
        'the role of this relay can do more than read; give it one that cannot: npx outbox-relay roles --relay outbox_relay',
      );
    } catch (error) {
      logger.debug({ err: error }, 'what the role of this relay can do is not known');
    }
  }
}
