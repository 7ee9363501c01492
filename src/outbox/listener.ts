/**
 * The listener: a connection of its own that LISTENs, for ever.
 *
 * | state       | meaning                                           | leaves when                                  |
 * |-------------|---------------------------------------------------|----------------------------------------------|
 * | connecting  | a session is being opened, LISTEN included        | it is up (listening) or failed (pausing)     |
 * | listening   | the session is up                                 | the session ends or misses a heartbeat       |
 * | pausing     | waiting, with jitter, before the next attempt     | the pause ends (connecting)                  |
 * | stopped     | -                                                 | never                                        |
 *
 * A session that is up does not show that notifications arrive: a pooler in transaction mode takes
 * LISTEN and drops nearly all notifications. So after every LISTEN, and after every heartbeat's
 * time without a notification, the listener sends a probe from another connection; where it does
 * not arrive, `onNotificationsWork(false)` is called.
 *
 * Starting and recovering are one path: `onListening` is called after every LISTEN, the first
 * included. The session never opens a transaction: a listener in one keeps PostgreSQL from trimming
 * its notification queue, and when that is full every commit that notifies fails (promise R9).
 */
import pg from 'pg';
import type { Logger } from 'pino';
import { readDatabaseUrl } from '../postgres/database-url.js';
import { socketOf } from '../postgres/deadline.js';
import { createRetry } from '../postgres/retry.js';
import { LISTENER_NAME, openSession, type Session } from '../postgres/session.js';
import type { Watch } from './feed.js';
import { CHANNEL, newProbe } from './notifications.js';

export interface ListenerOptions {
  /** A direct connection: LISTEN does not pass a pooler in transaction mode. */
  readonly url: string;
  /** A session that has not answered for so long is dead. */
  readonly timeoutSeconds: number;
  readonly logger: Logger;
  /** Notifies the channel from another connection. @throws what the database throws. */
  notify(payload: string): Promise<void>;
  onListening(): void;
  /** The session is dead: other connections to the same database may be dead, too. */
  onLost(): void;
  /** Probes included. */
  onNotification(payload: string): void;
  /** Called at each change. */
  onNotificationsWork(work: boolean): void;
}

/** A session that LISTENs, with what can be known of it. */
export interface Listener extends Omit<Watch, 'awakeLock'> {
  /**
   * Runs a statement in the session that listens.
   *
   * @throws Error while there is none; else what the session throws.
   */
  readonly query: Session['query'];
  /** Whether there is one, and no pooler in its way. */
  readonly isDirect: boolean;
}

/** Longest time that a probe may take before it counts as one that never arrives. */
const PROBE_TIMEOUT_MS = 2000;

/**
 * A pooler passes a notification on by luck, when it comes amid a query of this session. So after a
 * failed probe, probe midway between heartbeats, count only the probe itself, and require so many
 * successes in a row.
 */
const SUCCESSES_REQUIRED = 3;

/**
 * Parts of a heartbeat's time that a probe may take: it has to be judged before the next heartbeat.
 */
const PROBE_WITHIN = 0.75;
const PROBE_WITHIN_AFTER_FAILURE = 0.4;

/**
 * Parts of the timeout after which a heartbeat is sent, and within which it has to be answered. A
 * session that dies right after one is found dead after both; what is left is for the next to be up
 * within the timeout.
 */
const HEARTBEAT_AFTER = 0.4;
const HEARTBEAT_WITHIN = 0.4;

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1000;

/** Time that the server has to end a session that is closed. */
const FAREWELL_MS = 1000;

