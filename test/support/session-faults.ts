/**
 * What happens to a relay's sessions while the database lives: they are ended, or kept from the table.
 */
import type { TestDatabase } from './database.js';
import type { Random } from './random.js';
import type { Shift } from './shift.js';

const SESSIONS = ['listener', 'tail', 'history', '%'] as const;

/** Ends some of the relays' sessions, or all; resolves with how many there were. */
export function killSessions(database: Pick<TestDatabase, 'kill'>, random: Random): Promise<number> {
  return database.kill(`outbox-relay ${random.pick(SESSIONS)}`);
}

/**
 * Keeps everybody from the table for a while, as a migration does. Readers wait with their streams open, heartbeats come
 * due, and a session that is killed now is killed amid a query. Resolves with how many were.
 */
export async function lockTable(
  database: Pick<TestDatabase, 'kill' | 'withClient'>,
  random: Random,
  shift: Shift,
): Promise<number> {
  return database.withClient(async (client) => {
    await client.query('BEGIN');
    await client.query('LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE');
    await shift.pause(random.integer(50, 300));
    const killed = random.chance(0.7) ? await killSessions(database, random) : 0;
    await shift.pause(random.integer(50, 300));
    await client.query('COMMIT');
    return killed;
  });
}
