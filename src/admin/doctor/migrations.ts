/**
 * Checks of the migrations: whether the role finds an outbox, and one of this version.
 */
import pg from 'pg';
import { commandLine } from '../../command-name.js';
import { ok, type Fix, type Finding } from './finding.js';
import { inSchema, ownerOf, type Target } from './target.js';
import { migrationStatus } from '../../postgres/migrate.js';

/** Whether the role finds an outbox, of this version. Final where it finds none. */
export async function checkMigrations(target: Target): Promise<Finding[]> {
  const { schema, role, database, elsewhere, databaseUrl } = target;
  if (schema === undefined) return [await noOutbox(target)];
  if (target.schemaOfTable !== schema.name) {
    return [
      {
        level: 'error',
        what: `the search_path leads to another table than that of the outbox in schema ${schema.name}`,
        why: 'who publishes with that search_path writes into a table "outbox" that no relay reads',
        fix: searchPathFix(role, database, schema.quoted),
        isFinal: true,
      },
    ];
  }
  const { applied, pending, unknown } = await migrationStatus(databaseUrl);
  if (applied.length === 0) {
    return [
      {
        level: 'error',
        what: 'there is an outbox, but the account of its migrations (outbox_migrations) is empty or gone',
        why: 'no relay starts, and "migrate" tries to make what is there already',
        fix: { as: ownerOf(target), sql: inSchema(target, accountSql(pending[0] ?? '')) },
      },
    ];
  }
  const why = 'a relay of this version does not start';
  const findings: Finding[] = [];
  if (pending.length > 0) {
    const fix = { as: ownerOf(target), command: commandLine('migrate') };
    findings.push({ level: 'error', what: `the database lacks ${pending.join(', ')}`, why, fix });
  }
  if (unknown.length > 0) {
    const what = `the database is newer than this outbox-relay: ${unknown.join(', ')}`;
    findings.push({ level: 'error', what, why, fix: { advice: 'install the newest outbox-relay' } });
  }
  if (findings.length > 0) return findings;
  const others = elsewhere.length > 0 ? ` (there are others, in ${elsewhere.join(', ')})` : '';
  return [ok(`${applied.join(', ')}, in schema ${schema.name}${others}`)];
}

async function noOutbox({ query, role, database, elsewhere, searchPath }: Target): Promise<Finding> {
  const [first] = elsewhere;
  if (first === undefined) {
    return {
      level: 'error',
      what: `database ${database} has no outbox`,
      why: 'there is nothing to publish into, and no relay starts',
      fix: { as: 'a role that may create tables', command: commandLine('migrate') },
      isFinal: true,
    };
  }
  const [access] = await query<{ usable: boolean }>(
    `SELECT has_schema_privilege($1::regnamespace, 'USAGE') AS usable`,
    [first],
  );
  if (access?.usable === false) {
    return {
      level: 'error',
      what: `the outbox is in schema ${first}, which role ${role} may not use`,
      why: 'a relay with this role sees no outbox',
      fix: { as: 'the owner of that schema', sql: [`GRANT USAGE ON SCHEMA ${first} TO ${pg.escapeIdentifier(role)}`] },
      isFinal: true,
    };
  }
  return {
    level: 'error',
    what: `the outbox is in schema ${elsewhere.join(', ')}, and the search_path of role ${role} is ${searchPath}`,
    why: 'a relay with this role sees no outbox',
    fix: searchPathFix(role, database, first),
    isFinal: true,
  };
}

function searchPathFix(role: string, database: string, schema: string): Fix {
  const sql = `ALTER ROLE ${pg.escapeIdentifier(role)} IN DATABASE ${pg.escapeIdentifier(database)} SET search_path = ${schema}`;
  return { as: `${role}, or who may alter that role`, sql: [sql] };
}

/** What node-pg-migrate would have written, had it made the first migration. */
function accountSql(first: string): string[] {
  return [
    'CREATE TABLE IF NOT EXISTS outbox_migrations (id SERIAL PRIMARY KEY, name varchar(255) NOT NULL, run_on timestamp NOT NULL)',
    'GRANT SELECT ON outbox_migrations TO PUBLIC',
    `INSERT INTO outbox_migrations (name, run_on) VALUES (${pg.escapeLiteral(first)}, now())`,
  ];
}
