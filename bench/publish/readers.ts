/** Who reads, or only listens to, what is published into a database. */
import { once } from 'node:events';
import { startObservedRelay } from '../../test/support/observed-relay.js';
import { startGenerator, type RemoteGenerator } from '../load/child.js';
import { markedText } from '../load/marker.js';
import { paced } from '../load/publish.js';
import { connect } from './databases.js';

/** That pgbench publishes on. */
export const CHANNEL = 'orders';

/** How long readers may take to read what was published in a turn. */
const BEHIND_MS = 60_000;

/** Of a marked event's data. */
const MARKED_BYTES = 300;

/** Payload that follows those of all that was committed before. */
const LAST = 'last';

/** Who reads what is published into a database. */
export interface Reader {
  /** Resolves when all that is committed has been read. @throws where that takes BEHIND_MS. */
  caughtUp(): Promise<void>;
  stop(): Promise<void>;
}

/** A relay without an outbox: one session that LISTENs and SELECTs each row by its id. */
export async function startBareReader(url: string): Promise<Reader> {
  const client = await connect(url);
  const others = await connect(url);
  await client.query('LISTEN outbox');
  let previous: Promise<unknown> = Promise.resolve();
  let last: (() => void) | undefined;
  client.on('notification', ({ payload = '' }) => {
    if (payload === LAST) return last?.();
    const row = {
      name: 'by_id',
      text: 'SELECT id, channel, event, data FROM outbox WHERE id = $1',
      values: [payload],
    };
    previous = previous.then(() => client.query(row));
  });
  return {
    async caughtUp() {
      // Notifications come in the order of the commits.
      const heard = new Promise<void>((resolve) => (last = resolve));
      await others.query(`NOTIFY outbox, '${LAST}'`);
      await within(
        BEHIND_MS,
        heard.then(() => previous),
      );
    },
    async stop() {
      await Promise.all([client.end(), others.end()]);
    },
  };
}

export interface RelayReader extends Reader {
  readonly pid: number;
  readonly generator: RemoteGenerator;
  /**
   * Publishes marked events at a pace. Resolves when the subscriber has received them, with the
   * milliseconds that each INSERT took.
   */
  publish(pace: { events: number; rate: number }): Promise<readonly number[]>;
  /** Whether it looks by itself, so that publishers do not notify. */
  isAwake(): Promise<boolean>;
}

/** A relay in a process of its own, with one subscriber in another. */
export async function startRelayReader(url: string): Promise<RelayReader> {
  const client = await connect(url);
  const relay = await startObservedRelay(
    { DATABASE_URL: url, PUBLIC_CHANNELS: '*', LOG_LEVEL: 'info' },
    { collects: false },
  );
  const generator = await startGenerator({ url: `${relay.url}/events/${CHANNEL}`, connections: 1 });
  let published = 0;
  const reader: RelayReader = {
    pid: relay.pid,
    generator,
    async publish({ events, rate }) {
      await generator.reset();
      const inserts: number[] = [];
      await paced({ events, rate, burst: 1 }, async () => {
        published += 1;
        const began = performance.now();
        await client.query({
          name: 'publish',
          text: 'INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text))',
          values: [CHANNEL, markedText(0, published, MARKED_BYTES)],
        });
        inserts.push(performance.now() - began);
      });
      await within(BEHIND_MS, generator.until(events));
      return inserts;
    },
    // What was committed before comes before it.
    async caughtUp() {
      await reader.publish({ events: 1, rate: 0 });
    },
    async isAwake() {
      const { rows } = await client.query<{ is: boolean }>(
        `SELECT EXISTS (
           SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ExclusiveLock' AND granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND classid = 'outbox'::regclass AND objid = 2) AS is`,
      );
      return rows[0]?.is === true;
    },
    async stop() {
      await generator.close();
      await Promise.all([relay.stop(), client.end()]);
    },
  };
  return reader;
}

/** Sessions that LISTEN and do nothing else. */
export interface Crowd {
  /** So many of them LISTEN from here on, and the rest do not. */
  listen(sessions: number): Promise<void>;
  stop(): Promise<void>;
}

export async function openCrowd(url: string, sessions: number): Promise<Crowd> {
  const clients = await Promise.all(Array.from({ length: sessions }, () => connect(url)));
  return {
    async listen(listening) {
      await Promise.all(clients.map((client, n) => client.query(n < listening ? 'LISTEN outbox' : 'UNLISTEN outbox')));
    },
    async stop() {
      await Promise.all(clients.map((client) => client.end()));
    },
  };
}

async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  const timeout = AbortSignal.timeout(ms);
  const late = once(timeout, 'abort').then(() => Promise.reject(new Error(`nothing has come for ${ms} ms`)));
  await Promise.race([promise, late]);
}
