/**
 * The connection of one pruning, which can be closed at once, whatever is under way on it.
 */
import pg from 'pg';
import { readDatabaseUrl } from '../postgres/database-url.js';
import { socketOf } from '../postgres/deadline.js';
import { openSession, type Session } from '../postgres/session.js';

/** Time after which a connection counts as dead; a statement times out before. */
const CONNECT_TIMEOUT_MS = 10_000;
const QUERY_TIMEOUT_MS = 40_000;

export interface Connection {
  /** @throws the connection's error, `close` before it is up included */
  connect(): Promise<Session>;
  /** At once, whatever is under way. */
  close(): void;
}

/** Makes a connection for one run. @throws OperatorError `bad-database-url` */
export function openConnection(url: string): Connection {
  const address = readDatabaseUrl(url);
  let client: pg.Client | undefined;
  let isConnecting = false;
  let isClosed = false;
  async function connect(): Promise<Session> {
    const { ssl } = address;
    client = new pg.Client({
      application_name: 'outbox-relay retention',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      query_timeout: QUERY_TIMEOUT_MS,
      keepAlive: true,
      ...address.config,
      ssl,
    });
    // One that breaks between two queries is noticed by the next; unheard, the event would end the
    // process.
    client.on('error', () => undefined);
    isConnecting = true;
    try {
      await client.connect();
    } catch (error) {
      if (isClosed || !address.fallsBack(error, ssl)) throw error;
      return await connect();
    } finally {
      isConnecting = false;
    }
    return openSession(client, { isReadOnly: false, statementTimeoutMs: QUERY_TIMEOUT_MS });
  }
  return {
    connect,
    close() {
      isClosed = true;
      if (client === undefined) return;
      const socket = socketOf(client);
      // `end` would leave whoever waits for the connection waiting for ever.
      if (isConnecting) {
        socket.destroy(new Error('given up'));
        return;
      }
      // It waits for a peer that may never answer; the socket need not.
      void client.end().catch(() => undefined);
      setTimeout(() => socket.destroy(), 1000).unref();
    },
  };
}
