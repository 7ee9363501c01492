/**
 * The relay's two pools of connections: one connection for the live path, some for history, so that
 * a crowd of replays never delays live events.
 */
import type { Logger } from 'pino';
import { openDatabase, type Database } from '../postgres/pool.js';
import type { Proof } from './proof.js';

export interface DatabaseSettings {
  readonly databaseUrl: string | undefined;
  /** Of the live path. */
  readonly listenDatabaseUrl: string | undefined;
  readonly listenTimeoutSeconds: number;
  readonly queryTimeoutSeconds: number;
  readonly historyConnections: number;
}

/** What replays are read from. */
export interface ArchiveDatabase {
  readonly history: Database;
  /** It may be a standby: what it shows is proved before it is asked. */
  readonly mayLag: boolean;
  /** One for each address. */
  readonly distinct: readonly Database['db'][];
}

export interface Databases extends ArchiveDatabase {
  readonly live: Database;
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
  const history = openHistory(databaseUrl, settings, logger);
  const distinct = listenDatabaseUrl === databaseUrl ? [live.db] : [live.db, history.db];
  return { live, history, distinct, mayLag: false, listenUrl: listenDatabaseUrl };
}

/**
 * One connection for whoever looks at the outbox now and then, opened when something is asked and
 * closed when nothing was for a while.
 *
 * @param admit proof that is given before each statement, where it may be a standby.
 */
export function openReader(url: string, log: Logger, admit?: Proof): Database {
  return openDatabase({
    url,
    applicationName: 'outbox-relay console',
    connections: 1,
    timeoutSeconds: READER_TIMEOUT_SECONDS,
    log,
    ...(admit ? { admit } : {}),
  });
}

/** Whoever looks waits for the answer. */
const READER_TIMEOUT_SECONDS = 2.5;

export interface ArchiveSettings extends Pick<
  DatabaseSettings,
  'listenTimeoutSeconds' | 'queryTimeoutSeconds' | 'historyConnections'
> {
  readonly archiveDatabaseUrl: string | undefined;
}

/**
 * The same without a live path, where events come from elsewhere: it may be a standby.
 *
 * @param proof has to be given before each statement.
 * @throws what `openDatabase` throws; TypeError without an address.
 */
export function openArchive(settings: ArchiveSettings, proof: Proof, logger: Logger): ArchiveDatabase {
  const { archiveDatabaseUrl } = settings;
  if (archiveDatabaseUrl === undefined) throw new TypeError('an archive needs a database');
  const history = openHistory(archiveDatabaseUrl, settings, logger, proof);
  return { history, distinct: [history.db], mayLag: true };
}

function openHistory(
  url: string,
  settings: Omit<ArchiveSettings, 'archiveDatabaseUrl'>,
  log: Logger,
  admit?: Proof,
): Database {
  const { listenTimeoutSeconds, queryTimeoutSeconds } = settings;
  return openDatabase({
    url,
    applicationName: 'outbox-relay history',
    connections: settings.historyConnections,
    timeoutSeconds: Math.min(listenTimeoutSeconds, queryTimeoutSeconds),
    longestTimeoutSeconds: queryTimeoutSeconds,
    log,
    ...(admit ? { admit } : {}),
  });
}
