/**
 * Checks of commits that are under way: whether one hangs and so holds up delivery, and whether
 * publishers are kept from ringing by somebody who is no relay.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { LISTENER_NAME } from '../../postgres/session.js';
import { endSession, notVisible, seesAllSessions, sessionText, type Session } from './cleaning.js';
import { ok, type Finding, type Fix } from './finding.js';
import type { Target } from './target.js';

/** Time after which a commit hangs, and a lock is held for long. */
const HANGS_MS = 1000;

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

/** Keys of the locks that decide who rings, as migrations/1_outbox.sql has them. */
const AWAKE = 2;
const BELL = 3;

interface Holder {
  readonly pid: number;
  readonly mode: string;
  readonly key: typeof AWAKE | typeof BELL;
}

/** Those of either lock, but for publishers: they have the bell until they are committed. */
const HOLDERS = `WITH locks AS MATERIALIZED (
    SELECT * FROM pg_locks WHERE granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  )
  SELECT pid, mode, objid::integer AS key FROM locks AS held
  WHERE locktype = 'advisory' AND classid = 'here.outbox'::regclass AND objid IN (${AWAKE}, ${BELL}) AND objsubid = 2
    AND NOT (objid = ${BELL} AND EXISTS (SELECT FROM locks WHERE locks.pid = held.pid AND locktype = 'relation'
      AND relation = 'here.outbox_pending'::regclass AND mode = 'RowExclusiveLock'))
  ORDER BY objid, pid`;

/** Whether somebody keeps publishers from ringing who does not look, or ring, in their place. */
export async function checkAwake(target: Target): Promise<Finding[]> {
  const { query } = target;
  const holders = await lasting(() => query<Holder>(HOLDERS));
  const sessions = await query<Waiting>(SESSIONS, [holders.map(({ pid }) => pid)]);
  const seesAll = await seesAllSessions(target);
  if (!seesAll && holders.length > 0) return [notVisible(target, 'sessions of other roles')];
  const findings = holders.flatMap(({ pid, mode, key }): Finding[] => {
    const session = sessions.find((one) => one.pid === pid);
    if (session === undefined || (key === AWAKE && session.application === LISTENER_NAME)) return [];
    return [{ level: 'warning', ...troubleOf(key, mode, sessionText(session)), fix: endSession(session, 'it') }];
  });
  if (findings.length > 0) return findings;
  const isAwake = holders.some(({ key }) => key === AWAKE);
  return [ok(isAwake ? 'a relay is awake, and looks by itself' : 'publishers ring for relays')];
}

function troubleOf(key: Holder['key'], mode: string, who: string): { what: string; why: string } {
  if (key === BELL) {
    return {
      what: `somebody who is not committing holds the lock of the publisher that rings: ${who}`,
      why: 'publishers leave ringing to whoever holds it, so events come only when relays glance, once a second',
    };
  }
  return {
    what: `somebody who is no relay holds the lock of the relay that is awake: ${who}`,
    why:
      mode === 'ShareLock'
        ? 'no relay can become awake, so publishers go on ringing, however many they are'
        : 'publishers do not ring while it is held, and events come only when relays glance, once a second',
  };
}
