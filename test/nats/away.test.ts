/**
 * What is away for long: publishers notice nothing, relays say so, and all that was published meanwhile is delivered once it is back.
 */
import test from 'ava';
import { createDatabase } from '../support/database.js';
import { startFeeding } from '../support/feeding.js';
import { startScene } from '../support/scene.js';

/** So much is published meanwhile: more than an entry has room for. */
const MEANWHILE = 2_000;
/** However busy the machine: nobody waits for NATS. */
const LONGEST_INSERT_MS = 5_000;

test('R6, R9: while NATS is away publishers notice nothing, the relay says so, and all is delivered after', async (t) => {
  const database = await createDatabase(t);
  const { nats, env } = await startFeeding(t, { databaseUrls: [database.url] });
  const scene = await startScene(t, { databaseUrl: database.url, tableUrl: database.url, env });
  await scene.writers.more(50);
  const [server] = nats.servers;

  await server.end('SIGKILL');
  await scene.untilReason(/\w/);
  let longest = 0;
  for (let n = 0; n < MEANWHILE / 100; n += 1) {
    const began = performance.now();
    await database.query(
      `INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(repeat('x', 600)) FROM generate_series(1, 100)`,
    );
    longest = Math.max(longest, performance.now() - began);
  }
  t.true(longest < LONGEST_INSERT_MS, `an INSERT took ${longest.toFixed(0)} ms`);
  t.deepEqual(scene.writers.failures, []);
  t.is((await scene.ready()).status, 503);

  await server.start();
  await scene.delivered();
  await scene.untilReady();
  await scene.settle();
});

test('R6: while no feeder runs the relay says so, and all is delivered once one does', async (t) => {
  const database = await createDatabase(t);
  const { env, feeders } = await startFeeding(t, { databaseUrls: [database.url] });
  const scene = await startScene(t, { databaseUrl: database.url, tableUrl: database.url, env });
  await scene.writers.more(50);
  const [feeder] = feeders;

  await feeder?.end('SIGKILL');
  await scene.untilReason(/no_feeder/);
  const ids = scene.writers.confirmed.length;
  await scene.writers.more(50);
  t.true(scene.writers.confirmed.length >= ids + 50);
  feeder?.start();
  await scene.delivered();
  await scene.untilReady();
  await scene.settle();
});

test('R3, R6: the store of all servers is lost, the stream is set up again, and clients notice nothing', async (t) => {
  const database = await createDatabase(t);
  const { nats, env, setUp } = await startFeeding(t, { databaseUrls: [database.url] });
  const scene = await startScene(t, { databaseUrl: database.url, tableUrl: database.url, env });
  await scene.writers.more(50);
  const [server] = nats.servers;

  await server.end('SIGKILL');
  await server.wipe();
  await scene.writers.more(50);
  await server.start();
  await nats.healthy();
  await setUp();
  await scene.writers.more(50);
  await scene.delivered();
  await scene.untilReady();
  await scene.settle();
});
