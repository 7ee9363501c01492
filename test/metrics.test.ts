/**
 * Metrics: each says what happens, shown by making it happen.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { createFeederMetrics } from '../src/metrics/feeder-metrics.js';
import { createDatabase, serverUrl } from './support/database.js';
import { createFakeEngine } from './support/fake-engine-log.js';
import { startMember } from './support/feeding-crew.js';
import { createMemoryOutbox, noFaults } from './support/memory-outbox.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, request } from './support/request.js';
import { publishLong } from './support/slow-client.js';
import { openStream, type TestStream } from './support/stream.js';
import { inSeconds, SECRET, tokenFor } from './support/token.js';

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;

/** What is scraped may be so old, and is made anew by the first who asks after that. */
const KEPT_MS = 1000;

async function setUp(t: ExecutionContext, env: Environment = {}, onLine?: (line: string) => void) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { METRICS_PORT: '0', ...env }, onLine);
  const scrape = () => request(relay.metricsUrl ?? '', '/metrics');
  const read = (body: string, name: string): number | undefined => {
    const line = body.split('\n').find((text) => text.startsWith(`outbox_relay_${name} `));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1));
  };
  /** The metrics of now: what was kept from before is let grow old. */
  const values = async () => {
    await delay(KEPT_MS);
    const { body } = await scrape();
    return (name: string) => read(body, name);
  };
  /** The value of a metric, as it is written; undefined where it is missing. */
  const value = async (name: string) => (await values())(name);
  const until = async (name: string, test: (found: number | undefined) => boolean) => {
    for (;;) {
      const found = read((await scrape()).body, name);
      if (test(found)) return found;
      await delay(POLL_MS);
    }
  };
  const publish = (channel: string) =>
    database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb(1))', [channel]);
  return { database, relay, url: relay.url, scrape, values, value, until, publish };
}

test('an event whose time is infinite is delivered as others are, and counts in no time', async (t) => {
  const lines: string[] = [];
  const { database, url, value } = await setUp(t, { LOG_LEVEL: 'info' }, (line) => lines.push(line));
  const stream = await openStream(t, `${url}/events/a`);
  await stream.until(({ event }) => event === 'stream-open');
  await database.query(
    `INSERT INTO outbox (channel, data, created_at) VALUES ('a', '1', 'infinity'), ('a', '2', '-infinity'), ('a', '3', now())`,
  );
  t.deepEqual(
    (await stream.untilEvents(3)).map(({ data }) => data),
    ['1', '2', '3'],
  );
  t.is(await value('delivery_seconds_count'), 1);
  t.deepEqual(
    lines.filter((line) => line.includes('cannot read')),
    [],
  );
});

test('connections are counted by state, events and bytes as they are written', async (t) => {
  const { database, url, values, until, publish } = await setUp(t, { WINDOW_MEGABYTES: '1' });
  await publishLong(database.query);
  await until('tail_lag_positions', (lag) => lag === 0);
  const live = await openStream(t, `${url}/events/a`);
  await live.until(({ event }) => event === 'stream-open');
  const stuck = openRaw(t, url, 'GET /events/long?last_event_id=earliest HTTP/1.1\r\nHost: x\r\n\r\n');
  stuck.socket.pause();
  await until('connections{state="stalled"}', (count) => count === 1);
  const stalled = await values();
  t.is(stalled('connections{state="live"}'), 1);
  t.is(stalled('connections_opened_total'), 2);
  t.is(stalled('replays_total'), 1);
  t.true((stalled('history_reads_total') ?? 0) >= 1);
  t.true((stalled('waiting_bytes') ?? 0) > 0);
  stuck.socket.destroy();
  await until('connections{state="stalled"}', (count) => count === 0);

  const before = await values();
  const counted = (name: string) => before(name) ?? 0;
  for (let n = 0; n < 3; n++) await publish('a');
  await live.untilEvents(3);
  const after = await values();
  t.is(after('events_sent_total'), counted('events_sent_total') + 3);
  t.true((after('bytes_sent_total') ?? 0) >= counted('bytes_sent_total') + 3 * 'id: 1\ndata: 1\n\n'.length);
  t.is(after('delivery_seconds_count'), counted('delivery_seconds_count') + 3);
  const sum = after('delivery_seconds_sum') ?? 0;
  t.true(sum > 0 && sum < 30 * counted('delivery_seconds_count'), `${sum} s`);
});

