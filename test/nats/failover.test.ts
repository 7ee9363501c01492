/**
 * PostgreSQL fails over while it feeds NATS. Commits had waited for the standby, so nothing is lost; and a primary that was deposed
 * and lives on feeds nothing any more, whoever still writes to it.
 */
import test from 'ava';
import { startFeeding } from '../support/feeding.js';
import { startPostgres, startStandby } from '../support/postgres.js';
import { startProxy } from '../support/proxy.js';
import { startScene } from '../support/scene.js';

test('R3, R4, R6: after a failover clients of a relay on NATS have all events once', async (t) => {
  const primary = await startPostgres(t);
  const standby = await startStandby(t, primary);
  const name = await startProxy(t, primary.url);
  const { env, feeders } = await startFeeding(t, { databaseUrls: [name.url, name.url] });
  const scene = await startScene(t, { databaseUrl: name.url, tableUrl: name.url, env });
  await scene.writers.more(50);

  await primary.end('kill');
  name.retarget(standby.url);
  await standby.query('SELECT pg_promote()');
  await scene.delivered();
  await scene.writers.more(50);
  await scene.settle();
  for (const feeder of feeders) t.deepEqual(feeder.complaints, []);
});

test('R3: of two primaries the one that was deposed feeds nothing, and its feeder says so', async (t) => {
  const primary = await startPostgres(t);
  const standby = await startStandby(t, primary);
  const name = await startProxy(t, primary.url);
  // The second feeder stays with the old one, as behind a partition.
  const { env, log } = await startFeeding(t, { databaseUrls: [name.url, primary.url] });
  const scene = await startScene(t, { databaseUrl: name.url, tableUrl: name.url, env });
  await scene.writers.more(20);
  await scene.quiet();

  await standby.query('SELECT pg_promote()');
  name.retarget(standby.url);
  name.cut();
  scene.writers.resume();
  await scene.writers.more(20);
  await scene.delivered();
  // Nobody waits for the standby any more that it was.
  await primary.query("ALTER SYSTEM SET synchronous_standby_names = ''");
  await primary.query('SELECT pg_reload_conf()');
  await primary.query(`INSERT INTO outbox (channel, data) SELECT 'a', '"of the deposed"' FROM generate_series(1, 500)`);
  await scene.writers.more(50);
  while (!log.some((line) => /timeline/.test(line))) await new Promise((done) => setTimeout(done, 50));
  await primary.query(`INSERT INTO outbox (channel, data) SELECT 'a', '"of the deposed"' FROM generate_series(1, 500)`);
  await scene.writers.more(20);
  await scene.settle();
  for (const { frames } of scene.streams) t.false(frames.some(({ data }) => data?.includes('deposed')));
});
