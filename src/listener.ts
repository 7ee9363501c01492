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
 * Starting and recovering are one path: `onListening` is called after every LISTEN, the first included, so whoever relies
 * on notifications looks for what it missed. The session never opens a transaction: a listener that sits in one keeps
 * PostgreSQL from trimming its notification queue, and when that is full every commit that notifies fails (promise R9).
 */
import pg from 'pg';
import type { Logger } from 'pino';

/** The channel that the migrations notify on. */
const CHANNEL = 'outbox';

export interface Listener {
  /** Undefined while listening, else what went wrong and since when. */
  readonly trouble: { readonly error: unknown; readonly since: Date } | undefined;
  stop(): Promise<void>;
}

export interface ListenerOptions {
  /** A direct connection: LISTEN does not pass a pooler in transaction mode. */
  readonly url: string;
  readonly applicationName: string;
  /** A session that has not answered for so long is dead. */
  readonly timeoutSeconds: number;
  readonly logger: Logger;
  onListening(): void;
  onNotification(payload: string): void;
}

const PAUSE_FIRST = 100;
const PAUSE_LAST = 5000;

/** @throws the connection's error, when the very first session can't be opened; after that it tries for ever. */
export async function startListener(options: ListenerOptions): Promise<Listener> {
  const { logger } = options;
  let stopped = false;
  let client: pg.Client | undefined;
  let heartbeat: NodeJS.Timeout | undefined;
  let retry: NodeJS.Timeout | undefined;
  let pause = PAUSE_FIRST;
  let trouble: Listener['trouble'];

  async function connect(): Promise<void> {
    const session = new pg.Client({
      connectionString: options.url,
      application_name: options.applicationName,
      connectionTimeoutMillis: options.timeoutSeconds * 1000,
      // A heartbeat goes out every half of the limit and has the other half to be answered.
      query_timeout: (options.timeoutSeconds * 1000) / 2,
      keepAlive: true,
    });
    session.on('error', (error) => lost(session, error));
    session.on('end', () => lost(session, new Error('the server closed the listening session')));
    session.on('notification', (message) => options.onNotification(message.payload ?? ''));
    client = session;
    try {
      await session.connect();
      await session.query(`LISTEN ${CHANNEL}`);
    } catch (error) {
      discard(session);
      throw error;
    }
    if (stopped) return discard(session);
    heartbeat = setInterval(
      () => {
        session.query('SELECT 1').catch((error: unknown) => lost(session, error));
      },
      (options.timeoutSeconds * 1000) / 2,
    );
    if (trouble) logger.info('listening for notifications again');
    trouble = undefined;
    pause = PAUSE_FIRST;
    options.onListening();
  }

  /** A session ended, by whatever sign comes first; the others then find it gone. */
  function lost(session: pg.Client, error: unknown): void {
    if (session !== client || stopped) return;
    discard(session);
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
    clearInterval(heartbeat);
    // `end` waits for a peer that may never answer; the socket need not.
    void session.end().catch(() => undefined);
    (session as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
  }

  await connect();

  return {
    get trouble() {
      return trouble;
    },
    async stop() {
      stopped = true;
      clearTimeout(retry);
      clearInterval(heartbeat);
      const session = client;
      client = undefined;
      await session?.end().catch(() => undefined);
    },
  };
}
