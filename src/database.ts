/**
 * Connections to PostgreSQL: for reading, bounded pools behind kysely; for a command, a single one.
 *
 * Statements are prepared by name, so that the few that this relay has are parsed and planned once per connection. A
 * pooler in transaction mode may hand the next statement to another session, where the name does not exist; the first
 * such error turns names off for that pool, and the statement is sent again without one.
 */
import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { Kysely, PostgresDialect, type PostgresPoolClient } from 'kysely';
import pg from 'pg';
import type { Logger } from 'pino';

/** The tables as PostgreSQL returns them to us: `bigint` as decimal text. */
export interface Tables {
  outbox: {
    id: string;
    channel: string;
    event: string;
    data: unknown;
    created_at: Date;
    position: string | null;
  };
  outbox_floor: { id: string; position: string };
}

export interface Database {
  readonly db: Kysely<Tables>;
  /** Drops all connections, which are believed to be dead: what runs on them fails at once, and the next query connects anew. */
  drop(): void;
  /** Closes all connections, once the queries that are running have ended. */
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly url: string;
  /** Shown in pg_stat_activity. */
  readonly applicationName: string;
  /** Most connections at a time; further reads wait their turn, first come, first served. */
  readonly connections: number;
  /**
   * A query that has had no answer for so long fails, and its connection is dropped: it may be dead, of which nobody tells.
   * Or the database is slow, so each time the next may take twice as long, up to `longestTimeoutSeconds` (default: the same).
   */
  readonly timeoutSeconds: number;
  readonly longestTimeoutSeconds?: number;
  /** Keeps connections that are idle. Default: false. */
  readonly keepsIdle?: boolean;
  /** Called whenever a connection has been opened, before anything is asked on it. */
  readonly onConnected?: () => void;
  readonly log: Logger;
}

/** `invalid_sql_statement_name` and `duplicate_prepared_statement` (PostgreSQL manual, appendix A). */
const PREPARED_STATEMENT_ERRORS = new Set(['26000', '42P05']);

/** Opens nothing yet: the first query connects. */
export function openDatabase(options: DatabaseOptions): Database {
  const pool = new pg.Pool({
    connectionString: options.url,
    application_name: options.applicationName,
    max: options.connections,
    connectionTimeoutMillis: options.timeoutSeconds * 1000,
    ...(options.keepsIdle ? { idleTimeoutMillis: 0 } : {}),
    // Without it a peer that vanished is noticed only when the kernel gives up, hours later (off in node-postgres).
    keepAlive: true,
  });
  // An idle connection that breaks is replaced by the pool; unheard, the event would end the process.
  pool.on('error', (error) => options.log.debug({ err: error }, 'an idle database connection broke'));

  // Nor does the pool listen while a connection is in use: one that is ended between two queries would do the same.
  const sockets = new Set<Socket>();
  /** Those of connections that nothing runs on. */
  const idle = new Set<Socket>();
  pool.on('acquire', (client) => idle.delete(socketOf(client)));
  pool.on('release', (_error, client) => {
    const socket = socketOf(client);
    // One that died in use is closed already, and would stay here for ever.
    if (sockets.has(socket)) idle.add(socket);
  });
  pool.on('connect', (client) => {
    client.on('error', () => undefined);
    const socket = socketOf(client);
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      idle.delete(socket);
    });
    options.onConnected?.();
  });

  let named = true;
  let timeout = options.timeoutSeconds;

  function prepared(client: pg.PoolClient): PostgresPoolClient {
    let broken = false;
    const run = async (text: string, values: readonly unknown[]): Promise<pg.QueryResult> => {
      const config = { text, values: [...values], query_timeout: timeout * 1000 };
      const result = await client.query(named ? { ...config, name: statementName(text) } : config);
      timeout = options.timeoutSeconds;
      return result;
    };
    const query = async (text: string, values: readonly unknown[]): Promise<pg.QueryResult> => {
      try {
        return await run(text, values);
      } catch (error) {
        const code = error instanceof pg.DatabaseError ? error.code : undefined;
        if (named && code && PREPARED_STATEMENT_ERRORS.has(code)) {
          named = false;
          options.log.info('prepared statements do not pass the pooler; going on without them');
          return run(text, values);
        }
        // No error of the server's own: the connection is dead, or its answer may still come and would be taken for the
        // next query's.
        if (code === undefined) broken = true;
        if (isTimeout(error)) {
          timeout = Math.min(timeout * 2, options.longestTimeoutSeconds ?? options.timeoutSeconds);
          // What has killed it has killed these as well, and the next query would wait as long on one of them.
          for (const socket of idle) socket.destroy();
        }
        throw error;
      }
    };
    return {
      // Kysely's other form, with a cursor, is for its `stream`, which this relay does not use.
      query: query as unknown as PostgresPoolClient['query'],
      release: () => client.release(broken),
    };
  }

  const db = new Kysely<Tables>({
    dialect: new PostgresDialect({
      pool: { connect: async () => prepared(await pool.connect()), end: () => pool.end() },
    }),
  });
  return {
    db,
    drop() {
      for (const socket of sockets) socket.destroy();
    },
    close: () => db.destroy(),
  };
}

/** The socket of a connection that is open, to be destroyed where its peer may never answer a farewell. */
export function socketOf(client: pg.ClientBase): Socket {
  return (client as unknown as { connection: { stream: Socket } }).connection.stream;
}

/** node-postgres has no code for it. */
function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout';
}

/** After so many milliseconds of silence the kernel asks whether the peer is still there. */
const KEEPALIVE = 30_000;

/** How long the server may take to end a session that we leave, in milliseconds. */
const FAREWELL = 1000;

/**
 * Opens a connection for one piece of work and closes it after that, which rolls back what was not committed.
 *
 * @param timeoutSeconds a query that has had no answer for so long fails. Default: none does, as a migration may take hours;
 * of a peer that has vanished the kernel tells.
 */
export async function withClient<T>(
  url: string,
  applicationName: string,
  use: (client: pg.Client) => Promise<T>,
  timeoutSeconds?: number,
): Promise<T> {
  const client = new pg.Client({
    connectionString: url,
    application_name: applicationName,
    connectionTimeoutMillis: 10_000,
    ...(timeoutSeconds === undefined ? {} : { query_timeout: timeoutSeconds * 1000 }),
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE,
  });
  // A connection that breaks fails the query that is running; unheard, the event would end the process besides.
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await use(client);
  } finally {
    // A peer that has vanished takes no leave.
    const cut = setTimeout(() => socketOf(client).destroy(), FAREWELL);
    await client.end();
    clearTimeout(cut);
  }
}

const names = new Map<string, string>();

function statementName(text: string): string {
  let name = names.get(text);
  if (name === undefined) {
    name = `outbox_${createHash('sha256').update(text).digest('hex').slice(0, 16)}`;
    names.set(text, name);
  }
  return name;
}
