/**
 * The relay's two pools of connections: one connection for the live path, some for history, so that
 * a crowd of replays never delays live events.
 */
import type { Logger } from 'pino';
import { openDatabase, type Database } from '../postgres/pool.js';

export interface DatabaseSettings {
  readonly databaseUrl: string | undefined;
  /** Of the live path. */
  readonly listenDatabaseUrl: string | undefined;
  readonly listenTimeoutSeconds: number;
  readonly queryTimeoutSeconds: number;
  readonly historyConnections: number;
}

export interface Databases {
  readonly live: Database;
  readonly history: Database;
  /** One for each address. */
  readonly distinct: readonly Database['db'][];
  /** Where `live` leads, for one more connection, which LISTENs. */
  readonly listenUrl: string;
}

/**
 * Opens nothing yet: the first query of each connects. @throws what `openDatabase` throws;
 * TypeError without an address.
 */
export function openDatabases(settings: DatabaseSettings, logger: Logger): Databases {
  const { databaseUrl, listenDatabaseUrl, listenTimeoutSeconds, queryTimeoutSeconds } = settings;
  if (databaseUrl === undefined || listenDatabaseUrl === undefined) throw new TypeError('a relay needs a database');
  const live = openDatabase({
    url: listenDatabaseUrl,
    applicationName: 'outbox-relay tail',
    connections: 1,
    // A dead connection is found within the limit; what is left of it is for the read on the next.
    timeoutSeconds: listenTimeoutSeconds / 2,
    longestTimeoutSeconds: Math.max(listenTimeoutSeconds, queryTimeoutSeconds),
    // Connecting would delay the first event after a quiet time.
    keepsIdle: true,
    log: logger,
  });
  const history = openDatabase({
    url: databaseUrl,
    applicationName: 'outbox-relay history',
    connections: settings.historyConnections,
    timeoutSeconds: Math.min(listenTimeoutSeconds, queryTimeoutSeconds),
    longestTimeoutSeconds: queryTimeoutSeconds,
    log: logger,
  });
  const distinct = listenDatabaseUrl === databaseUrl ? [live.db] : [live.db, history.db];
  return { live, history, distinct, listenUrl: listenDatabaseUrl };
}
