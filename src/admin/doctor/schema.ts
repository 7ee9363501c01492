/**
 * Checks of what the migrations made: whether all of it is there, as the manifest has it, and
 * works.
 */
import pg from 'pg';
import {
  manifest,
  readColumns,
  readFunctions,
  readIndexes,
  readTriggers,
  type Trigger,
} from '../../postgres/manifest.js';
import { WITHOUT_INDEX, WITHOUT_TRIGGER } from './consequences.js';
import { ok, type Finding } from './finding.js';
import { schemaOf, inSchema, ownerOf, type Target } from './target.js';

const HERE = `(SELECT relnamespace FROM pg_class WHERE oid = 'here.outbox_floor'::regclass)`;

const superuserOf = (target: Target) =>
  `a superuser, as it takes things away from their owner (database ${target.database})`;

/** A definition with the schema, as PostgreSQL shows it; and without, for a session in it. */
const inPlace = (target: Target, definition: string) => definition.replaceAll('here.', `${schemaOf(target).quoted}.`);
const pasted = (definition: string) => definition.replaceAll('here.', '');

export async function checkTriggers(target: Target): Promise<Finding[]> {
  const found = new Map((await readTriggers(target.query)).map((row) => [row.name, row]));
  const expected = manifest.triggers;
  const findings: Finding[] = [];
  const report = (level: 'error' | 'warning', what: string, which: Trigger[], sql: string[], why?: string) => {
    if (which.length === 0) return;
    const names = which.map(({ name }) => name).join(', ');
    const reasons = [...new Set(which.map(({ name }) => WITHOUT_TRIGGER[name]))].join('; ');
    findings.push({
      level,
      what: `${what}: ${names}`,
      why: why ?? reasons,
      fix: { as: ownerOf(target), sql: inSchema(target, sql) },
    });
  };
  const enable = (which: Trigger[]) => which.map(({ table, name }) => `ALTER TABLE ${table} ENABLE TRIGGER ${name}`);

  const missing = expected.filter(({ name }) => !found.has(name));
  report(
    'error',
    'missing',
    missing,
    missing.map(({ definition }) => pasted(definition)),
  );
  const changed = expected.filter(({ name, definition }) => {
    const own = found.get(name)?.definition;
    return own !== undefined && own !== inPlace(target, definition);
  });
  const anew = changed.flatMap(({ name, table, definition }) => [
    `DROP TRIGGER ${name} ON ${table}`,
    pasted(definition),
  ]);
  report('error', 'not as the migrations made them', changed, ['BEGIN', ...anew, 'COMMIT']);
  const firing = (...codes: string[]) => expected.filter(({ name }) => codes.includes(found.get(name)?.enabled ?? ''));
  // D: disabled; R: fires only where session_replication_role is replica, so for no publisher.
  const disabled = firing('D', 'R');
  report('error', 'disabled', disabled, enable(disabled));
  const always = firing('A');
  const why =
    'rows that replication brings, or that are loaded as by a replica, would get positions of their own or be refused';
  report('warning', 'enabled ALWAYS', always, enable(always), why);
  return findings.length > 0 ? findings : [ok(`all ${expected.length} are enabled`)];
}

const bodyOf = (definition: string) => definition.split('$function$')[1];

export async function checkFunctions(target: Target): Promise<Finding[]> {
  const { owner } = schemaOf(target);
  const rows = await readFunctions(target.query);
  const findings: Finding[] = [];
  const exposed: string[] = [];
  for (const { name, args, isDefiner, settings, isPublic, ...expected } of manifest.functions) {
    const own = rows.find((row) => row.name === name && row.args === args);
    const signature = `${name}(${args})`;
    const definition = inPlace(target, expected.definition);
    const troubles = own
      ? [
          ...(bodyOf(own.definition) !== bodyOf(definition) ? ['its body was changed'] : []),
          ...(own.isDefiner !== isDefiner ? [`it is ${isDefiner ? 'not ' : ''}SECURITY DEFINER`] : []),
          ...(own.settings.join() !== settings.join() ? ['its settings were changed'] : []),
        ]
      : ['it is missing'];
    if (troubles.length > 0) {
      const sql = [definition, ...(isPublic ? [] : [`REVOKE EXECUTE ON FUNCTION ${signature} FROM PUBLIC`])];
      findings.push({
        level: 'error',
        what: `${signature}: ${troubles.join(', ')}`,
        why: 'publishing may fail, rows may stay without a position, or a publisher may get the rights of the owner',
        fix: { as: ownerOf(target), sql: inSchema(target, sql) },
      });
    }
    if (own?.isPublic && !isPublic) exposed.push(signature);
    if (own && own.owner !== owner) {
      findings.push({
        level: 'error',
        what: `${signature} belongs to ${own.owner}, and the outbox to ${owner}`,
        why: 'it runs with the rights of its owner, which may lack some that it needs or have others that nobody should get',
        fix: {
          as: superuserOf(target),
          sql: inSchema(target, [`ALTER FUNCTION ${signature} OWNER TO ${pg.escapeIdentifier(owner)}`]),
        },
      });
    }
  }
  // What a restore without privileges leaves is one trouble, and events are not in danger by it.
  if (exposed.length > 0) {
    findings.push({
      level: 'warning',
      what: `everybody may execute ${exposed.length === 1 ? exposed[0] : `${exposed.length} functions of the outbox`}`,
      why: 'a role that may make triggers could run them with the rights of the owner. A restore without privileges leaves it so',
      fix: {
        as: ownerOf(target),
        sql: inSchema(
          target,
          exposed.map((signature) => `REVOKE EXECUTE ON FUNCTION ${signature} FROM PUBLIC`),
        ),
      },
    });
  }
  return findings.length > 0 ? findings : [ok(`all ${manifest.functions.length} are as the migrations made them`)];
}

