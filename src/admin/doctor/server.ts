/**
 * Checks of the server that the outbox is on, and of our place there: what it is, its clock, its
 * settings, our rights.
 */
import pg from 'pg';
import { pino } from 'pino';
import { commandLine } from '../../command-name.js';
import { openDatabase } from '../../postgres/pool.js';
import { ok, span, type Fix, type Finding } from './finding.js';
import { ownerOf, type Target } from './target.js';
import { excessRights } from '../excess-rights.js';

/** Oldest and newest major version that the tests run on. */
const VERSIONS = { oldest: 14, newest: 18 } as const;

export const STANDBY = {
  why: 'NOTIFY does not reach a standby, and one that lags shows fewer events than there are',
  advice: 'lead it to the primary',
} as const;

/** Version and role of the server. Final on a standby: the rest is for the primary to tell. */
export async function checkServer({ query }: Target): Promise<Finding[]> {
  const [server] = await query<{ version: string; major: number; isStandby: boolean }>(
    `SELECT current_setting('server_version') AS version, current_setting('server_version_num')::integer / 10000 AS major,
       pg_is_in_recovery() AS "isStandby"`,
  );
  const { version = '', major = 0, isStandby = false } = server ?? {};
  const { why, advice } = STANDBY;
  if (isStandby)
    return [{ level: 'error', what: 'DATABASE_URL leads to a standby', why, fix: { advice }, isFinal: true }];
  if (major >= VERSIONS.oldest && major <= VERSIONS.newest) return [ok(`PostgreSQL ${version}, a primary`)];
  const isOld = major < VERSIONS.oldest;
  return [
    {
      level: isOld ? 'error' : 'warning',
      what: `PostgreSQL ${version}, which is ${isOld ? 'older' : 'newer'} than what outbox-relay is tested with`,
      why: `it is tested with PostgreSQL ${VERSIONS.oldest} to ${VERSIONS.newest}`,
      fix: { advice: isOld ? 'upgrade PostgreSQL' : 'look for a newer outbox-relay' },
    },
  ];
}

/** The rights of the roles that a relay with this configuration would have. */
export async function checkRights(target: Target): Promise<Finding[]> {
  const { query, role, databaseUrl, listenDatabaseUrl } = target;
  const roles = (name: string): Fix => ({
    as: ownerOf(target),
    command: commandLine(`roles --relay ${/^\w+$/.test(name) ? name : `'${name.replaceAll("'", `'\\''`)}'`}`),
  });
  const lacking = await query<{ name: string }>(
    `SELECT name FROM unnest(ARRAY['outbox', 'outbox_floor', 'outbox_redaction', 'outbox_migrations']) AS name
     WHERE to_regclass('here.' || name) IS NOT NULL AND NOT has_table_privilege('here.' || name, 'SELECT')`,
  );
  const [settled] = await query<{ granted: boolean | null }>(
    `SELECT has_function_privilege(to_regprocedure('here.outbox_settled(integer)'), 'EXECUTE') AS granted`,
  );
  if (settled?.granted === false) {
    return [
      {
        level: 'error',
        what: `role ${role} may not execute outbox_settled`,
        why: 'a relay with this role does not deliver what comes after a commit under way, and no event can be deleted by it',
        fix: roles(role),
      },
    ];
  }
  if (lacking.length > 0) {
    return [
      {
        level: 'error',
        what: `role ${role} may not read ${lacking.map(({ name }) => name).join(', ')}`,
        why: 'a relay with this role does not work',
        fix: roles(role),
      },
    ];
  }
  const findings = new Map<string, Finding>();
  for (const url of new Set([databaseUrl, listenDatabaseUrl])) {
    const log = pino({ level: 'silent' });
    const database = openDatabase({
      url,
      applicationName: 'outbox-relay doctor',
      connections: 1,
      timeoutSeconds: 10,
      log,
    });
    try {
      const { role, rights } = await excessRights(database.db);
      findings.set(
        role,
        rights.length === 0
          ? ok(`role ${role} can read, and no more`)
          : {
              level: 'warning',
              what: `role ${role} can do more than read: ${rights.join(', ')}`,
              why: 'what it may do can be misused. If only you who look are this role, and the relay has one of its own, all is well',
              fix: roles('outbox_relay'),
            },
      );
    } catch (error) {
      // That an address does not work is for the check of notifications to tell, or has ended the
      // examination already.
      if (error instanceof pg.DatabaseError || url === databaseUrl) throw error;
    } finally {
      await database.close();
    }
  }
  return [...findings.values()];
}

/** Most that clocks may differ, besides what the time on the network leaves open. */
const SKEW_MS = 1000;

export async function checkClock({ query, now }: Target): Promise<Finding[]> {
  let best = { offset: 0, error: Number.POSITIVE_INFINITY };
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const before = now();
    const started = performance.now();
    const [server] = await query<{ ms: number }>(
      'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::double precision AS ms',
    );
    // The server read its clock at some moment in between.
    const error = (performance.now() - started) / 2;
    if (error < best.error) best = { offset: (server?.ms ?? 0) - (before + error), error };
  }
  const { offset, error } = best;
  if (Math.abs(offset) - error <= SKEW_MS) return [ok('the clocks of this machine and the database agree')];
  return [
    {
      level: 'warning',
      what: `the database's clock is ${span(Math.abs(offset) / 1000)} ${offset > 0 ? 'ahead of' : 'behind'} this machine's`,
      why: 'since= means the clock of the database and tokens end by that of the relay; delivery times in the metrics are off by as much',
      fix: { advice: 'let both machines keep time by NTP' },
    },
  ];
}