test('resets and refusals are counted by reason', async (t) => {
  const { url, values, value } = await setUp(t, { PUBLIC_CHANNELS: 'a', JWT_SECRET: SECRET });
  const stream = await openStream(t, `${url}/events/a?last_event_id=999`);
  await stream.until(({ event }) => event === 'stream-reset');
  await request(url, '/events/b');
  await request(url, '/events/a', { headers: { Authorization: 'Bearer x' } });
  await request(url, '/nothing');
  const all = await values();
  t.is(all('resets_total{reason="unknown"}'), 1);
  t.is(all('resets_total{reason="expired"}'), 0);
  t.is(all('refusals_total{code="unauthorized"}'), 1);
  t.is(all('refusals_total{code="invalid_token"}'), 1);
  t.is(all('refusals_total{code="not_found"}'), 1);

  const short = await openStream(t, `${url}/events/b`, {
    Authorization: `Bearer ${await tokenFor(['b'], { exp: inSeconds(3) })}`,
  });
  await short.ended;
  t.is(await value('connections_ended_total{reason="expired"}'), 1);
});

test('a client that comes back to one cursor again and again is counted, and told of with what to do', async (t) => {
  const lines: string[] = [];
  const onLine = (line: string) => {
    if (line.includes('to the same cursor')) lines.push(line);
  };
  const { database, relay, value } = await setUp(t, { TRUST_PROXY: '1' }, onLine);
  const repeated = () => value('repeated_resumes_total');
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '1'), ('a', to_jsonb(repeat('x', 70000)))");
  const come = async (path: string, address = '203.0.113.7') => {
    const stream = await openStream(t, relay.url + path, { 'X-Forwarded-For': address });
    await stream.until(({ event }) => event === 'stream-open');
    return stream;
  };
  const leave = async (stream: TestStream) => {
    stream.close();
    while (relay.streams > 0) await delay(POLL_MS);
  };
  // Those who come together, another client, another channel, and a client at the head.
  const together = [await come('/events/a?last_event_id=1'), await come('/events/a?last_event_id=1')];
  together.push(await come('/events/a?last_event_id=1', '203.0.113.8'), await come('/events/b?last_event_id=1'));
  for (const stream of together) stream.close();
  for (let n = 0; n < 3; n += 1) await leave(await come('/events/a?last_event_id=2'));
  t.is(await repeated(), 0);
  t.deepEqual(lines, []);

  for (let n = 1; n <= 6; n += 1) {
    await leave(await come('/events/a?last_event_id=1'));
    t.is(await repeated(), n);
  }
  // A cursor that is answered with a reset each time.
  for (let n = 0; n < 2; n += 1) await leave(await come('/events/a?last_event_id=999'));
  t.is(await repeated(), 7);
  t.is(lines.length, 1);
  const { lastEventId, channels, repeats, msg } = JSON.parse(lines[0] ?? '{}') as Record<string, unknown>;
  t.deepEqual([lastEventId, channels, repeats], ['1', '[["a"],[]]', 5]);
  t.regex(String(msg), /64 KiB.*raise their limit/);
});

test('what only the database knows is missing while it does not answer, and the rest is there', async (t) => {
  const { database, relay, value, until } = await setUp(t);
  // The first scrape connects, which may take longer than it waits.
  t.is(await until('tail_lag_positions', (lag) => lag !== undefined), 0);
  // The queue is the server's, and other tests notify, too.
  const usage = (await until('notify_queue_usage', (found) => found !== undefined)) ?? NaN;
  t.true(usage >= 0 && usage < 0.1, `${usage}`);
  t.is(await value('listening'), 1);
  await until('notifications_arrive', (hears) => hears === 1);
  t.is(await value('listener_losses_total'), 0);

  // From outside of it, because nobody may shut themselves out.
  const server = new pg.Client({ connectionString: serverUrl() });
  await server.connect();
  t.teardown(() => server.end());
  const name = new URL(database.url).pathname.slice(1);
  await server.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
  await server.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'outbox-relay %'",
    [name],
  );
  await until('listening', (listening) => listening === 0);
  t.is(await until('tail_lag_positions', (lag) => lag === undefined), undefined);
  t.is(await value('notifications_arrive'), 0);
  t.is(await value('listener_losses_total'), 1);
  await until('tail_lag_seconds', (lag) => (lag ?? 0) > 0);
  t.true(relay.readiness().reasons.length > 0);
});

test('event-loop delay and memory are there, under the names of the Node client', async (t) => {
  const { scrape } = await setUp(t);
  const { body, headers } = await scrape();
  t.regex(headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/);
  for (const name of ['nodejs_eventloop_lag_seconds', 'process_resident_memory_bytes'])
    t.regex(body, new RegExp(`^${name} `, 'm'));
});

