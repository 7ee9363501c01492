/**
 * Checks of the way from the database to the relay: whether notifications arrive, and whether there
 * is room for them.
 */
import { randomUUID } from 'node:crypto';
import { withSession } from '../../postgres/client.js';
import { ok, span, type Finding } from './finding.js';
import { ANSWER_SECONDS, type Target } from './target.js';
import { STANDBY } from './server.js';
import type { Session } from '../../postgres/session.js';
import { endSession, openSessions, seesAllSessions, sessionText, notVisible } from './cleaning.js';

/** Time after which a notification counts as lost: as long as a relay waits. */
const HEARING_TIMEOUT_MS = 2000;

/** No relay listens on this channel. */
const CHANNEL = 'outbox_doctor';

const WHICH = `SELECT pg_postmaster_start_time()::text AS started, current_database() AS database,
  pg_is_in_recovery() AS "isStandby"`;

interface Which {
  readonly started: string;
  readonly database: string;
  readonly isStandby: boolean;
}

/** Listens through the address for LISTEN, and notifies through the other. */
export async function checkNotifications(target: Target): Promise<Finding[]> {
  const { listenDatabaseUrl, databaseUrl } = target;
  const name = listenDatabaseUrl === databaseUrl ? 'DATABASE_URL' : 'LISTEN_DATABASE_URL';
  try {
    const look = (session: Session) => listen(target, session, name);
    return [await withSession(listenDatabaseUrl, 'outbox-relay doctor', look, ANSWER_SECONDS)];
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return [
      {
        level: 'error',
        what: `${name} does not work: ${message || (code ?? '')}`,
        why: 'a relay that cannot listen does not start',
        fix: { advice: `set ${name} to an address where LISTEN works` },
      },
    ];
  }
}

async function listen({ query }: Target, session: Session, name: string): Promise<Finding> {
  const [here] = await query<Which>(WHICH);
  const there = (await session.query<Which>(WHICH)).rows[0];
  if (there?.isStandby) {
    const { why, advice } = STANDBY;
    return { level: 'error', what: `${name} leads to a standby`, why, fix: { advice } };
  }
  if (there?.started !== here?.started || there?.database !== here?.database) {
    return {
      level: 'error',
      what: 'LISTEN_DATABASE_URL and DATABASE_URL lead to different databases',
      why: 'live events come from one and replays from the other',
      fix: { advice: 'lead both to the database with the outbox' },
    };
  }
  const hears = await notificationArrives(session, (payload) => query('SELECT pg_notify($1, $2)', [CHANNEL, payload]));
  if (hears) return ok(`a notification arrived at ${name}`);
  return {
    level: 'warning',
    what: `LISTEN works at ${name}, but no notification arrived within ${span(HEARING_TIMEOUT_MS / 1000)}`,
    why: 'so it is through a pooler in transaction mode; the relay then looks for new events every POLL_SECONDS instead of at once',
    fix: { advice: 'set LISTEN_DATABASE_URL to a direct connection to PostgreSQL; DATABASE_URL may stay as it is' },
  };
}

/** Whether a notification arrives. */
async function notificationArrives(
  { client }: Session,
  notify: (payload: string) => Promise<unknown>,
): Promise<boolean> {
  const payload = randomUUID();
  const arrived = new Promise<boolean>((resolve) => {
    client.on('notification', (message) => {
      if (message.payload === payload) resolve(true);
    });
    setTimeout(() => resolve(false), HEARING_TIMEOUT_MS).unref();
  });
  await client.query(`LISTEN ${CHANNEL}`);
  try {
    await notify(payload);
    return await arrived;
  } finally {
    // A pooler keeps the session, which would go on listening for nobody and might hold the queue
    // in some transaction.
    await client.query(`UNLISTEN ${CHANNEL}`);
  }
}

/** Shares of the queue. From `error` on publishers do not notify, so that none of them fails. */
const QUEUE_SHARE = { warning: 0.1, error: 0.5 } as const;

export async function checkQueue(target: Target): Promise<Finding[]> {
  const [queue] = await target.query<{ usage: number }>('SELECT pg_notification_queue_usage() AS usage');
  const usage = queue?.usage ?? 0;
  if (usage < QUEUE_SHARE.warning) return [ok(`${Math.round(usage * 100)} % full`)];
  const sessions = await openSessions(target);
  const [first] = sessions;
  const holder = 'One of these sessions LISTENs and sits in a transaction, the longest first';
  const findings: Finding[] = [
    {
      level: usage < QUEUE_SHARE.error ? 'warning' : 'error',
      what: `the queue of notifications is ${Math.round(usage * 100)} % full`,
      why:
        'a session that LISTENs and sits in a transaction keeps PostgreSQL from emptying it. From 50 % on publishers ring no more, and ' +
        'events come only when relays look, every SWEEP_SECONDS; a full one fails the commits of others that NOTIFY. ' +
        (first ? `${holder}: ${sessions.map((s) => `${sessionText(s)}, for ${span(s.seconds)}`).join('; ')}` : ''),
      fix: first
        ? endSession(first, 'it; if the queue does not empty at the next notification, the next one in that list')
        : { advice: "look in PostgreSQL's log, which names the process that holds the queue" },
    },
  ];
  return (await seesAllSessions(target)) ? findings : [...findings, notVisible(target, 'sessions of other roles')];
}
