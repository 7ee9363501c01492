/**
 * Checks of what the migrations made: whether all of it is there, as it was made, and works.
 */
import pg from 'pg';
import { COLUMNS, FUNCTIONS, functionSources, INDEXES, TABLES, TRIGGERS, type ExpectedTrigger } from './expected.js';
import { ok, type Finding } from './finding.js';
import { homeOf, inHome, ownerOf, type Patient } from './target.js';

const HERE = `(SELECT relnamespace FROM pg_class WHERE oid = 'here.outbox_floor'::regclass)`;

const superuserOf = (patient: Patient) =>
  `a superuser, as it takes things away from their owner (database ${patient.database})`;

export async function checkTriggers(patient: Patient): Promise<Finding[]> {
  const { quoted } = homeOf(patient);
  const rows = await patient.query<{ name: string; enabled: string; definition: string }>(
    `SELECT tgname AS name, tgenabled AS enabled, pg_get_triggerdef(pg_trigger.oid, true) AS definition
     FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
     WHERE relnamespace = ${HERE} AND relname = ANY ($1) AND NOT tgisinternal`,
    [TABLES],
  );
  const found = new Map(rows.map((row) => [row.name, row]));
  const findings: Finding[] = [];
  const report = (level: 'error' | 'warning', what: string, which: ExpectedTrigger[], sql: string[], why?: string) => {
    if (which.length === 0) return;
    const names = which.map(({ name }) => name).join(', ');
    const reasons = why ?? [...new Set(which.map(({ without }) => without))].join('; ');
    findings.push({
      level,
      what: `${what}: ${names}`,
      why: reasons,
      cure: { as: ownerOf(patient), sql: inHome(patient, sql) },
    });
  };
  const enable = (which: ExpectedTrigger[]) =>
    which.map(({ table, name }) => `ALTER TABLE ${table} ENABLE TRIGGER ${name}`);

  const missing = TRIGGERS.filter(({ name }) => !found.has(name));
  report(
    'error',
    'missing',
    missing,
    missing.map(({ definition }) => definition),
  );
  const changed = TRIGGERS.filter(({ name, definition }) => {
    const own = found.get(name)?.definition;
    return own !== undefined && own.replaceAll(`${quoted}.`, '') !== definition;
  });
  const anew = changed.flatMap(({ name, table, definition }) => [`DROP TRIGGER ${name} ON ${table}`, definition]);
  report('error', 'not as the migrations made them', changed, ['BEGIN', ...anew, 'COMMIT']);
  const firing = (...codes: string[]) => TRIGGERS.filter(({ name }) => codes.includes(found.get(name)?.enabled ?? ''));
  // D: disabled; R: fires only where session_replication_role is replica, so for no publisher.
  const disabled = firing('D', 'R');
  report('error', 'disabled', disabled, enable(disabled));
  const always = firing('A');
  const why =
    'rows that replication brings, or that are loaded as by a replica, would get positions of their own or be refused';
  report('warning', 'enabled ALWAYS', always, enable(always), why);
  return findings.length > 0 ? findings : [ok(`all ${TRIGGERS.length} are enabled`)];
}

