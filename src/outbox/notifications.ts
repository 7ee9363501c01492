/**
 * Notifications: the words that travel by NOTIFY, as the migrations' triggers send them and relays
 * take them.
 *
 * Any role may notify anything, so a payload is never more than a reason to look.
 */
import { randomUUID } from 'node:crypto';
import { sql, type Kysely } from 'kysely';
import type { Tables } from '../postgres/pool.js';

/** The channel that the triggers notify. */
export const CHANNEL = 'outbox';

/**
 * Payload of the triggers where events were redacted or deleted; that of an INSERT is the row's id.
 */
const CHANGED = 'changed';
/** How the payloads begin by which a relay finds out whether notifications arrive. */
const PROBE = 'probe:';
/** How those begin by which relays tell each other who is awake. */
const AWAKE = 'awake:';
const ASLEEP = 'asleep:';

/** What a payload stands for. */
export type Meaning = 'published' | 'changed' | 'probe' | 'awake' | 'asleep';

export function meaningOf(payload: string): Meaning {
  if (payload === CHANGED) return 'changed';
  if (payload.startsWith(PROBE)) return 'probe';
  if (payload.startsWith(AWAKE)) return 'awake';
  return payload.startsWith(ASLEEP) ? 'asleep' : 'published';
}

/** The payloads of one relay, by which it knows its own. */
export function awakePayloads(): Readonly<Record<'awake' | 'asleep', string>> {
  const relay = randomUUID();
  return { awake: AWAKE + relay, asleep: ASLEEP + relay };
}

/** Which relay says that it is awake or asleep. */
export function senderOf(payload: string): string {
  return payload.slice(payload.indexOf(':') + 1);
}

/** A probe that no other relay sends. */
export function newProbe(): string {
  return PROBE + randomUUID();
}

/**
 * Longest wait for the lock that NOTIFY takes: whoever else has it keeps it until his commit is over,
 * and on this connection events are read.
 */
const LOCK_TIMEOUT_MS = 100;

/**
 * Notifies all who LISTEN, as the triggers do.
 *
 * @throws what the database throws; where another that notifies hangs in its commit, after
 * `LOCK_TIMEOUT_MS`.
 */
export async function notify(db: Kysely<Tables>, payload: string): Promise<void> {
  await sql`SELECT set_config('lock_timeout', ${`${LOCK_TIMEOUT_MS}ms`}, true), pg_notify(${CHANNEL}, ${payload})`.execute(
    db,
  );
}
