/**
 * Several workers on one port, as one relay to everybody outside.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createDatabase } from '../support/database.js';
import { startRelayProcess } from '../support/relay-process.js';
import { runCommand } from '../support/command.js';
import { request } from '../support/request.js';
import { openStream, type TestStream } from '../support/stream.js';

const POLL_MS = 50;

async function setUp(t: ExecutionContext, workers: number) {
  const database = await createDatabase(t);
  const relay = await startRelayProcess(t, database.url, { WORKERS: String(workers), METRICS_PORT: '0' });
  /** The workers' backends that listen: one each. */
  const listeners = async () => {
    const { rows } = await database.query<{ pid: number }>(
      "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'outbox-relay listener'",
    );
    return rows.map(({ pid }) => pid);
  };
  while ((await listeners()).length < workers) await delay(POLL_MS);
  /** Kept for a second: what is expected of one is waited for. */
  const metric = async (name: string) => {
    const { body } = await request(relay.metricsUrl ?? '', '/metrics');
    return Number(
      body
        .split('\n')
        .find((line) => line.startsWith(`outbox_relay_${name} `))
        ?.split(' ')
        .at(-1),
    );
  };
  return { database, relay, listeners, metric };
}

test('R3: workers share a port, and a client resumes exactly on whichever it comes to', async (t) => {
  const { database, relay, metric } = await setUp(t, 2);
  const streams = await Promise.all(Array.from({ length: 6 }, () => openStream(t, `${relay.url}/events/a`)));
  for (const stream of streams) await stream.until(({ event }) => event === 'stream-open');
  await database.query("INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(n) FROM generate_series(1, 100) AS n");
  const all = await Promise.all(streams.map((stream) => stream.untilEvents(100)));
  for (const events of all)
    t.deepEqual(
      events.map(({ id }) => id),
      all[0]?.map(({ id }) => id),
    );
  // The sum over both.
  while ((await metric('events_sent_total')) !== 600) await delay(POLL_MS);
  t.is(await metric('connections{state="live"}'), 6);

  for (let n = 0; n < 4; n++) {
    const from = all[0]?.[n * 20]?.id;
    const resumed = await openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': from });
    t.is((await resumed.untilEvents(99 - n * 20))[0]?.id, all[0]?.[n * 20 + 1]?.id);
  }
  t.is(await relay.end('SIGTERM'), 0);
  await Promise.all(streams.map((stream) => stream.ended));
  for (const { frames } of streams) {
    t.is(frames.at(-1)?.event, 'stream-pause');
    t.true((frames.at(-1)?.retry ?? 0) > 0, 'told when to come back');
  }
});

test('a worker that is killed is replaced, and those of the others notice nothing', async (t) => {
  const { database, relay, metric } = await setUp(t, 2);
  const pids = await relay.workers();
  t.is(pids.length, 2);
  const [victim = 0, other = 0] = pids;
  const theirs = await openStreamsBut(t, relay.url, victim);
  const lost = await openStreamsBut(t, relay.url, other);

  const over = new Set<TestStream>();
  for (const stream of [...theirs, ...lost]) void stream.ended.then(() => over.add(stream));
  process.kill(victim, 'SIGKILL');
  for (const stream of lost) await stream.ended;
  while ((await relay.workers()).filter((pid) => !pids.includes(pid)).length === 0) await delay(POLL_MS);
  while ((await metric('listening')) !== 1) await delay(POLL_MS);
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '1')");
  for (const stream of theirs) await stream.untilEvents(1);
  t.false(
    theirs.some((stream) => over.has(stream)),
    'the other worker lost its streams too',
  );
  const again = await Promise.all(
    Array.from({ length: 4 }, () => openStream(t, `${relay.url}/events/a?last_event_id=earliest`)),
  );
  for (const stream of again) await stream.untilEvents(1);
  t.is(await relay.end('SIGTERM'), 0);
});

/** Opens streams on another worker than this: whoever is first takes a connection, so this one stands still meanwhile. */
async function openStreamsBut(t: ExecutionContext, url: string, worker: number): Promise<TestStream[]> {
  process.kill(worker, 'SIGSTOP');
  while (!(await standsStill(worker))) await delay(POLL_MS);
  try {
    const streams: TestStream[] = [];
    for (let n = 0; n < 4; n++) {
      const stream = await openStream(t, `${url}/events/a`);
      await stream.until(({ event }) => event === 'stream-open');
      streams.push(stream);
    }
    return streams;
  } finally {
    process.kill(worker, 'SIGCONT');
  }
}

/** Whether all of its threads do: a signal takes a moment (proc(5), the state after the name in parentheses). */
async function standsStill(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, 'utf8');
  return status.slice(status.lastIndexOf(')') + 2).startsWith('T');
}

test('R5: a worker that stands still hides neither the metrics of the others nor what it last told', async (t) => {
  const { relay, metric } = await setUp(t, 2);
  const streams = await Promise.all(Array.from({ length: 6 }, () => openStream(t, `${relay.url}/events/a`)));
  for (const stream of streams) await stream.until(({ event }) => event === 'stream-open');
  while ((await metric('connections{state="live"}')) !== 6) await delay(POLL_MS);
  const [still = 0] = await relay.workers();
  process.kill(still, 'SIGSTOP');
  while (!(await standsStill(still))) await delay(POLL_MS);
  try {
    for (let round = 0; round < 3; round++) {
      t.is(await metric('connections{state="live"}'), 6);
      await delay(1000);
    }
  } finally {
    process.kill(still, 'SIGCONT');
  }
  t.is(await relay.end('SIGTERM'), 0);
});

test('a relay that is told to stop while a worker starts does not wait for it in vain', async (t) => {
  const { relay } = await setUp(t, 2);
  const pids = await relay.workers();
  process.kill(pids[0] ?? 0, 'SIGKILL');
  while ((await relay.workers()).every((pid) => pids.includes(pid))) await delay(POLL_MS);
  t.is(await relay.end('SIGTERM'), 0);
});

test('workers that cannot start end the relay, with their reason', async (t) => {
  const database = await createDatabase(t);
  const { url } = await startRelayProcess(t, database.url);
  const { code, output } = await runCommand([], {
    DATABASE_URL: database.url,
    PUBLIC_CHANNELS: '*',
    WORKERS: '2',
    PORT: new URL(url).port,
  });
  t.is(code, 1);
  t.regex(output, /Port taken|could not start/);
});