test('metrics are on METRICS_PORT, which serves no streams, and on PORT only where PUBLIC_METRICS says so', async (t) => {
  const database = await createDatabase(t);
  const alone = await startTestRelay(t, database.url, { METRICS_PORT: '0' });
  const metrics = alone.metricsUrl ?? '';
  t.is((await request(metrics, '/metrics')).status, 200);
  t.is((await request(metrics, '/metrics', { method: 'HEAD' })).status, 200);
  t.is((await request(metrics, '/metrics', { method: 'POST' })).status, 405);
  for (const path of ['/events/a', '/healthz', '/', '/Metrics', '/metrics/']) {
    t.is((await request(metrics, path)).status, 404, path);
  }
  t.is((await request(alone.url, '/metrics')).status, 404);
  const none = await startTestRelay(t, database.url);
  t.is(none.metricsUrl, undefined);
  t.is((await request(none.url, '/metrics')).status, 404);
  const open = await startTestRelay(t, database.url, { PUBLIC_METRICS: 'true' });
  t.is((await request(open.url, '/metrics')).status, 200);
  t.is((await request(open.url, '/Metrics')).status, 404);
});

test('R5: however often metrics are scraped, the database is asked once a second, and never where events are read', async (t) => {
  const { database, url, scrape, publish } = await setUp(t);
  const stream = await openStream(t, `${url}/events/a`);
  await stream.until(({ event }) => event === 'stream-open');
  const bodies = new Set<string>();
  const began = performance.now();
  for (let round = 0; round < 10; round++) {
    const answers = await Promise.all(Array.from({ length: 40 }, scrape));
    for (const { body } of answers) bodies.add(body);
    await publish('a');
    await stream.untilEvents(round + 1);
  }
  const makings = Math.ceil((performance.now() - began) / KEPT_MS) + 1;
  t.true(bodies.size <= makings, `${bodies.size} texts, where there may be ${makings}`);
  const { rows } = await database.query<{ application_name: string }>(
    `SELECT DISTINCT application_name FROM pg_stat_activity
     WHERE datname = current_database() AND query LIKE '%pg_notification_queue_usage%' AND pid <> pg_backend_pid()`,
  );
  t.deepEqual(
    rows.map((row) => row.application_name),
    ['outbox-relay history'],
  );
});

test('R5: while the database does not answer, scrapes wait for a second at most and leave one question behind', async (t) => {
  const { database, scrape } = await setUp(t, { QUERY_TIMEOUT_SECONDS: '20', LISTEN_TIMEOUT_SECONDS: '20' });
  await database.withClient(async (client) => {
    await client.query('BEGIN; LOCK TABLE outbox_floor IN ACCESS EXCLUSIVE MODE');
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(Array.from({ length: 50 }, scrape));
      t.true(answers.every(({ status }) => status === 200));
      t.notRegex(answers[0]?.body ?? '', /^outbox_relay_notify_queue_usage /m);
      await delay(KEPT_MS);
    }
    const { rows } = await client.query<{ waiting: number }>(
      `SELECT count(*)::int AS waiting FROM pg_stat_activity WHERE datname = current_database()
       AND query LIKE '%pg_notification_queue_usage%' AND state = 'active' AND pid <> pg_backend_pid()`,
    );
    t.is(rows[0]?.waiting, 1);
    await client.query('ROLLBACK');
  });
});

test('the dashboard asks for metrics that relays and feeders have, and leaves none of ours out', async (t) => {
  const { scrape } = await setUp(t);
  const { body } = await scrape();
  const feeder = await startMember(createMemoryOutbox(noFaults), noFaults, createFakeEngine());
  t.teardown(feeder.die);
  const names = (text: string) => [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name);
  const ofRelays = names(body);
  const ofFeeders = names(await createFeederMetrics(feeder.feeding).text());
  t.deepEqual(
    ofFeeders.filter((name) => name.startsWith('outbox_relay_') && ofRelays.includes(name)),
    [],
    'a name means one thing',
  );
  const offered = new Set([...ofRelays, ...ofFeeders]);
  const dashboard = await readFile(new URL('../../examples/grafana/outbox-relay.json', import.meta.url), 'utf8');
  const { panels } = JSON.parse(dashboard) as { panels: { targets?: { expr: string }[] }[] };
  const queries = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)).join('\n');
  const asked = new Set(
    [...queries.matchAll(/\b((?:outbox_relay|nodejs|process)_\w+)/g)].map(([, name = '']) =>
      name.replace(/_bucket$/, ''),
    ),
  );
  t.deepEqual(
    [...asked].filter((name) => !offered.has(name)),
    [],
  );
  t.deepEqual(
    [...offered].filter((name) => name.startsWith('outbox_relay_') && !asked.has(name)),
    [],
  );
});
