/**
 * Clients that come and go, and clients that stay and do not read: those who read are not disturbed, and nothing is left.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createDatabase } from '../support/database.js';
import { startProxy } from '../support/proxy.js';
import type { Environment } from '../support/relay.js';
import { openRaw } from '../support/request.js';
import { startScene, type Scene } from '../support/scene.js';
import { startStopwatch } from '../support/stopwatch.js';
import { openStream } from '../support/stream.js';

/** Seconds that an event may take to a client that reads, on a machine that others keep busy. */
const DELIVERED_WITHIN = 5;
const POLL_MS = 20;

const SMALL = 1000;
/** Bytes of an event of a history that is more than the system buffers for a client that does not read. */
const LARGE = 10_000;

async function setUp(t: ExecutionContext, bytes: number, env: Environment = {}) {
  const database = await createDatabase(t);
  const proxy = await startProxy(t, database.url);
  const scene = await startScene(t, {
    databaseUrl: proxy.url,
    tableUrl: database.url,
    env: { WINDOW_MEGABYTES: '1', ...env },
  });
  await database.query(
    // Text that PostgreSQL cannot compress: so it is as large in the table as it is on the wire.
    `INSERT INTO outbox (channel, data)
     SELECT 'b:1', to_jsonb((SELECT string_agg(md5(n || '.' || m), '') FROM generate_series(1, $1 / 32) AS m))
     FROM generate_series(1, 2000) AS n`,
    [bytes],
  );
  return { database, proxy, scene };
}

/** Of this process, which has both ends of every connection with the relay. */
const sockets = () => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;

/** Clients that come, read for a moment or not at all, and go: so many one after the other, in each of so many rows. */
async function comeAndGo(t: ExecutionContext, { relay }: Scene, rows: number, each: number): Promise<void> {
  const paths = ['/events/a', '/events/*?last_event_id=earliest', '/events/b:1?since=0', '/events/c?last_event_id=1'];
  await Promise.all(
    Array.from({ length: rows }, async (_, row) => {
      for (let n = 0; n < each; n += 1) {
        const path = paths[(row + n) % paths.length] ?? '';
        const bytes = `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
        // Some leave amid their request, some amid what they asked for, some having read a little of it.
        const client = openRaw(t, relay.url, n % 7 === 0 ? bytes.slice(0, -1) : bytes);
        if (n % 7 !== 0 && n % 3 === 0) await client.until('\n\n').catch(() => undefined);
        else await delay(Math.random() * 5);
        if (n % 2 === 0) client.socket.destroy();
        else client.socket.resetAndDestroy();
        await client.ended;
      }
    }),
  );
}

/** Resolves when nothing of those who left is there any more. */
async function untilNothingIsLeft({ relay, streams }: Scene, before: number): Promise<void> {
  while (relay.streams !== streams.length || relay.waitingBytes > 0 || sockets() > before) await delay(POLL_MS);
}

/** Publishes until `work` is done; resolves with the longest that an event took, in seconds. */
async function slowestDuring(scene: Scene, work: Promise<void>): Promise<number> {
  let isOver = false;
  const over = work.finally(() => (isOver = true));
  let slowest = 0;
  while (!hasEnded()) {
    const sent = startStopwatch();
    await scene.delivered();
    slowest = Math.max(slowest, sent.seconds());
  }
  await over;
  return slowest;

  function hasEnded(): boolean {
    return isOver;
  }
}

test.serial('R5: thousands of clients that come and go disturb nobody, and leave nothing', async (t) => {
  const { scene } = await setUp(t, SMALL);
  // Once before, so that all connections of the relay are there.
  await comeAndGo(t, scene, 20, 5);
  await untilNothingIsLeft(scene, Infinity);
  const before = sockets();
  const slowest = await slowestDuring(scene, comeAndGo(t, scene, 20, 100));
  t.log(`the slowest event took ${slowest.toFixed(2)} s`);
  t.true(slowest <= DELIVERED_WITHIN, `an event took ${slowest.toFixed(2)} s`);
  await untilNothingIsLeft(scene, before);
  await scene.settle();
});

test.serial('R5, R6: clients that come and go while the database is away leave nothing', async (t) => {
  const { database, proxy, scene } = await setUp(t, SMALL);
  await comeAndGo(t, scene, 20, 5);
  await untilNothingIsLeft(scene, Infinity);
  proxy.refuse();
  await scene.untilReason(/cannot_read since/);
  await comeAndGo(t, scene, 20, 50);
  while (scene.relay.streams !== scene.streams.length) await delay(POLL_MS);
  proxy.heal();
  await scene.untilReady();
  await scene.settle();
  const { rows } = await database.query<{ name: string; count: number }>(
    `SELECT application_name AS name, count(*)::int FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'outbox-relay %' GROUP BY 1`,
  );
  const counts = Object.fromEntries(rows.map(({ name, count }) => [name, count]));
  t.is(counts['outbox-relay listener'], 1);
  t.is(counts['outbox-relay tail'], 1);
  t.true((counts['outbox-relay history'] ?? 0) <= 4);
});

test.serial(
  'R3, R5: clients that stop reading disturb nobody, and read on exactly, through a fault as well',
  async (t) => {
    const { database, scene } = await setUp(t, LARGE, { REPLAY_MEGABYTES: '1', STALL_SECONDS: '600' });
    const stalled = [];
    for (let n = 0; n < 10; n += 1) {
      const stream = await scene.join(['b:*'], 'earliest');
      await stream.untilEvents(1);
      stream.pause();
      stalled.push(stream);
    }
    const slowest = await slowestDuring(
      { ...scene, delivered: () => scene.writers.more(5) },
      (async () => {
        for (let round = 0; round < 5; round += 1) {
          await scene.writers.more(20);
          await database.kill('outbox-relay history');
          t.true(scene.relay.waitingBytes <= 1024 * 1024, `${scene.relay.waitingBytes} bytes wait`);
        }
      })(),
    );
    t.true(slowest <= DELIVERED_WITHIN, `an event took ${slowest.toFixed(2)} s`);
    for (const stream of stalled) stream.resume();
    await scene.settle();
  },
);

test.serial('R5: clients that take nothing for STALL_SECONDS are dropped, and leave nothing', async (t) => {
  const { scene } = await setUp(t, LARGE, { STALL_SECONDS: '1' });
  await comeAndGo(t, scene, 20, 5);
  await untilNothingIsLeft(scene, Infinity);
  const before = sockets();
  const stalled = await Promise.all(
    Array.from({ length: 10 }, () => openStream(t, `${scene.relay.url}/events/b:1?last_event_id=earliest`)),
  );
  for (const stream of stalled) {
    await stream.untilEvents(1);
    stream.pause();
  }
  while (scene.relay.streams !== scene.streams.length) {
    await scene.delivered();
    await delay(POLL_MS);
  }
  for (const stream of stalled) stream.close();
  await untilNothingIsLeft(scene, before);
  await scene.settle();
});
