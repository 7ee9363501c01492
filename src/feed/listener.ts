/**
 * The listener: a connection of its own that LISTENs on channel `outbox`, for ever.
 *
 * | state       | meaning                                           | leaves when                                  |
 * |-------------|---------------------------------------------------|----------------------------------------------|
 * | connecting  | a session is being opened, LISTEN included        | it is up (listening) or failed (pausing)     |
 * | listening   | notifications arrive                              | the session ends or misses a heartbeat       |
 * | pausing     | waiting, with jitter, before the next attempt     | the pause ends (connecting)                  |
 * | stopped     | -                                                 | never                                        |
 *
 * Listening is not hearing: a pooler in transaction mode takes LISTEN and drops what is notified, or nearly all of it. So
 * after every LISTEN, and whenever a heartbeat's time has passed in silence, the listener has itself notified from another
 * connection; if that does not arrive, `onHearing` says that nothing does.
 *
 * Starting and recovering are one path: `onListening` is called after every LISTEN, the first included, so whoever relies
 * on notifications looks for what it missed. The session never opens a transaction: a listener that sits in one keeps
 * PostgreSQL from trimming its notification queue, and when that is full every commit that notifies fails (promise R9).
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import type { Logger } from 'pino';
import { readDatabaseUrl } from '../postgres/database-url.js';
import { socketOf } from '../postgres/deadline.js';
import { openSession } from '../postgres/session.js';

/** The channel that the migrations notify on. */
const CHANNEL = 'outbox';

export interface Listener {
  /** Undefined while listening, else what went wrong and since when. */
  readonly trouble: { readonly error: unknown; readonly since: Date } | undefined;
  /** Whether notifications are known to arrive. */
  readonly hears: boolean;
  /** How often a session was lost. */
  readonly losses: number;
  stop(): Promise<void>;
}

export interface ListenerOptions {
  /** A direct connection: LISTEN does not pass a pooler in transaction mode. */
  readonly url: string;
  readonly applicationName: string;
  /** A session that has not answered for so long is dead. */
  readonly timeoutSeconds: number;
  readonly logger: Logger;
  /** Notifies the channel from another connection. @throws what the database throws. */
  notify(payload: string): Promise<void>;
  onListening(): void;
  /** The session is dead: others to the same database that were open may be, too. */
  onLost(): void;
  onNotification(payload: string): void;
  /** Notifications are found to arrive, or not to. */
  onHearing(hears: boolean): void;
}

/** How long a notification may take, in milliseconds, before it counts as one that never comes. */
const HEARING_TIMEOUT = 2000;

const PROBE = 'probe:';

/**
 * A pooler lets a notification through by luck, when it comes amid a query of this session. So who was found deaf is asked
 * halfway between two heartbeats, hears nothing but the answer, and has to hear so many in a row.
 */
const HEARD_IN_A_ROW = 3;

/** Parts of a heartbeat's time that an answer may take: it has to be judged before the next. */
const HEARD_WITHIN = 0.75;
const DEAF_HEARD_WITHIN = 0.4;

/**
 * Parts of the timeout after which a heartbeat goes out, and within which it has to be answered. A session that dies right
 * after one is found dead after both; what is left is for the next to be up within the timeout.
 */
const HEARTBEAT_AFTER = 0.4;
const HEARTBEAT_WITHIN = 0.4;

/** Between attempts to connect, in milliseconds: doubled each time from the first to the last. */
const PAUSE_FIRST = 100;
const PAUSE_LAST = 1000;

/** How long the server may take to end a session that we leave, in milliseconds. */
const FAREWELL = 1000;

