/**
 * A PgBouncer in transaction mode between relay and PostgreSQL: for replays, as it should be, and for all, as it should not.
 */
import test, { type ExecutionContext } from 'ava';
import { createDatabase } from '../support/database.js';
import { startPgbouncer } from '../support/pgbouncer.js';
import type { Environment } from '../support/relay.js';
import { resumesWithin, startScene } from '../support/scene.js';
import { startStopwatch } from '../support/stopwatch.js';

/** Seconds until delivery goes on once the pooler accepts connections. */
const RESUMES_WITHIN = 3;
const POLL = 0.2;
/** Seconds that an event may take while polling, on a machine that others keep busy: a small part of the sweep's minute. */
const POLLED_WITHIN = 5;

async function setUp(t: ExecutionContext, direct: boolean, env: Environment = {}) {
  const database = await createDatabase(t);
  // Few sessions, so that two statements in a row of one client often meet different ones.
  const pooler = await startPgbouncer(t, database.url, { sessions: 2 });
  const scene = await startScene(t, {
    databaseUrl: pooler.url,
    ...(direct ? { listenDatabaseUrl: database.url } : {}),
    tableUrl: database.url,
    env: { POLL_SECONDS: String(POLL), ...env },
  });
  return { pooler, scene };
}

const DEAF = 'no notification arrives';
const HEARING = 'notifications arrive after all';

test('R3: replays pass the pooler, without prepared statements where it does not carry them', async (t) => {
  const { scene } = await setUp(t, true, { WINDOW_MEGABYTES: '0' });
  await scene.writers.more(50);
  // At once, and again: so many statements on two sessions that a name would be unknown, or taken.
  for (let round = 0; round < 3; round += 1) {
    await Promise.all(
      [['*'], ['a'], ['b:*'], ['c', 'a'], ['b:1'], ['b:2', 'c']].map((names) => scene.join(names, 'earliest')),
    );
    await resumesWithin(t, scene, RESUMES_WITHIN);
  }
  await scene.settle();
  t.false(scene.log.some(({ msg }) => msg.includes(DEAF)));
  const fellBack = scene.log.filter(({ msg }) => msg.includes('prepared statements do not pass')).length;
  t.true(fellBack <= 1, 'it is said once');
});

test('R6: without a direct connection the relay says so once, polls, and delivers all', async (t) => {
  const { scene } = await setUp(t, false, { LISTEN_TIMEOUT_SECONDS: '1' });
  await scene.logged(DEAF);
  await scene.writers.more(1);
  const since = startStopwatch();
  let slowest = 0;
  // Many heartbeats of the listener long: each is a chance to be handed what was meant for another session.
  while (since.seconds() < 8) {
    const sent = startStopwatch();
    await scene.delivered();
    slowest = Math.max(slowest, sent.seconds());
  }
  t.log(`the slowest event took ${slowest.toFixed(2)} s; POLL_SECONDS is ${POLL}`);
  t.true(slowest <= POLLED_WITHIN, `an event took ${slowest.toFixed(2)} s`);
  await scene.settle();
  t.is(scene.log.filter(({ level, msg }) => level === 40 && msg.includes(DEAF)).length, 1);
  t.false(scene.log.some(({ msg }) => msg.includes(HEARING)));
});

for (const direct of [true, false]) {
  const where = direct ? 'for replays' : 'for all';
  test(`R3, R6: a pooler ${where} that is restarted delays and loses nothing`, async (t) => {
    const { pooler, scene } = await setUp(t, direct, { LISTEN_TIMEOUT_SECONDS: '2', WINDOW_MEGABYTES: '0' });
    const cursor = scene.writers.confirmed.at(0) ?? '';
    await pooler.end();
    const newcomer = await scene.join(['a', 'b:*'], cursor);
    await scene.writers.more(50);
    if (direct) t.is((await scene.ready()).status, 200, 'who is live needs no pooler');
    else await scene.untilReason(/not_listening since/);
    t.false(newcomer.frames.some(({ event }) => event === 'stream-open'));

    await pooler.start();
    await resumesWithin(t, scene, RESUMES_WITHIN);
    await scene.settle();
    t.deepEqual(scene.writers.failures, []);
  });

  test(`R3, R6: a pooler ${where} that is paused delays and loses nothing`, async (t) => {
    const { pooler, scene } = await setUp(t, direct, {
      LISTEN_TIMEOUT_SECONDS: '2',
      QUERY_TIMEOUT_SECONDS: '2',
      WINDOW_MEGABYTES: '0',
    });
    const cursor = scene.writers.confirmed.at(0) ?? '';
    await pooler.pause();
    const newcomer = await scene.join(['a', 'b:*'], cursor);
    await scene.writers.more(50);
    if (direct) for (const stream of scene.streams.slice(0, 1)) await stream.untilEvents(50);
    else await scene.untilReason(/not_listening since/);
    t.false(newcomer.frames.some(({ event }) => event === 'stream-open'));

    await pooler.resume();
    await resumesWithin(t, scene, RESUMES_WITHIN);
    await scene.settle();
    t.deepEqual(scene.writers.failures, []);
  });
}
