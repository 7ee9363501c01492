/**
 * The network between relay and PostgreSQL dies without a word, slows down, refuses, and comes back. It does so for the
 * live path (LISTEN_DATABASE_URL), for replays (DATABASE_URL), for both, and for one session of them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createDatabase } from '../support/database.js';
import { startProxy } from '../support/proxy.js';
import type { Environment } from '../support/relay.js';
import { resumesWithin, startScene } from '../support/scene.js';
import { startStopwatch } from '../support/stopwatch.js';
import { openStream, type Frame } from '../support/stream.js';

const isOpen = ({ event }: Frame) => event === 'stream-open';

/** Both LISTEN_TIMEOUT_SECONDS and QUERY_TIMEOUT_SECONDS. */
const TIMEOUT = 5;
/** Seconds until delivery goes on once connections are accepted again. */
const RESUMES_WITHIN = 3;
/** Long enough for every backoff to be at its longest. */
const OUTAGE_MS = 6_000;

async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const live = await startProxy(t, database.url);
  const replays = await startProxy(t, database.url);
  const scene = await startScene(t, {
    databaseUrl: replays.url,
    listenDatabaseUrl: live.url,
    tableUrl: database.url,
    env: { LISTEN_TIMEOUT_SECONDS: String(TIMEOUT), QUERY_TIMEOUT_SECONDS: String(TIMEOUT), ...env },
  });
  return { live, replays, scene };
}

for (const [what, name] of [
  ['the listening session is', 'outbox-relay listener'],
  ["the tail's session is", 'outbox-relay tail'],
  ['both sessions of the live path are', 'outbox-relay'],
] as const) {
  test(`R6: where ${what} dead without a word, delivery goes on within LISTEN_TIMEOUT_SECONDS`, async (t) => {
    const { live, scene } = await setUp(t);
    await scene.quiet();
    live.strand(name);
    scene.writers.resume();
    await resumesWithin(t, scene, TIMEOUT);
    await scene.settle();
  });
}

test("R6: replays' dead sessions make those wait who resume, and nobody else", async (t) => {
  // A relay whose event loop is late opens fewer than it may: of one session all are open, and then dead.
  const { replays, scene } = await setUp(t, { WINDOW_MEGABYTES: '0', HISTORY_CONNECTIONS: '1' });
  await Promise.all(['a', 'b:*', 'b:1', 'c'].map((name) => scene.join([name], 'earliest')));
  await scene.delivered();
  t.is(replays.connections, 1);
  let delivered: number;
  let waited: number;
  // Where the session was replaced just then, there is nothing to wait for: the next is tried.
  do {
    // Who still catches up reads history, and would wait as well.
    do await scene.delivered();
    while (scene.relay.byState().catchingUp > 0);
    replays.strand();
    const since = startStopwatch();
    const resuming = await openStream(t, `${scene.relay.url}/events/a?last_event_id=earliest`);
    let hasOpened = false;
    const isOver = () => hasOpened;
    const opened = resuming.until(isOpen).then(() => (hasOpened = true));
    delivered = 0;
    while (!isOver()) {
      await scene.delivered();
      delivered += 1;
    }
    await opened;
    waited = since.seconds();
  } while (waited < 1);
  t.true(delivered >= 3, `others got only ${delivered} events meanwhile`);
  t.log(`who resumed had waited for ${waited.toFixed(2)} s`);
  t.true(waited <= TIMEOUT + RESUMES_WITHIN, `who resumed had waited for ${waited.toFixed(2)} s`);
  await scene.join(['a', 'b:*'], 'earliest');
  await scene.settle();
});

for (const where of ['the live path', 'replays', 'both'] as const) {
  test(`R3, R6: after a black hole for ${where} delivery goes on within LISTEN_TIMEOUT_SECONDS`, async (t) => {
    const { live, replays, scene } = await setUp(t);
    const holes = where === 'both' ? [live, replays] : [where === 'replays' ? replays : live];
    const { lastEventId } = scene.streams[1] ?? {};
    for (const proxy of holes) proxy.blackhole();
    const early = scene.join(['a'], lastEventId ?? '');
    await delay(OUTAGE_MS);
    const late = scene.join(['b:*'], lastEventId ?? '');
    const since = startStopwatch();
    for (const proxy of holes) proxy.heal();
    await Promise.all([early, late]);
    await resumesWithin(t, scene, TIMEOUT, since);
    await scene.settle();
    t.deepEqual(scene.writers.failures, []);
  });
}

test('R3, R6: after both paths were refused for long, delivery goes on within seconds', async (t) => {
  const { live, replays, scene } = await setUp(t);
  for (const proxy of [live, replays]) proxy.refuse();
  await delay(OUTAGE_MS);
  const since = startStopwatch();
  for (const proxy of [live, replays]) proxy.heal();
  await resumesWithin(t, scene, RESUMES_WITHIN, since);
  await scene.settle();
});

for (const [what, slow] of [
  ['late', { delay: 200 }],
  ['slow', { trickle: 32_000 }],
] as const) {
  test(`R6: a network that is ${what} costs no session and no event`, async (t) => {
    const { live, replays, scene } = await setUp(t);
    for (const proxy of [live, replays]) {
      if ('delay' in slow) proxy.delay(slow.delay);
      else proxy.trickle(slow.trickle);
    }
    // Several heartbeats long.
    const since = startStopwatch();
    while (since.seconds() < TIMEOUT * 1.5) {
      await scene.delivered();
      await scene.join(['b:*'], scene.streams[0]?.lastEventId ?? '');
    }
    await scene.settle();
    t.false(
      scene.log.some(({ level }) => level >= 40),
      JSON.stringify(scene.log.filter(({ level }) => level >= 40)),
    );
  });
}
