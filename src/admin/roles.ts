/**
 * Roles: how those that are missing are made, and get the rights that they need on the outbox.
 *
 * Rights are granted and never taken away: a role that was there before may have others for reasons
 * of its own. Whoever is shown the SQL, and whoever has it run, gets the same text.
 */
import pg from 'pg';
import { commandLine } from '../command-name.js';
import { OperatorError } from '../operator-error.js';
import { withSession } from '../postgres/client.js';
import type { Session } from '../postgres/session.js';
import { grants, hasRights, PURPOSES, type Purpose } from './rights.js';

/** Names of roles, case-sensitive. One role may serve several purposes. */
export type RoleNames = Readonly<Partial<Record<Purpose, readonly string[] | undefined>>>;

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
      `The database has no outbox yet, or the search_path does not lead to it. As its owner, run: ${commandLine('migrate')}`,
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
