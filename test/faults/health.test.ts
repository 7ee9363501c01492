/**
 * The probes, each tested by breaking what it looks at and nothing else.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { createDatabase, serverUrl } from '../support/database.js';
import { startProxy } from '../support/proxy.js';
import { startRelayProcess } from '../support/relay-process.js';
import { request } from '../support/request.js';
import { startScene } from '../support/scene.js';

/** A process that stands still has not answered for so long. */
const LEEWAY_MS = 1000;
/** More than the moment for which a relay may be behind and still be ready, as a large transaction makes it. */
const OUTAGE_MS = 2500;

async function setUp(t: ExecutionContext) {
  const database = await createDatabase(t);
  const live = await startProxy(t, database.url);
  const scene = await startScene(t, {
    databaseUrl: database.url,
    listenDatabaseUrl: live.url,
    tableUrl: database.url,
    env: { LISTEN_TIMEOUT_SECONDS: '2' },
  });
  /** Whether new sessions get in. Said from outside of the database, as nobody may shut themselves out. */
  const admit = async (yes: boolean) => {
    const server = new pg.Client({ connectionString: serverUrl() });
    await server.connect();
    await server.query(`ALTER DATABASE ${database.name} ALLOW_CONNECTIONS ${yes}`);
    await server.end();
  };
  const healthy = async () => (await request(scene.relay.url, '/healthz')).status === 200;
  return { database, live, scene, admit, healthy };
}

test('/healthz is silent when the process stands still, and answers when it goes on', async (t) => {
  const database = await createDatabase(t);
  const relay = await startRelayProcess(t, database.url);
  const probe = () => request(relay.url, '/healthz').then(({ status }) => status);
  t.is(await probe(), 200);
  relay.signal('SIGSTOP');
  const answer = probe();
  t.is(await Promise.race([answer, delay(LEEWAY_MS, 'silent')]), 'silent');
  relay.signal('SIGCONT');
  t.is(await answer, 200);
});

test('/readyz says when nobody listens, though the outbox can be read', async (t) => {
  const { database, scene, admit, healthy } = await setUp(t);
  await admit(false);
  await database.kill('outbox-relay listener');
  await scene.untilReason(/not_listening since \d{4}-\d\d-\d\dT/);
  t.true(await healthy());
  await admit(true);
  await scene.untilReady();
  await scene.settle();
});

test('/readyz says when the outbox cannot be read, though it listens', async (t) => {
  const { database, scene, healthy } = await setUp(t);
  await database.withClient(async (client) => {
    await client.query('BEGIN; LOCK TABLE outbox_floor IN ACCESS EXCLUSIVE MODE');
    await scene.untilReason(/^cannot_read since \d{4}-\d\d-\d\dT/);
    t.true(await healthy());
    await client.query('ROLLBACK');
  });
  await scene.untilReady();
  await scene.settle();
});

test("/readyz says when the tail's connection is gone, though it listens", async (t) => {
  const { database, scene, admit, healthy } = await setUp(t);
  await scene.quiet();
  const writer = new pg.Client({ connectionString: database.url });
  await writer.connect();
  await admit(false);
  await database.kill('outbox-relay tail');
  await writer.query("INSERT INTO outbox (channel, data) VALUES ('a', '1')");
  await writer.end();
  await scene.untilReason(/cannot_read since \d{4}-\d\d-\d\dT/);
  t.true(await healthy());
  await admit(true);
  scene.writers.resume();
  await scene.untilReady();
  await scene.settle();
});

test('/readyz says no until all that was missed has been read', async (t) => {
  const { database, live, scene, healthy } = await setUp(t);
  live.refuse();
  await scene.untilReason(/not_listening since/);
  await delay(OUTAGE_MS);
  await database.query(
    `INSERT INTO outbox (channel, data) SELECT 'c', to_jsonb(repeat('x', 1000)) FROM generate_series(1, 20000)`,
  );
  const { rows } = await database.query<{ position: string }>('SELECT max(position) AS position FROM outbox');
  // So slow that it takes a while.
  live.heal();
  live.trickle(4_000_000);
  await scene.untilReady();
  t.true(scene.relay.log.head.position >= BigInt(rows[0]?.position ?? 0), 'ready, with events still to be read');
  t.true(await healthy());
  live.heal();
  await scene.settle();
});
