/**
 * A single connection to PostgreSQL, for one piece of work of a command.
 */
import type pg from 'pg';
import { readDatabaseUrl } from './database-url.js';
import { socketOf } from './deadline.js';
import { connect, openSession, type Session } from './session.js';

/** Silence after which the kernel asks whether the peer is still there. */
const KEEPALIVE_MS = 30_000;

/** Time that the server has to end a session that is closed. */
const FAREWELL_MS = 1000;

/**
 * Opens a connection for one piece of work and closes it after that, which rolls back what was not
 * committed. Its settings are those that database and role have: for a command, see `withSession`.
 *
 * @param timeoutSeconds a query that has had no answer for so long fails. Default: none does, as a
 * migration may take hours; of a peer that has vanished the kernel tells.
 * @throws OperatorError `bad-database-url`; else what the connection throws
 */
export async function withClient<T>(
  url: string,
  applicationName: string,
  use: (client: pg.Client) => Promise<T>,
  timeoutSeconds?: number,
): Promise<T> {
  const client = await connect(readDatabaseUrl(url), {
    application_name: applicationName,
    connectionTimeoutMillis: 10_000,
    ...(timeoutSeconds === undefined ? {} : { query_timeout: timeoutSeconds * 1000 }),
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_MS,
  });
  try {
    return await use(client);
  } finally {
    // A peer that has vanished takes no leave.
    const cut = setTimeout(() => socketOf(client).destroy(), FAREWELL_MS);
    await client.end();
    clearTimeout(cut);
  }
}

/** As `withClient`, with the settings that our statements are written for. */
export async function withSession<T>(
  url: string,
  applicationName: string,
  use: (session: Session) => Promise<T>,
  timeoutSeconds?: number,
): Promise<T> {
  const settings = { isReadOnly: false, statementTimeoutMs: 0 };
  const work = async (client: pg.Client) => use(await openSession(client, settings));
  return withClient(url, applicationName, work, timeoutSeconds);
}
