/**
 * Rights: which of them each part of a system needs on the outbox, and the SQL that grants them.
 */
import pg from 'pg';
import type { Session } from '../postgres/session.js';

/** What a role is for. */
export const PURPOSES = ['app', 'relay', 'retention', 'redaction'] as const;
export type Purpose = (typeof PURPOSES)[number];

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
    { privilege: 'INSERT', table: 'outbox', columns: ['channel', 'event', 'data', 'traceparent'] },
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

/** The statements that give a role what its purposes need. */
export function grants(schema: string, name: string, purposes: readonly Purpose[]): string[] {
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

/** Whether a role has what its purposes need. @throws what PostgreSQL throws */
export async function hasRights(
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