export async function checkIndexes(target: Target): Promise<Finding[]> {
  const rows = await readIndexes(target.query);
  const findings: Finding[] = [];
  for (const { table, name, constraint, ...expected } of manifest.indexes) {
    const own = rows.find((row) => row.name === name);
    const isSame = own?.definition === inPlace(target, expected.definition) && own.constraint === constraint;
    if (isSame && own.isValid) continue;
    const what =
      own === undefined ? 'is missing' : isSame ? 'is invalid, so it is not used' : 'is not as the migrations made it';
    const create =
      constraint === null
        ? pasted(expected.definition).replace('INDEX', 'INDEX CONCURRENTLY')
        : `ALTER TABLE ${table} ADD CONSTRAINT ${name} ${constraint}`;
    const drop = own?.constraint ? `ALTER TABLE ${table} DROP CONSTRAINT ${name}` : `DROP INDEX CONCURRENTLY ${name}`;
    const sql = isSame ? [`REINDEX INDEX CONCURRENTLY ${name}`] : own === undefined ? [create] : [drop, create];
    findings.push({
      level: 'error',
      what: `${name} ${what}`,
      why: WITHOUT_INDEX[name] ?? '',
      fix: { as: ownerOf(target), sql: inSchema(target, sql) },
    });
  }
  return findings.length > 0 ? findings : [ok(`all ${manifest.indexes.length} are there and valid`)];
}

/** Owner, row security, columns and replica identity of the tables, and how sequences count. */
export async function checkTables(target: Target): Promise<Finding[]> {
  const { owner } = schemaOf(target);
  const findings: Finding[] = [];
  const rows = await target.query<{ name: string; kind: string; owner: string; hasRowSecurity: boolean }>(
    `SELECT relname AS name, relkind AS kind, pg_get_userbyid(relowner) AS owner, relrowsecurity AS "hasRowSecurity"
     FROM pg_class WHERE relnamespace = ${HERE} AND relname = ANY ($1) ORDER BY relname`,
    [[...manifest.tables, 'outbox_position_seq']],
  );
  for (const { name, kind, ...own } of rows) {
    if (own.hasRowSecurity) {
      findings.push({
        level: 'error',
        what: `row security is on for ${name}`,
        why: 'a relay whose role does not see some rows skips their events without a word',
        fix: { as: ownerOf(target), sql: inSchema(target, [`ALTER TABLE ${name} DISABLE ROW LEVEL SECURITY`]) },
      });
    }
    if (own.owner !== owner) {
      const what = kind === 'S' ? 'SEQUENCE' : 'TABLE';
      findings.push({
        level: 'error',
        what: `${name} belongs to ${own.owner}, and the outbox to ${owner}`,
        why: 'the triggers run as the owner of the outbox, and publishing fails where that one may not write',
        fix: {
          as: superuserOf(target),
          sql: inSchema(target, [`ALTER ${what} ${name} OWNER TO ${pg.escapeIdentifier(owner)}`]),
        },
      });
    }
  }
  const sequences = await target.query<{ name: string }>(
    `SELECT relname AS name FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
     WHERE relnamespace = ${HERE} AND (seqincrement <> 1 OR seqcycle OR relname = 'outbox_position_seq' AND seqcache <> 1)
       AND relname IN ('outbox_id_seq', 'outbox_position_seq')`,
  );
  for (const { name } of sequences) {
    findings.push({
      level: 'error',
      what: `${name} does not count one by one, for ever, without a cache`,
      why: 'a position that a session keeps in reserve is handed out after higher ones, and its event is never delivered',
      fix: { as: ownerOf(target), sql: inSchema(target, [`ALTER SEQUENCE ${name} INCREMENT 1 NO CYCLE CACHE 1`]) },
    });
  }
  findings.push(...(await checkColumns(target)), ...(await checkReplicaIdentity(target)));
  return findings.length > 0
    ? findings
    : [ok('their owner, columns, row security and sequences are as they should be')];
}

async function checkColumns(target: Target): Promise<Finding[]> {
  const rows = await readColumns(target.query);
  return manifest.columns.flatMap(({ table, name, definition }): Finding[] => {
    const own = rows.find((row) => row.table === table && row.name === name);
    if (own?.definition === definition) return [];
    return [
      {
        level: 'error',
        what: `column ${table}.${name} is ${own === undefined ? 'missing' : own.definition}, not ${definition}`,
        why: 'what relays read there is not what was published, or reading fails',
        fix: {
          advice: `as ${ownerOf(target)}, make it ${definition} again: it is written in migrations/1_outbox.sql`,
        },
      },
    ];
  });
}

/** In a publication PostgreSQL refuses UPDATE and DELETE on a table without a replica identity. */
async function checkReplicaIdentity(target: Target): Promise<Finding[]> {
  const rows = await target.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relnamespace = ${HERE} AND relname = ANY ($1) AND relpersistence = 'p'
       AND relreplident IN ('n', 'i') AND NOT EXISTS
         (SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisreplident AND relreplident = 'i')`,
    [[...manifest.tables, 'outbox_migrations']],
  );
  return rows.map(({ name }) => ({
    level: 'error',
    what: `${name} has no replica identity`,
    why: 'as soon as a publication has the table, events can neither be placed nor deleted',
    fix: { as: ownerOf(target), sql: inSchema(target, [`ALTER TABLE ${name} REPLICA IDENTITY DEFAULT`]) },
  }));
}
