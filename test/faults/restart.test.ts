/**
 * PostgreSQL goes away, in every way, and comes back. The relay stays, and so do its clients.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { startPostgres, type Ending } from '../support/postgres.js';
import { request } from '../support/request.js';
import { resumesWithin, startScene } from '../support/scene.js';
import { startStopwatch } from '../support/stopwatch.js';
import { isHeartbeat } from '../support/stream.js';

/** Seconds until delivery goes on once PostgreSQL accepts connections. */
const RESUMES_WITHIN = 3;
/** Long enough for every backoff to be at its longest. */
const OUTAGE_MS = 6_000;
const HEARTBEAT = 0.3;

async function setUp(t: ExecutionContext) {
  const postgres = await startPostgres(t);
  const scene = await startScene(t, {
    databaseUrl: postgres.url,
    tableUrl: postgres.url,
    env: { HEARTBEAT_SECONDS: String(HEARTBEAT) },
  });
  return { postgres, scene };
}

for (const [what, how, outage] of [
  ['is shut down and started', 'fast', 0],
  ['is shut down at once and recovers', 'immediate', 0],
  ['is killed and recovers', 'kill', 0],
  ['is away for long', 'fast', OUTAGE_MS],
] as const satisfies readonly (readonly [string, Ending, number])[]) {
  test.serial(`R3, R6, R9: delivery goes on within ${RESUMES_WITHIN} seconds when PostgreSQL ${what}`, async (t) => {
    const { postgres, scene } = await setUp(t);
    await postgres.end(how);
    await delay(outage);
    await postgres.start();
    const accepting = performance.now();
    await resumesWithin(t, scene, RESUMES_WITHIN);
    await scene.writers.more(50);
    await scene.settle();
    const late = scene.writers.failures.filter(({ began }) => began > accepting);
    t.deepEqual(late, [], 'a publisher failed that began after the restart');
  });
}

test.serial(
  'R3, R6: while PostgreSQL is away streams stay, newcomers who have missed something wait, and probes say what is wrong',
  async (t) => {
    const { postgres, scene } = await setUp(t);
    const probe = async (path: string) => (await request(scene.relay.url, path)).status;
    t.deepEqual([await probe('/healthz'), await probe('/readyz')], [200, 200]);
    await scene.quiet();
    const [head] = await postgres.query<{ id: string }>('SELECT id FROM outbox ORDER BY position DESC LIMIT 1');
    const before = scene.streams.map(({ frames, lastEventId }) => ({ count: frames.length, lastEventId }));

    await postgres.end('immediate');
    await scene.logged('the listening session is lost');
    await scene.logged('cannot read the outbox');
    const { status, reasons } = await scene.ready();
    t.is(status, 503);
    t.regex(reasons.join('; '), /not_listening since .*; cannot_read since /);
    t.is(await probe('/healthz'), 200);

    // Who has missed nothing that the relay knows of needs no database; who has may have missed a redaction as well.
    const atHead = await scene.join(['b:*'], head?.id ?? '');
    await atHead.until(({ event }) => event === 'stream-open');
    const newcomers = [
      await scene.join(['b:*'], scene.writers.confirmed.at(0) ?? ''),
      await scene.join(['a'], 'earliest'),
    ];
    scene.writers.resume();
    for (const [n, stream] of scene.streams.entries()) {
      const seen = before[n]?.count ?? 0;
      // Two in a row, so that the last one was made while all was away.
      while (stream.frames.slice(seen).filter(isHeartbeat).length < 2) await stream.more();
    }
    for (const [n, { count }] of before.entries()) {
      const frames = scene.streams[n]?.frames.slice(count) ?? [];
      t.deepEqual(
        frames.filter((frame) => !isHeartbeat(frame) || (frame.id !== undefined && frame.id !== head?.id)),
        [],
      );
    }
    for (const { frames } of newcomers) t.true(frames.every(isHeartbeat));

    await postgres.start();
    const since = startStopwatch();
    for (const stream of newcomers) await stream.until(({ event }) => event === 'stream-open');
    await resumesWithin(t, scene, RESUMES_WITHIN, since);
    t.is((await scene.ready()).status, 200);
    await scene.settle();
  },
);
