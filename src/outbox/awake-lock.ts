/**
 * The awake lock in PostgreSQL: an advisory lock of the listening session, for which publishers ask
 * before they notify. Through a pooler it is not taken, because the pooler would keep it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { sql, type Kysely } from 'kysely';
import type { Tables } from '../postgres/pool.js';
import type { AwakeLock } from './feed.js';
import type { Listener } from './listener.js';
import { awakePayloads, notify } from './notifications.js';

/** Arguments of the advisory lock, as migrations/1_outbox.sql has them. */
const KEY = `'here.outbox'::regclass::oid::integer, 2`;

/** A publisher that asks for it has it for a moment: so often it is tried, with so long between. */
const TRIES = 5;
const TRY_AGAIN_MS = 2;

export interface AwakeNotifications {
  readonly lock: AwakeLock;
  /** Whether this relay sent it. */
  isOwn(payload: string): boolean;
}

type Session = Pick<Listener, 'query' | 'isDirect'>;

/** @param session where the lock is held, once there is one. */
export function createAwakeLock(session: () => Session, db: Kysely<Tables>): AwakeNotifications {
  const own = awakePayloads();

  async function take(): Promise<boolean> {
    for (let tries = 1; tries <= TRIES && session().isDirect; tries += 1) {
      const { rows } = await session().query<{ taken: boolean }>(`SELECT pg_try_advisory_lock(${KEY}) AS taken`);
      if (rows[0]?.taken) return true;
      await delay(TRY_AGAIN_MS);
    }
    return false;
  }

  async function is(query: ReturnType<typeof sql<{ found: boolean }>>): Promise<boolean> {
    return (await query.execute(db)).rows[0]?.found === true;
  }

  return {
    isOwn: (payload) => payload === own.awake || payload === own.asleep,
    lock: {
      take,
      async giveBack() {
        // The session has no other. One that was taken twice would have to be given back twice.
        await session().query('SELECT pg_advisory_unlock_all()');
      },
      isTaken: () =>
        is(sql`SELECT EXISTS (
          SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = 'here.outbox'::regclass AND objid = 2 AND objsubid = 2) AS found`),
      publishersOverlap: () =>
        is(sql`SELECT count(*) > 1 AS found FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock'
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND relation = 'here.outbox_pending'::regclass`),
      tell: (state) => notify(db, own[state]),
    },
  };
}
