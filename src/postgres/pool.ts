/**
 * Connections to PostgreSQL for reading: bounded pools behind kysely.
 *
 * On a direct connection statements are prepared by name, so that the few that this relay has are
 * parsed and planned once. Never are there more connections than asked for, nor more of the
 * server's sessions at work: a query that is given up is cancelled.
 */
import { createHash } from 'node:crypto';
import { Kysely, PostgresDialect, type PostgresPoolClient } from 'kysely';
import pg from 'pg';
import type { Logger } from 'pino';
import { readDatabaseUrl } from './database-url.js';
import { cancel, QueryTimeoutError, socketOf, type Deadline } from './deadline.js';
import { openSession, type Session } from './session.js';

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
  /**
   * Calls back whenever a connection has been opened, before anything is asked on it. Returns a
   * function that ends this.
   */
  onConnect(callback: () => void): () => void;
  /**
   * Drops all connections, which are believed to be dead: what runs on them fails at once, and the
   * next query connects anew.
   */
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
   * A query that has had no answer for so long fails, and its connection is dropped: it may be
   * dead, of which nobody tells. Or the database is slow, so each time the next may take twice as
   * long, up to `longestTimeoutSeconds` (default: the same).
   */
  readonly timeoutSeconds: number;
  readonly longestTimeoutSeconds?: number;
  /** Keeps connections that are idle. Default: false. */
  readonly keepsIdle?: boolean;
  /**
   * Called before each statement, with the session that it is about to run in. Where it rejects, so
   * does the statement, without having been run.
   */
  readonly admit?: (session: Session, deadline: Deadline) => Promise<void>;
  readonly log: Logger;
}

/**
 * How long after its client the server ends a statement by itself: where no cancellation reached
 * it.
 */
const STATEMENT_MARGIN_MS = 1000;

/** Opens nothing yet: the first query connects. @throws OperatorError `bad-database-url` */
export function openDatabase(options: DatabaseOptions): Database {
  const address = readDatabaseUrl(options.url);
  const longestMs = (options.longestTimeoutSeconds ?? options.timeoutSeconds) * 1000;
  const shortestMs = options.timeoutSeconds * 1000;
  let timeoutMs = shortestMs;
  /** Of a connection, from when it is opened. */
  const sessions = new WeakMap<pg.ClientBase, Session>();
  /**
   * Where the outbox was found first: another table of its name that appears later is not looked
   * at.
   */
  let schema: string | undefined;

  const pool = new pg.Pool({
    application_name: options.applicationName,
    ...address.config,
    ssl: address.ssl,
    max: options.connections,
    connectionTimeoutMillis: shortestMs,
    ...(options.keepsIdle ? { idleTimeoutMillis: 0 } : {}),
    // Without it a peer that vanished is noticed only when the kernel gives up, hours later (off in
    // node-postgres).
    keepAlive: true,
    // eslint-disable-next-line @typescript-eslint/no-misused-promises -- it is waited for, which its type does not say
    async onConnect(client) {
      client.on('error', () => undefined);
      const settings = { isReadOnly: true, statementTimeoutMs: longestMs + STATEMENT_MARGIN_MS, schema };
      const session = await openSession(client, settings, { timeoutMs: shortestMs });
      schema ??= session.schema;
      sessions.set(client, session);
    },
  });
  // An idle connection that breaks is replaced by the pool; unheard, the event would end the
  // process.
  pool.on('error', (error) => options.log.debug({ err: error }, 'an idle database connection broke'));

  const onConnect = new Set<() => void>();
  // Nor does the pool listen while a connection is in use: one that is ended between two queries
  // would do the same.
  const open = new Set<pg.PoolClient>();
  /** Those that nothing runs on. */
  const idle = new Set<pg.PoolClient>();
  pool.on('acquire', (client) => idle.delete(client));
  pool.on('release', (_error, client) => {
    // One that died in use is closed already, and would stay here for ever.
    if (open.has(client)) idle.add(client);
  });
  pool.on('connect', (client) => {
    open.add(client);
    socketOf(client).once('close', () => {
      open.delete(client);
      idle.delete(client);
    });
    for (const callback of onConnect) callback();
  });

  async function acquire(): Promise<pg.PoolClient> {
    for (;;) {
      const { ssl } = address;
      pool.options.ssl = ssl;
      try {
        return await pool.connect();
      } catch (error) {
        if (!address.fallsBack(error, ssl)) throw error;
      }
    }
  }

  function prepared(client: pg.PoolClient, signal: AbortSignal | undefined): PostgresPoolClient {
    const session = sessions.get(client);
    if (session === undefined) throw new TypeError('a connection without its session');
    let isBroken = false;
    const query = async (text: string, values: readonly unknown[]): Promise<pg.QueryResult> => {
      try {
        const deadline = { timeoutMs, signal };
        await options.admit?.(session, deadline);
        const result = await session.query(text, values, { name: statementName(text), deadline });
        timeoutMs = shortestMs;
        return result;
      } catch (error) {
        // No error of the server's own, nor one that it has confirmed: the connection is dead, or
        // its answer may still come and would be taken for the next query's.
        isBroken =
          socketOf(client).destroyed ||
          !(error instanceof pg.DatabaseError || error instanceof QueryTimeoutError || signal?.aborted);
        if (error instanceof QueryTimeoutError) {
          timeoutMs = Math.min(timeoutMs * 2, longestMs);
          // What has killed it has killed these as well, and the next query would wait as long on
          // one of them.
          if (isBroken) for (const other of idle) socketOf(other).destroy();
        }
        throw error;
      }
    };
    return {
      // Kysely's other form, with a cursor, is for its `stream`, which this relay does not use.
      query: query as unknown as PostgresPoolClient['query'],
      release: () => client.release(isBroken),
    };
  }

  function kysely(signal?: AbortSignal): Kysely<Tables> {
    return new Kysely<Tables>({
      dialect: new PostgresDialect({
        pool: {
          async connect() {
            signal?.throwIfAborted();
            return prepared(await acquire(), signal);
          },
          end: () => pool.end(),
        },
      }),
    });
  }

  const db = kysely();
  bound.set(db, kysely);
  return {
    db,
    onConnect(callback) {
      onConnect.add(callback);
      return () => onConnect.delete(callback);
    },
    drop() {
      for (const client of open) {
        // What runs there would run on for nobody, beside what is asked anew.
        if (!idle.has(client)) void cancel(client);
        socketOf(client).destroy();
      }
    },
    async close() {
      await db.destroy();
      // It ends none where all queries were bound to a signal.
      if (!pool.ending) await pool.end();
    },
  };
}

/** How a database's queries are bound to a signal. */
const bound = new WeakMap<Kysely<Tables>, (signal: AbortSignal) => Kysely<Tables>>();

/**
 * The same database, for queries that end, in the server too, when the signal fires: they reject
 * with its reason. The connection is used again where the server has confirmed it.
 *
 * @param signal undefined: they end by themselves
 */
export function abortable(db: Kysely<Tables>, signal: AbortSignal | undefined): Kysely<Tables> {
  if (signal === undefined) return db;
  return bound.get(db)?.(signal) ?? db;
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
