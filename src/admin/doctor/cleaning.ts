/**
 * Checks of what PostgreSQL cleans up behind us: whether it does, and which sessions and
 * transactions keep it from that.
 */
import pg from 'pg';
import { ok, span, type Fix, type Finding } from './finding.js';
import { inSchema, ownerOf, type Target } from './target.js';

/** Dead rows are reported above `times` × (live + `beside`): a busy hour leaves up to `beside`. */
const BLOAT = { times: 10, beside: 100_000 } as const;

export async function checkVacuum(target: Target): Promise<Finding[]> {
  const [server] = await target.query<{ runs: boolean }>(
    `SELECT current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean AS runs`,
  );
  const findings: Finding[] = [];
  const why = 'dead rows pile up, and publishing and replays get slower';
  if (server?.runs === false) {
    findings.push({
      level: 'warning',
      what: 'autovacuum is off for the whole server',
      why,
      fix: {
        as: 'a superuser',
        sql: ['ALTER SYSTEM SET autovacuum = on', 'ALTER SYSTEM SET track_counts = on', 'SELECT pg_reload_conf()'],
      },
    });
  }
  const tables = await target.query<{ name: string; live: string; dead: string; isOff: boolean }>(
    `SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead, coalesce((SELECT NOT option_value::boolean
       FROM pg_options_to_table(reloptions) WHERE option_name = 'autovacuum_enabled'), false) AS "isOff"
     FROM pg_class JOIN pg_stat_all_tables USING (relname)
     WHERE pg_class.oid = relid AND relid IN ('here.outbox'::regclass, 'here.outbox_pending'::regclass)`,
  );
  for (const { name, live, dead, isOff } of tables) {
    const fix = (sql: string) => ({ as: ownerOf(target), sql: inSchema(target, [sql]) });
    if (isOff) {
      const sql = `ALTER TABLE ${name} RESET (autovacuum_enabled)`;
      findings.push({ level: 'warning', what: `autovacuum is off for ${name}`, why, fix: fix(sql) });
    }
    if (Number(dead) > BLOAT.times * (Number(live) + BLOAT.beside)) {
      const what = `${name} has ${dead} dead rows beside ${live} that live`;
      findings.push({ level: 'warning', what, why, fix: fix(`VACUUM ${name}`) });
    }
  }
  return findings.length > 0 ? findings : [ok('autovacuum runs, and dead rows are few')];
}

/** Transactions that keep vacuum from removing dead rows: each publication leaves one. */
export async function checkTransactions(target: Target): Promise<Finding[]> {
  const { query, oldSeconds } = target;
  const why =
    'while it is open no vacuum removes what died since, and every publication leaves a dead row in outbox_pending';
  const findings: Finding[] = [];
  const prepared = await query<{ gid: string; seconds: number }>(
    `SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::double precision AS seconds FROM pg_prepared_xacts
     WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => $1) ORDER BY prepared LIMIT 5`,
    [oldSeconds],
  );
  for (const { gid, seconds } of prepared) {
    findings.push({
      level: 'warning',
      what: `transaction ${JSON.stringify(gid)} was prepared ${span(seconds)} ago, and is still not committed`,
      why,
      fix: { as: 'who prepared it, if nobody is to commit it', sql: [`ROLLBACK PREPARED ${pg.escapeLiteral(gid)}`] },
    });
  }
  for (const session of (await openSessions(target)).filter(({ isHere, seconds }) => isHere && seconds > oldSeconds)) {
    findings.push({
      level: 'warning',
      what: `a transaction is open for ${span(session.seconds)}: ${sessionText(session)}`,
      why,
      fix: endSession(session, 'it, if it is not worth waiting for'),
    });
  }
  const seesAll = await seesAllSessions(target);
  if (!seesAll) findings.push(notVisible(target, 'transactions of other roles'));
  return findings.length > 0 ? findings : [ok(`none is open for more than ${span(oldSeconds)}`)];
}

export interface Session {
  readonly pid: number;
  readonly role: string;
  readonly database: string;
  readonly application: string;
  readonly state: string;
  /** How long its transaction has been open. */
  readonly seconds: number;
  /** In the database of the outbox. */
  readonly isHere: boolean;
}

/** Sessions with an open transaction, the longest first, of those that we may look at. */
export function openSessions({ query }: Target): Promise<Session[]> {
  return query<Session>(
    `SELECT pid, usename AS role, datname AS database, application_name AS application, state,
       extract(epoch FROM clock_timestamp() - xact_start)::double precision AS seconds, datname = current_database() AS "isHere"
     FROM pg_stat_activity WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
     ORDER BY xact_start LIMIT 5`,
  );
}

export async function seesAllSessions({ query }: Target): Promise<boolean> {
  const [access] = await query<{ granted: boolean }>(`SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS granted`);
  return access?.granted ?? false;
}

export function notVisible({ role }: Target, what: string): Finding {
  return {
    level: 'unchecked',
    what: `${what} are hidden from role ${role}`,
    fix: { advice: 'run doctor once more as a superuser or a member of pg_monitor' },
  };
}

/** Names of roles and applications may be any text: as JSON a terminal obeys nothing in them. */
export function sessionText({ pid, role, database, application, state }: Session): string {
  return `process ${pid}, ${state}, role ${role}, database ${database}, application ${JSON.stringify(application)}`;
}

export function endSession({ pid, role }: Session, what: string): Fix {
  return { as: `${role} or a superuser, to end ${what}`, sql: [`SELECT pg_terminate_backend(${pid})`] };
}