export async function checkFunctions(patient: Patient): Promise<Finding[]> {
  const { quoted, owner } = homeOf(patient);
  const sources = await functionSources(quoted);
  const rows = await patient.query<{
    name: string;
    args: string;
    isDefiner: boolean;
    settings: string[];
    body: string;
    owner: string;
    isPublic: boolean;
  }>(
    `SELECT proname AS name, oidvectortypes(proargtypes) AS args, prosecdef AS "isDefiner", coalesce(proconfig, '{}') AS settings,
       prosrc AS body, pg_get_userbyid(proowner) AS owner,
       EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0) AS "isPublic"
     FROM pg_proc WHERE pronamespace = ${HERE} AND proname = ANY ($1)`,
    [FUNCTIONS.map(({ name }) => name)],
  );
  const findings: Finding[] = [];
  const exposed: string[] = [];
  for (const { name, args, isDefiner, settings, isPublic } of FUNCTIONS) {
    const own = rows.find((row) => row.name === name && row.args === args);
    const source = sources.get(name);
    const signature = `${name}(${args})`;
    const troubles = own
      ? [
          ...(own.body !== source?.body ? ['its body was changed'] : []),
          ...(own.isDefiner !== isDefiner ? [`it is ${isDefiner ? 'not ' : ''}SECURITY DEFINER`] : []),
          ...([...own.settings].sort().join() !== [...settings].sort().join() ? ['its settings were changed'] : []),
        ]
      : ['it is missing'];
    if (troubles.length > 0) {
      const sql = [
        source?.create ?? '',
        ...settings.map((setting) => `ALTER FUNCTION ${signature} SET ${setting.replace('=', ' = ')}`),
        ...(isPublic ? [] : [`REVOKE EXECUTE ON FUNCTION ${signature} FROM PUBLIC`]),
      ];
      findings.push({
        level: 'error',
        what: `${signature}: ${troubles.join(', ')}`,
        why: 'publishing may fail, rows may stay without a position, or a publisher may get the rights of the owner',
        cure: { as: ownerOf(patient), sql: inHome(patient, sql) },
      });
    }
    if (own?.isPublic && !isPublic) exposed.push(signature);
    if (own && own.owner !== owner) {
      findings.push({
        level: 'error',
        what: `${signature} belongs to ${own.owner}, and the outbox to ${owner}`,
        why: 'it runs with the rights of its owner, which may lack some that it needs or have others that nobody should get',
        cure: {
          as: superuserOf(patient),
          sql: inHome(patient, [`ALTER FUNCTION ${signature} OWNER TO ${pg.escapeIdentifier(owner)}`]),
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
      cure: {
        as: ownerOf(patient),
        sql: inHome(
          patient,
          exposed.map((signature) => `REVOKE EXECUTE ON FUNCTION ${signature} FROM PUBLIC`),
        ),
      },
    });
  }
  return findings.length > 0 ? findings : [ok(`all ${FUNCTIONS.length} are as the migrations made them`)];
}

export async function checkIndexes(patient: Patient): Promise<Finding[]> {
  const { quoted } = homeOf(patient);
  const rows = await patient.query<{ name: string; isValid: boolean; definition: string; isPrimary: boolean }>(
    `SELECT relname AS name, indisvalid AND indisready AS "isValid", pg_get_indexdef(indexrelid, 0, true) AS definition,
       indisprimary AS "isPrimary"
     FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE relnamespace = ${HERE} AND relname = ANY ($1)`,
    [INDEXES.map(({ name }) => name)],
  );
  const findings: Finding[] = [];
  for (const { name, definition, constraint, without } of INDEXES) {
    const own = rows.find((row) => row.name === name);
    const isSame =
      own?.definition.replaceAll(`${quoted}.`, '') === definition && own.isPrimary === (constraint !== undefined);
    if (isSame && own.isValid) continue;
    const what =
      own === undefined ? 'is missing' : isSame ? 'is invalid, so it is not used' : 'is not as the migrations made it';
    const create =
      constraint === undefined
        ? definition.replace('INDEX', 'INDEX CONCURRENTLY')
        : `ALTER TABLE ${tableIn(definition)} ADD CONSTRAINT ${name} ${constraint}`;
    const drop =
      own?.isPrimary === true
        ? `ALTER TABLE ${tableIn(definition)} DROP CONSTRAINT ${name}`
        : `DROP INDEX CONCURRENTLY ${name}`;
    const sql = isSame ? [`REINDEX INDEX CONCURRENTLY ${name}`] : own === undefined ? [create] : [drop, create];
    findings.push({
      level: 'error',
      what: `${name} ${what}`,
      why: without,
      cure: { as: ownerOf(patient), sql: inHome(patient, sql) },
    });
  }
  return findings.length > 0 ? findings : [ok(`all ${INDEXES.length} are there and valid`)];
}

const tableIn = (definition: string) => / ON (\w+) /.exec(definition)?.[1] ?? '';

/** What else belongs to the outbox: whose it is, what may be seen of it, and how its sequences count. */
export async function checkTables(patient: Patient): Promise<Finding[]> {
  const { owner } = homeOf(patient);
  const findings: Finding[] = [];
  const rows = await patient.query<{ name: string; kind: string; owner: string; hasRowSecurity: boolean }>(
    `SELECT relname AS name, relkind AS kind, pg_get_userbyid(relowner) AS owner, relrowsecurity AS "hasRowSecurity"
     FROM pg_class WHERE relnamespace = ${HERE} AND relname = ANY ($1) ORDER BY relname`,
    [[...TABLES, 'outbox_position_seq']],
  );
  for (const { name, kind, ...own } of rows) {
    if (own.hasRowSecurity) {
      findings.push({
        level: 'error',
        what: `row security is on for ${name}`,
        why: 'a relay whose role does not see some rows skips their events without a word',
        cure: { as: ownerOf(patient), sql: inHome(patient, [`ALTER TABLE ${name} DISABLE ROW LEVEL SECURITY`]) },
      });
    }
    if (own.owner !== owner) {
      const what = kind === 'S' ? 'SEQUENCE' : 'TABLE';
      findings.push({
        level: 'error',
        what: `${name} belongs to ${own.owner}, and the outbox to ${owner}`,
        why: 'the triggers run as the owner of the outbox, and publishing fails where that one may not write',
        cure: {
          as: superuserOf(patient),
          sql: inHome(patient, [`ALTER ${what} ${name} OWNER TO ${pg.escapeIdentifier(owner)}`]),
        },
      });
    }
  }
  const sequences = await patient.query<{ name: string }>(
    `SELECT relname AS name FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
     WHERE relnamespace = ${HERE} AND (seqincrement <> 1 OR seqcycle OR relname = 'outbox_position_seq' AND seqcache <> 1)
       AND relname IN ('outbox_id_seq', 'outbox_position_seq')`,
  );
  for (const { name } of sequences) {
    findings.push({
      level: 'error',
      what: `${name} does not count one by one, for ever, without a cache`,
      why: 'a position that a session keeps in reserve is handed out after higher ones, and its event is never delivered',
      cure: { as: ownerOf(patient), sql: inHome(patient, [`ALTER SEQUENCE ${name} INCREMENT 1 NO CYCLE CACHE 1`]) },
    });
  }
  findings.push(...(await checkColumns(patient)), ...(await checkReplicaIdentity(patient)));
  return findings.length > 0
    ? findings
    : [ok('their owner, columns, row security and sequences are as they should be')];
}

async function checkColumns(patient: Patient): Promise<Finding[]> {
  const rows = await patient.query<{ table: string; name: string; definition: string }>(
    `SELECT relname AS "table", attname AS name, concat(format_type(atttypid, atttypmod),
       CASE WHEN collname = 'C' THEN ' COLLATE "C"' END, CASE WHEN attnotnull THEN ' NOT NULL' END,
       ' DEFAULT ' || pg_get_expr(adbin, adrelid),
       CASE attidentity WHEN 'a' THEN ' GENERATED ALWAYS AS IDENTITY' WHEN 'd' THEN ' GENERATED BY DEFAULT AS IDENTITY' END) AS definition
     FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid LEFT JOIN pg_collation ON pg_collation.oid = attcollation
     LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
     WHERE relnamespace = ${HERE} AND relname = ANY ($1) AND attnum > 0 AND NOT attisdropped`,
    [TABLES],
  );
  return COLUMNS.flatMap(({ table, name, definition }): Finding[] => {
    const own = rows.find((row) => row.table === table && row.name === name);
    if (own?.definition === definition) return [];
    return [
      {
        level: 'error',
        what: `column ${table}.${name} is ${own === undefined ? 'missing' : own.definition}, not ${definition}`,
        why: 'what relays read there is not what was published, or reading fails',
        cure: {
          advice: `as ${ownerOf(patient)}, make it ${definition} again: it is written in migrations/1_outbox.sql`,
        },
      },
    ];
  });
}

/** Where a publication has a table without one, PostgreSQL refuses each UPDATE and DELETE on it, those of our triggers too. */
async function checkReplicaIdentity(patient: Patient): Promise<Finding[]> {
  const rows = await patient.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relnamespace = ${HERE} AND relname = ANY ($1) AND relpersistence = 'p'
       AND relreplident IN ('n', 'i') AND NOT EXISTS
         (SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisreplident AND relreplident = 'i')`,
    [[...TABLES, 'outbox_migrations']],
  );
  return rows.map(({ name }) => ({
    level: 'error',
    what: `${name} has no replica identity`,
    why: 'as soon as a publication has the table, events can neither be placed nor deleted',
    cure: { as: ownerOf(patient), sql: inHome(patient, [`ALTER TABLE ${name} REPLICA IDENTITY DEFAULT`]) },
  }));
}
