/**
 * Checks of commits that are under way: whether one hangs and so holds up delivery, and whether
 * publishers are kept from ringing by somebody who is no relay.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { endSession, notVisible, seesAllSessions, sessionText, type Session } from './cleaning.js';
import { ok, type Finding, type Fix } from './finding.js';
import type { Target } from './target.js';

/** Time after which a commit hangs, and a lock is held for long. */
const HANGS_MS = 1000;

/** What the listening session of a relay calls itself. */
const LISTENER = 'outbox-relay listener';

interface Settled {
  readonly through: string;
  readonly process: number;
}

interface Waiting extends Session {
  /** What it waits for; null for a role that may not see it. */
  readonly event: string | null;
  readonly blocker: number | null;
}

/** Sessions by their processes, with what each waits for. */
const SESSIONS = `SELECT pid, usename AS role, datname AS database, application_name AS application, coalesce(state, 'unknown') AS state,
    coalesce(extract(epoch FROM clock_timestamp() - xact_start)::double precision, 0) AS seconds, true AS "isHere",
    nullif(concat_ws(': ', wait_event_type, wait_event), '') AS event, (pg_blocking_pids(pid))[1] AS blocker
  FROM pg_stat_activity WHERE pid = ANY ($1)`;

/** What is held for longer than a moment: found by two looks. */
async function lasting<Item>(look: () => Promise<Item[]>): Promise<Item[]> {
  const before = (await look()).map((item) => JSON.stringify(item));
  if (before.length === 0) return [];
  await delay(HANGS_MS);
  return (await look()).filter((item) => before.includes(JSON.stringify(item)));
}

export async function checkCommits(target: Target): Promise<Finding[]> {
  const { query } = target;
  const [settled] = await lasting(() =>
    query<Settled>('SELECT through, waits_for AS process FROM here.outbox_settled() WHERE waits_for IS NOT NULL'),
  );
  if (settled === undefined) return [ok('none hangs')];
  const why = `what was published since is not delivered until it ends: all after position ${settled.through}. No publisher waits for it`;
  if (settled.process === 0) {
    return [
      {
        level: 'error',
        what: 'a prepared transaction has published, and is not committed',
        why,
        fix: { advice: 'find it in pg_prepared_xacts, and have it committed or rolled back' },
      },
    ];
  }
  const [session] = await query<Waiting>(SESSIONS, [[settled.process]]);
  // It has ended by now.
  if (session === undefined) return [ok('none hangs')];
  const isOpen = session.state.startsWith('idle in transaction');
  const findings: Finding[] = [
    {
      level: 'error',
      what: isOpen
        ? `a transaction was placed before its commit, and is still open: ${sessionText(session)}`
        : `a commit hangs: ${sessionText(session)}${session.event === null ? '' : `, which waits for ${session.event}`}`,
      why: isOpen
        ? `${why}. So it is where one statement makes constraints immediate twice, after it has published`
        : why,
      fix: fixOf(session),
    },
  ];
  return (await seesAllSessions(target)) ? findings : [...findings, notVisible(target, 'what other sessions wait for')];
}

function fixOf(session: Waiting): Fix {
  if (session.event === 'IPC: SyncRep') {
    return {
      advice:
        'it waits for a synchronous standby: bring that back, or take it out of synchronous_standby_names, as a superuser: ' +
        "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()",
    };
  }
  if (session.blocker !== null && session.blocker !== 0) {
    return endSession(
      { ...session, pid: session.blocker, role: 'the role of that process' },
      'the session that it waits for',
    );
  }
  return endSession(session, 'it; what it publishes is rolled back');
}

/** Whether somebody keeps publishers from ringing who does not look in their place. */
export async function checkAwake(target: Target): Promise<Finding[]> {
  const { query } = target;
  const holders = await lasting(() =>
    query<{ pid: number; mode: string }>(
      `SELECT pid, mode FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 'here.outbox'::regclass AND objid = 2
         AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    ),
  );
  const sessions = await query<Waiting>(SESSIONS, [holders.map(({ pid }) => pid)]);
  const seesAll = await seesAllSessions(target);
  if (!seesAll && holders.length > 0) return [notVisible(target, 'sessions of other roles')];
  const findings = sessions
    .filter(({ application }) => application !== LISTENER)
    .map((session): Finding => {
      const isShared = holders.some(({ pid, mode }) => pid === session.pid && mode === 'ShareLock');
      return {
        level: 'warning',
        what: `somebody who is no relay holds the lock of the relay that is awake: ${sessionText(session)}`,
        why: isShared
          ? 'no relay can become awake, so publishers ring at every commit, and queue for that'
          : 'publishers do not ring while it is held, and events come only when relays look, every SWEEP_SECONDS',
        fix: endSession(session, 'it'),
      };
    });
  if (findings.length > 0) return findings;
  return [ok(holders.length > 0 ? 'a relay is awake, and looks by itself' : 'publishers ring for relays')];
}
