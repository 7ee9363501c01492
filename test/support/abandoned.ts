/**
 * What becomes of reads that nobody waits for any more, in the server.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { sql } from 'kysely';
import { pino } from 'pino';
import { abortable, openDatabase } from '../../src/postgres/pool.js';
import type { TestDatabase } from './database.js';
import { startTestRelay } from './relay.js';
import { openStream } from './stream.js';

const CONNECTIONS = 4;
const CLIENTS = 30;
/** Several timeouts long, and each doubles. */
const LOCKED_MS = 4000;

/** Sessions of the server that are at work for replays, whoever passed the query on. */
async function readers(database: TestDatabase): Promise<number> {
  const { rows } = await database.query<{ count: number }>(
    `SELECT count(*)::integer AS count FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'outbox-relay history%'`,
  );
  return rows[0]?.count ?? 0;
}

/** Holds a lock that every read waits for, for longer than their clients do. */
export async function checkLocked(t: ExecutionContext, database: TestDatabase, url: string): Promise<void> {
  await database.query(`INSERT INTO outbox (channel, data) SELECT 'a', '1' FROM generate_series(1, 20)`);
  const relay = await startTestRelay(t, url, {
    LISTEN_DATABASE_URL: database.url,
    HISTORY_CONNECTIONS: String(CONNECTIONS),
    QUERY_TIMEOUT_SECONDS: '0.5',
    LISTEN_TIMEOUT_SECONDS: '20',
    WINDOW_MEGABYTES: '0',
  });
  let most = 0;
  const streams: ReturnType<typeof openStream>[] = [];
  await database.withClient(async (client) => {
    await client.query('BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE');
    for (let n = 0; n < CLIENTS; n += 1) {
      streams.push(openStream(t, `${relay.url}/events?channel=a&channel=other:${n}&last_event_id=earliest`));
    }
    for (const end = Date.now() + LOCKED_MS; Date.now() < end; await delay(20))
      most = Math.max(most, await readers(database));
    await client.query('ROLLBACK');
  });
  t.true(most >= 1 && most <= CONNECTIONS, `${most} sessions at a time`);
  const found = await Promise.all(streams.map(async (stream) => (await (await stream).untilEvents(20)).length));
  t.deepEqual(found, Array<number>(CLIENTS).fill(20));
}

/** Aborts a read, and uses its connection again. */
export async function checkAborted(t: ExecutionContext, database: TestDatabase, url: string): Promise<void> {
  const { db, close } = openDatabase({
    url,
    applicationName: 'outbox-relay history',
    connections: 1,
    timeoutSeconds: 60,
    log: pino({ level: 'silent' }),
  });
  try {
    const pid = async () => (await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(db)).rows[0]?.pid;
    const before = await pid();
    const asleep = async () =>
      (
        await database.query(
          `SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active'`,
        )
      ).rowCount;
    const controller = new AbortController();
    const reason = new Error('the client has left');
    const read = sql`SELECT pg_sleep(60)`.execute(abortable(db, controller.signal));
    const failed = t.throwsAsync(read, { is: reason });
    while ((await asleep()) === 0) await delay(10);
    controller.abort(reason);
    await failed;
    t.is(await asleep(), 0, 'the server has ended it, too');
    t.is(await pid(), before, 'its session is used again');
    await t.throwsAsync(sql`SELECT 1`.execute(abortable(db, controller.signal)), { is: reason });
    t.is(await pid(), before);
  } finally {
    await close();
  }
}