interface Setting {
  readonly role: string | null;
  readonly database: string | null;
  readonly name: string;
  readonly value: string;
}

/** Settings, for all or some who may publish, that break what relays rely on. */
export async function checkSettings({ query }: Target): Promise<Finding[]> {
  const settings = await query<Setting>(
    `SELECT rolname AS role, datname AS database, split_part(setting, '=', 1) AS name, split_part(setting, '=', 2) AS value
     FROM pg_db_role_setting LEFT JOIN pg_roles ON pg_roles.oid = setrole LEFT JOIN pg_database ON pg_database.oid = setdatabase,
       unnest(setconfig) AS setting
     WHERE (setdatabase = 0 OR datname = current_database())
       AND (setrole = 0 OR has_any_column_privilege(setrole, 'here.outbox', 'INSERT'))
     UNION ALL
     SELECT NULL, NULL, name, setting FROM pg_settings
     WHERE source IN ('configuration file', 'command line', 'environment variable', 'global')`,
  );
  const findings: Finding[] = [];
  for (const setting of settings) {
    const { role, database, name, value } = setting;
    const whose = [...(role === null ? [] : [`role ${role}`]), ...(database === null ? [] : [`database ${database}`])];
    const what = `${name} is ${value} for ${whose.length > 0 ? whose.join(' in ') : 'the whole server'}`;
    const fix = { as: 'a superuser', sql: reset(setting) };
    if (name === 'session_replication_role' && value === 'replica') {
      const why = 'triggers do not fire there, so what is published gets no position and is never delivered';
      findings.push({ level: 'error', what, why, fix });
    }
    if (name === 'synchronous_commit' && value === 'off') {
      const why =
        'a crash of the server takes back events that relays have delivered, and their ids are handed out again. Until this is changed, ' +
        `run "${commandLine('advance-ids')}" after every crash`;
      findings.push({ level: 'warning', what, why, fix });
    }
  }
  return findings.length > 0 ? findings : [ok('triggers fire for everybody, and commits last')];
}

function reset({ role, database, name }: Setting): string[] {
  const [user, place] = [role, database].map((text) => (text === null ? undefined : pg.escapeIdentifier(text)));
  if (user !== undefined)
    return [`ALTER ROLE ${user}${place === undefined ? '' : ` IN DATABASE ${place}`} RESET ${name}`];
  if (place !== undefined) return [`ALTER DATABASE ${place} RESET ${name}`];
  return [`ALTER SYSTEM RESET ${name}`, 'SELECT pg_reload_conf()'];
}
