/**
 * A primary dies and its standby is promoted, behind a name that relay and publishers go on using. Commits had waited for
 * the standby, so nothing is lost.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { startPostgres, startStandby } from '../support/postgres.js';
import { startProxy } from '../support/proxy.js';
import { resumesWithin, startScene } from '../support/scene.js';
import { startStopwatch } from '../support/stopwatch.js';

/** Seconds until delivery goes on once the new primary accepts writes. */
const RESUMES_WITHIN = 3;
/** Several attempts of everybody: in that time a relay that took the standby for a primary would show it. */
const LEEWAY_MS = 1500;

test('R3, R4, R6: after a failover every client has all events once, and none from a standby', async (t) => {
  const primary = await startPostgres(t);
  const standby = await startStandby(t, primary);
  const name = await startProxy(t, primary.url);
  const scene = await startScene(t, { databaseUrl: name.url, tableUrl: name.url });
  await scene.writers.more(50);

  await primary.end('kill');
  // The name leads to the standby before that is promoted, as it does where the two are done by different hands.
  name.retarget(standby.url);
  await scene.untilReason(/not_listening since/);
  const newcomer = await scene.join(['a', 'b:*'], scene.writers.confirmed.at(-1) ?? '');
  await delay(LEEWAY_MS);
  await scene.untilReason(/not_listening since/);

  await standby.query('SELECT pg_promote()');
  const since = startStopwatch();
  await resumesWithin(t, scene, RESUMES_WITHIN, since);
  await newcomer.until(({ event }) => event === 'stream-open');
  await scene.writers.more(50);
  await scene.settle();
});