/**
 * @throws the connection's error, when the very first session can't be opened; after that it tries
 * for ever.
 */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const { logger } = options;
  const address = readDatabaseUrl(options.url);
  const heartbeatMs = options.timeoutSeconds * HEARTBEAT_AFTER * 1000;
  const retry = createRetry({
    firstPauseMs: FIRST_PAUSE_MS,
    longestPauseMs: LONGEST_PAUSE_MS,
    log: {
      logger,
      onFailure: 'the listening session is lost; reconnecting until it works',
      onRecovery: 'listening for notifications again',
    },
  });
  let stopped = false;
  /** The session that listens. */
  let client: pg.Client | undefined;
  /** The same, where `here.` stands for the schema of the outbox. */
  let listening: Session | undefined;
  /**
   * One that does not yet. Its failure is `connect`'s alone to report: it would be retried twice.
   */
  let opening: pg.Client | undefined;
  let heartbeat: NodeJS.Timeout | undefined;
  let reconnection: NodeJS.Timeout | undefined;
  let notificationsWork: boolean | undefined;
  let reportedBroken = false;
  let losses = 0;
  let probeTimeout: NodeJS.Timeout | undefined;
  let probePayload = '';
  let notifiedSinceHeartbeat = false;
  /** How many heartbeats in a row had a notification. */
  let successes = 0;

  function setNotificationsWork(work: boolean): void {
    if (notificationsWork === work) return;
    notificationsWork = work;
    options.onNotificationsWork(work);
  }

  function onNotification(payload: string): void {
    if (!notifiedSinceHeartbeat && (!reportedBroken || payload === probePayload)) {
      clearTimeout(probeTimeout);
      notifiedSinceHeartbeat = true;
      successes += 1;
      if (!reportedBroken || successes >= SUCCESSES_REQUIRED) {
        if (reportedBroken) logger.info('notifications arrive after all');
        reportedBroken = false;
        setNotificationsWork(true);
      }
    }
    options.onNotification(payload);
  }

  async function probe(session: pg.Client): Promise<void> {
    if (session !== client) return;
    probePayload = newProbe();
    try {
      await options.notify(probePayload);
    } catch {
      // The other connection's trouble says nothing about this one. The next heartbeat tries again.
      return;
    }
    if (session !== client || notifiedSinceHeartbeat) return;
    clearTimeout(probeTimeout);
    const within = heartbeatMs * (reportedBroken ? PROBE_WITHIN_AFTER_FAILURE : PROBE_WITHIN);
    probeTimeout = setTimeout(onProbeTimeout, Math.min(PROBE_TIMEOUT_MS, within));
  }

  function onProbeTimeout(): void {
    successes = 0;
    setNotificationsWork(false);
    if (reportedBroken) return;
    reportedBroken = true;
    logger.warn(
      'LISTEN works but no notification arrives, as through a pooler in transaction mode, so new events are looked for every ' +
        'POLL_SECONDS: set LISTEN_DATABASE_URL to a direct connection, and delivery takes milliseconds',
    );
  }

  async function connect(): Promise<void> {
    const { ssl } = address;
    const session = new pg.Client({
      application_name: LISTENER_NAME,
      ...address.config,
      ssl,
      connectionTimeoutMillis: options.timeoutSeconds * 1000,
      query_timeout: options.timeoutSeconds * HEARTBEAT_WITHIN * 1000,
      keepAlive: true,
    });
    session.on('error', (error) => lost(session, error));
    session.on('end', () => lost(session, new Error('the server closed the listening session')));
    session.on('notification', (message) => {
      if (session === client) onNotification(message.payload ?? '');
    });
    opening = session;
    try {
      await session.connect();
      // Of its settings it needs the one that lets it be idle.
      listening = await openSession(session, { isReadOnly: true, statementTimeoutMs: 0 });
      await session.query(`LISTEN ${CHANNEL}`);
    } catch (error) {
      discard(session);
      if (!stopped && address.fallsBack(error, ssl)) return connect();
      throw error;
    }
    if (stopped) return discard(session);
    opening = undefined;
    client = session;
    heartbeat = setInterval(() => {
      session.query('SELECT 1').catch((error: unknown) => lost(session, error));
      if (reportedBroken) setTimeout(() => void probe(session), heartbeatMs / 2).unref();
      else if (!notifiedSinceHeartbeat) void probe(session);
      notifiedSinceHeartbeat = false;
    }, heartbeatMs);
    retry.succeeded();
    options.onListening();
    void probe(session);
  }

  /** A session ended, by whatever sign comes first; later signs find it gone. */
  function lost(session: pg.Client, error: unknown): void {
    if (session !== client || stopped) return;
    losses += 1;
    discard(session);
    clearTimeout(probeTimeout);
    notifiedSinceHeartbeat = false;
    successes = 0;
    setNotificationsWork(false);
    options.onLost();
    reconnect(error);
  }

  function reconnect(error: unknown): void {
    if (stopped) return;
    reconnection = setTimeout(() => void connect().catch(reconnect), retry.failed(error));
  }

  function discard(session: pg.Client): void {
    client = undefined;
    listening = undefined;
    opening = undefined;
    clearInterval(heartbeat);
    // `end` waits for a peer that may never answer; the socket need not.
    void session.end().catch(() => undefined);
    socketOf(session).destroy();
  }

  await connect();

  return {
    query(text, values) {
      if (client === undefined || listening === undefined) throw new Error('no session listens');
      return listening.query(text, values);
    },
    get isDirect() {
      return client !== undefined && listening?.isDirect === true;
    },
    get trouble() {
      return retry.trouble;
    },
    get notificationsWork() {
      return notificationsWork === true;
    },
    get losses() {
      return losses;
    },
    async stop() {
      stopped = true;
      clearTimeout(reconnection);
      clearTimeout(probeTimeout);
      clearInterval(heartbeat);
      const session = client ?? opening;
      client = undefined;
      if (session === undefined) return;
      // A peer that has vanished takes no leave.
      const cut = setTimeout(() => socketOf(session).destroy(), FAREWELL_MS);
      await session.end().catch(() => undefined);
      clearTimeout(cut);
    },
  };
}