/** @throws the connection's error, when the very first session can't be opened; after that it tries for ever. */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const { logger } = options;
  const address = readDatabaseUrl(options.url);
  let stopped = false;
  /** The session that listens. */
  let client: pg.Client | undefined;
  /** One that does not yet. How it fails is for `connect` alone to say: it would be tried again twice, and those again. */
  let opening: pg.Client | undefined;
  let heartbeat: NodeJS.Timeout | undefined;
  let retry: NodeJS.Timeout | undefined;
  let pause = PAUSE_FIRST;
  let trouble: Listener['trouble'];
  let hears: boolean | undefined;
  let toldDeaf = false;
  let losses = 0;
  let deadline: NodeJS.Timeout | undefined;
  let probed = '';
  let heardSinceBeat = false;
  /** How many heartbeats in a row have been heard. */
  let heardInARow = 0;

  function setHearing(value: boolean): void {
    if (hears === value) return;
    hears = value;
    options.onHearing(value);
  }

  function onNotification(payload: string): void {
    if (!heardSinceBeat && (!toldDeaf || payload === probed)) {
      clearTimeout(deadline);
      heardSinceBeat = true;
      heardInARow += 1;
      if (!toldDeaf || heardInARow >= HEARD_IN_A_ROW) {
        if (toldDeaf) logger.info('notifications arrive after all');
        toldDeaf = false;
        setHearing(true);
      }
    }
    if (!payload.startsWith(PROBE)) options.onNotification(payload);
  }

  /** Finds out whether notifications arrive. */
  async function probe(session: pg.Client): Promise<void> {
    if (session !== client) return;
    probed = PROBE + randomUUID();
    try {
      await options.notify(probed);
    } catch {
      // The other connection has trouble of its own, which says nothing about this one. The next heartbeat tries again.
      return;
    }
    if (session !== client || heardSinceBeat) return;
    clearTimeout(deadline);
    const within = options.timeoutSeconds * HEARTBEAT_AFTER * 1000 * (toldDeaf ? DEAF_HEARD_WITHIN : HEARD_WITHIN);
    deadline = setTimeout(deaf, Math.min(HEARING_TIMEOUT, within));
  }

  function deaf(): void {
    heardInARow = 0;
    setHearing(false);
    if (toldDeaf) return;
    toldDeaf = true;
    logger.warn(
      'LISTEN works but no notification arrives, as through a pooler in transaction mode, so new events are looked for every ' +
        'POLL_SECONDS: set LISTEN_DATABASE_URL to a direct connection, and delivery takes milliseconds',
    );
  }

  async function connect(): Promise<void> {
    const { ssl } = address;
    const session = new pg.Client({
      application_name: options.applicationName,
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
      await openSession(session, { isReadOnly: true, statementTimeoutMs: 0 });
      await session.query(`LISTEN ${CHANNEL}`);
    } catch (error) {
      discard(session);
      if (!stopped && address.fallsBack(error, ssl)) return connect();
      throw error;
    }
    if (stopped) return discard(session);
    opening = undefined;
    client = session;
    heartbeat = setInterval(
      () => {
        session.query('SELECT 1').catch((error: unknown) => lost(session, error));
        // Whatever has arrived since the last one shows as much.
        if (toldDeaf) setTimeout(() => void probe(session), options.timeoutSeconds * HEARTBEAT_AFTER * 500).unref();
        else if (!heardSinceBeat) void probe(session);
        heardSinceBeat = false;
      },
      options.timeoutSeconds * HEARTBEAT_AFTER * 1000,
    );
    if (trouble) logger.info('listening for notifications again');
    trouble = undefined;
    pause = PAUSE_FIRST;
    options.onListening();
    void probe(session);
  }

  /** A session ended, by whatever sign comes first; the others then find it gone. */
  function lost(session: pg.Client, error: unknown): void {
    if (session !== client || stopped) return;
    losses += 1;
    discard(session);
    clearTimeout(deadline);
    heardSinceBeat = false;
    heardInARow = 0;
    setHearing(false);
    options.onLost();
    reconnect(error);
  }

  function reconnect(error: unknown): void {
    if (stopped) return;
    if (!trouble) logger.warn({ err: error }, 'the listening session is lost; reconnecting until it works');
    trouble = { error, since: trouble?.since ?? new Date() };
    const delay = pause * (0.5 + Math.random() / 2);
    pause = Math.min(pause * 2, PAUSE_LAST);
    retry = setTimeout(() => void connect().catch(reconnect), delay);
  }

  function discard(session: pg.Client): void {
    client = undefined;
    opening = undefined;
    clearInterval(heartbeat);
    // `end` waits for a peer that may never answer; the socket need not.
    void session.end().catch(() => undefined);
    socketOf(session).destroy();
  }

  await connect();

  return {
    get trouble() {
      return trouble;
    },
    get hears() {
      return hears === true;
    },
    get losses() {
      return losses;
    },
    async stop() {
      stopped = true;
      clearTimeout(retry);
      clearTimeout(deadline);
      clearInterval(heartbeat);
      const session = client ?? opening;
      client = undefined;
      if (session === undefined) return;
      // A peer that has vanished takes no leave.
      const cut = setTimeout(() => socketOf(session).destroy(), FAREWELL);
      await session.end().catch(() => undefined);
      clearTimeout(cut);
    },
  };
}
