/**
 * Where a cursor stands in the outbox, as a relay would find it.
 */
import { pino } from 'pino';
import type { CursorLookup } from '../../outbox/archive.js';
import { createPostgresArchive } from '../../outbox/postgres-archive.js';
import { openDatabase } from '../../postgres/pool.js';

const TIMEOUT_SECONDS = 10;

/**
 * @param cursor of events that it leaves out, as in `41!43,44`, nothing is asked
 * @throws what the database throws
 */
export async function cursorPlace(url: string, cursor: string): Promise<CursorLookup['kind']> {
  const database = openDatabase({
    url,
    applicationName: 'outbox-relay explain',
    connections: 1,
    timeoutSeconds: TIMEOUT_SECONDS,
    log: pino({ level: 'silent' }),
  });
  try {
    const [id = ''] = cursor.split('!');
    const [lookup] = await createPostgresArchive(database.db).lookUpCursors([id]);
    return lookup?.kind ?? 'unknown';
  } finally {
    await database.close();
  }
}
