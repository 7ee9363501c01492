/**
 * A synchronous standby stops, and commits that wait for it hang. Publishers that do without it go on, and so does delivery, up to
 * what hangs.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { startPostgres, startStandby } from '../support/postgres.js';
import { startScene } from '../support/scene.js';

const POLL_MS = 20;
/** How long publishers who need not wait may take, on a busy machine. */
const GO_ON_MS = 5_000;
const EVENT = "INSERT INTO outbox (channel, data) VALUES ('a', '1') RETURNING id";

async function othersGoOn(t: ExecutionContext, isAwake: boolean): Promise<void> {
  const primary = await startPostgres(t);
  const standby = await startStandby(t, primary);
  const scene = await startScene(t, { databaseUrl: primary.url, tableUrl: primary.url });
  const [waiting, local] = [new pg.Client(primary.url), new pg.Client(primary.url)];
  for (const client of [waiting, local]) {
    await client.connect();
    t.teardown(() => client.end());
  }
  await local.query(`SET synchronous_commit = local; SET lock_timeout = ${GO_ON_MS}`);
  // As if another relay were awake: this one finds that out and looks by itself, too.
  if (isAwake) await local.query("SELECT pg_advisory_lock('outbox'::regclass::oid::integer, 2)");
  const publish = async (client: pg.Client) => (await client.query<{ id: string }>(EVENT)).rows[0]?.id ?? '';
  const reader = await scene.join(['a'], 'earliest');
  const arrives = (id: string) => reader.until((frame) => frame.id === id && frame.data === '1');
  await scene.writers.more(20);
  await scene.quiet();

  const ids: string[] = [];
  let hanging = Promise.resolve('');
  await standby.end('immediate');
  try {
    await arrives(await publish(local));
    let isOver = false;
    hanging = publish(waiting).finally(() => (isOver = true));
    while ((await primary.query("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")).length === 0) {
      await delay(POLL_MS);
    }
    for (let n = 0; n < 3; n += 1) ids.push(await publish(local));
    await scene.untilReason(/commit_hangs since/);
    t.is((await scene.ready()).status, 200, 'what can be delivered is');
    t.false(isOver);
    const early = reader.events.filter(({ id }) => ids.includes(id ?? ''));
    t.deepEqual(early, [], 'they come after the one that hangs');
  } finally {
    await standby.start();
    ids.unshift(await hanging);
  }

  for (const id of ids) await arrives(id);
  const last = reader.events.slice(-ids.length).map(({ id }) => id);
  t.deepEqual(last, ids);
  scene.writers.resume();
  await scene.writers.more(20);
  await scene.settle();
  t.deepEqual(scene.writers.failures, []);
}

test('R2, R3, R6: while a commit hangs for a standby others publish, and what follows it is delivered once it is over', (t) =>
  othersGoOn(t, true));

// Who rings holds NOTIFY's lock until its commit is over, and the bell with it.
test('R2, R3, R6: others publish while a commit that rings hangs for a standby', (t) => othersGoOn(t, false));
