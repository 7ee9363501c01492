/**
 * The relay's sessions with PostgreSQL are ended, one, all, and again and again. Publishers never notice (promise R9).
 */
import test, { type ExecutionContext } from 'ava';
import { createDatabase } from '../support/database.js';
import { resumesWithin, startScene } from '../support/scene.js';

/** Seconds until delivery goes on once the database can be reached. */
const RESUMES_WITHIN = 3;
const SESSIONS_KILLED = 30;

async function setUp(t: ExecutionContext) {
  const database = await createDatabase(t);
  const scene = await startScene(t, { databaseUrl: database.url, tableUrl: database.url });
  return { database, scene };
}

for (const session of ['listener', 'tail', '%']) {
  test(`R6, R9: delivery goes on when ${session === '%' ? 'all sessions are' : `the ${session}'s session is`} terminated`, async (t) => {
    const { database, scene } = await setUp(t);
    // What is published next may be notified to nobody, and nothing that would follow it gives it away.
    await scene.quiet();
    t.true((await database.kill(`outbox-relay ${session}`)) > 0);
    await resumesWithin(t, scene, RESUMES_WITHIN);
    scene.writers.resume();
    await scene.writers.more(20);
    await scene.settle();
    t.deepEqual(scene.writers.failures, []);
  });
}

test('R3, R6, R9: nothing is lost while all sessions are terminated as fast as they come back', async (t) => {
  const { database, scene } = await setUp(t);
  for (let killed = 0, joined = 0; killed < SESSIONS_KILLED;) {
    await scene.writers.more(5);
    killed += await database.kill('outbox-relay%');
    // Some come while it happens.
    if (killed > 10 * joined) {
      joined += 1;
      await scene.join(['a', 'b:*'], scene.streams[0]?.lastEventId ?? '');
    }
  }
  await resumesWithin(t, scene, RESUMES_WITHIN);
  await scene.settle();
  t.deepEqual(scene.writers.failures, []);
});
