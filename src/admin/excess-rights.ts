/**
 * Excess rights: what a relay's role may do that a relay need not.
 */
import { sql, type Kysely } from 'kysely';
import type { Logger } from 'pino';
import { commandLine } from '../command-name.js';
import { manifest } from '../postgres/manifest.js';
import type { Tables } from '../postgres/pool.js';

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
 * find out runs all the same. Nor should it be waited for: where replays have a pooler of their
 * own, that may be away.
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
        `the role of this relay can do more than read; give it one that cannot: ${commandLine('roles --relay outbox_relay')}`,
      );
    } catch (error) {
      logger.debug({ err: error }, 'what the role of this relay can do is not known');
    }
  }
}
