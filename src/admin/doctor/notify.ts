/**
 * Checks of the way from the database to the relay: whether notifications arrive, and whether there is room for them.
 */
import { randomUUID } from 'node:crypto';
import { withSession } from '../../postgres/pool.js';
import { ok, span, type Finding } from './finding.js';
import { ANSWER_SECONDS, type Patient } from './target.js';
import { STANDBY } from './server.js';
import type { Session } from '../../postgres/session.js';
import { endSession, openSessions, seesAllSessions, sessionText, unseen } from './cleaning.js';

/** How long a notification may take, in milliseconds, before it counts as one that never comes: as long as a relay waits. */
const HEARING_TIMEOUT = 2000;

/** A channel of the doctor's own: no relay is rung. */
const CHANNEL = 'outbox_doctor';

const WHICH = `SELECT pg_postmaster_start_time()::text AS started, current_database() AS database,
  pg_is_in_recovery() AS "isStandby"`;

interface Which {
  readonly started: string;
  readonly database: string;
  readonly isStandby: boolean;
}

/** LISTENs where a relay would, and has itself notified through the other address. */
export async function checkNotifications(patient: Patient): Promise<Finding[]> {
  const { listenDatabaseUrl, databaseUrl } = patient;
  const name = listenDatabaseUrl === databaseUrl ? 'DATABASE_URL' : 'LISTEN_DATABASE_URL';
  try {
    const look = (session: Session) => listen(patient, session, name);
    return [await withSession(listenDatabaseUrl, 'outbox-relay doctor', look, ANSWER_SECONDS)];
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return [
      {
        level: 'error',
        what: `${name} does not work: ${message || (code ?? '')}`,
        why: 'a relay that cannot listen does not start',
        cure: { advice: `set ${name} to an address where LISTEN works` },
      },
    ];
  }
}

async function listen({ query }: Patient, session: Session, name: string): Promise<Finding> {
  const [here] = await query<Which>(WHICH);
  const there = (await session.query<Which>(WHICH)).rows[0];
  if (there?.isStandby) {
    const { why, advice } = STANDBY;
    return { level: 'error', what: `${name} leads to a standby`, why, cure: { advice } };
  }
  if (there?.started !== here?.started || there?.database !== here?.database) {
    return {
      level: 'error',
      what: 'LISTEN_DATABASE_URL and DATABASE_URL lead to different databases',
      why: 'live events come from one and replays from the other',
      cure: { advice: 'lead both to the database with the outbox' },
    };
  }
  const hears = await isHeard(session, (payload) => query('SELECT pg_notify($1, $2)', [CHANNEL, payload]));
  if (hears) return ok(`a notification arrived at ${name}`);
  return {
    level: 'warning',
    what: `LISTEN works at ${name}, but no notification arrived within ${span(HEARING_TIMEOUT / 1000)}`,
    why: 'so it is through a pooler in transaction mode; the relay then looks for new events every POLL_SECONDS instead of at once',
    cure: { advice: 'set LISTEN_DATABASE_URL to a direct connection to PostgreSQL; DATABASE_URL may stay as it is' },
  };
}

/** Resolves with whether what is notified arrives at the client. */
async function isHeard({ client }: Session, notify: (payload: string) => Promise<unknown>): Promise<boolean> {
  const payload = randomUUID();
  const arrived = new Promise<boolean>((resolve) => {
    client.on('notification', (message) => {
      if (message.payload === payload) resolve(true);
    });
    setTimeout(() => resolve(false), HEARING_TIMEOUT).unref();
  });
  await client.query(`LISTEN ${CHANNEL}`);
  try {
    await notify(payload);
    return await arrived;
  } finally {
    // A pooler keeps the session, which would go on listening for nobody and might hold the queue in some transaction.
    await client.query(`UNLISTEN ${CHANNEL}`);
  }
}

/** Publishers stop ringing at the upper one (outbox_place), so that they do not fail when the queue is full. */
const USAGE = { warning: 0.1, error: 0.5 } as const;

export async function checkQueue(patient: Patient): Promise<Finding[]> {
  const [queue] = await patient.query<{ usage: number }>('SELECT pg_notification_queue_usage() AS usage');
  const usage = queue?.usage ?? 0;
  if (usage < USAGE.warning) return [ok(`${Math.round(usage * 100)} % full`)];
  const sessions = await openSessions(patient);
  const [first] = sessions;
  const holder = 'One of these sessions LISTENs and sits in a transaction, the longest first';
  const findings: Finding[] = [
    {
      level: usage < USAGE.error ? 'warning' : 'error',
      what: `the queue of notifications is ${Math.round(usage * 100)} % full`,
      why:
        'a session that LISTENs and sits in a transaction keeps PostgreSQL from emptying it. From 50 % on publishers ring no more, and ' +
        'events come only when relays look, every SWEEP_SECONDS; a full one fails the commits of others that NOTIFY. ' +
        (first ? `${holder}: ${sessions.map((s) => `${sessionText(s)}, for ${span(s.seconds)}`).join('; ')}` : ''),
      cure: first
        ? endSession(first, 'it; if the queue does not empty at the next notification, the next one in that list')
        : { advice: "look in PostgreSQL's log, which names the process that holds the queue" },
    },
  ];
  return (await seesAllSessions(patient)) ? findings : [...findings, unseen(patient, 'sessions of other roles')];
}
