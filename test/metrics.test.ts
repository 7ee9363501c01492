/**
 * Metrics: each says what happens, shown by making it happen.
 */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { createDatabase, servers } from './support/database.js';
import { startRelayProcess } from './support/relay-process.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { openRaw, request } from './support/request.js';
import { openStream, type TestStream } from './support/stream.js';
import { inSeconds, SECRET, tokenFor } from './support/token.js';

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 20;

async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, env);
  /** The value of a metric, as it is written; undefined where it is missing. */
  const value = async (name: string): Promise<number | undefined> => {
    const { body } = await request(relay.url, '/metrics');
    const line = body.split('\n').find((text) => text.startsWith(`outbox_relay_${name} `));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ') + 1));
  };
  const until = async (name: string, test: (found: number | undefined) => boolean) => {
    for (;;) {
      const found = await value(name);
      if (test(found)) return found;
      await delay(POLL_MS);
    }
  };
  const publish = (channel: string) =>
    database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb(1))', [channel]);
  return { database, relay, url: relay.url, value, until, publish };
}

test('connections are counted by state, events and bytes as they are written', async (t) => {
  const { database, url, value, until, publish } = await setUp(t, { WINDOW_MEGABYTES: '1' });
  await database.query(
    "INSERT INTO outbox (channel, data) SELECT 'long', to_jsonb(repeat(md5(n::text), 300)) FROM generate_series(1, 2000) AS n",
  );
  await until('tail_lag_positions', (lag) => lag === 0);
  const live = await openStream(t, `${url}/events/a`);
  await live.until(({ event }) => event === 'stream-open');
  const stuck = openRaw(t, url, 'GET /events/long?last_event_id=earliest HTTP/1.1\r\nHost: x\r\n\r\n');
  stuck.socket.pause();
  await until('connections{state="stalled"}', (count) => count === 1);
  t.is(await value('connections{state="live"}'), 1);
  t.is(await value('connections_opened_total'), 2);
  t.is(await value('replays_total'), 1);
  t.true(((await value('history_reads_total')) ?? 0) >= 1);
  t.true(((await value('waiting_bytes')) ?? 0) > 0);
  stuck.socket.destroy();
  await until('connections{state="stalled"}', (count) => count === 0);

  const [events = 0, bytes = 0] = [await value('events_sent_total'), await value('bytes_sent_total')];
  const delivered = (await value('delivery_seconds_count')) ?? 0;
  for (let n = 0; n < 3; n++) await publish('a');
  await live.untilEvents(3);
  t.is(await value('events_sent_total'), events + 3);
  t.true(((await value('bytes_sent_total')) ?? 0) >= bytes + 3 * 'id: 1\ndata: 1\n\n'.length);
  t.is(await value('delivery_seconds_count'), delivered + 3);
  const sum = (await value('delivery_seconds_sum')) ?? 0;
  t.true(sum > 0 && sum < 30 * delivered, `${sum} s`);
});

test('resets and refusals are counted by reason', async (t) => {
  const { url, value } = await setUp(t, { PUBLIC_CHANNELS: 'a', JWT_SECRET: SECRET });
  const stream = await openStream(t, `${url}/events/a?last_event_id=999`);
  await stream.until(({ event }) => event === 'stream-reset');
  t.is(await value('resets_total{reason="unknown"}'), 1);
  t.is(await value('resets_total{reason="expired"}'), 0);
  await request(url, '/events/b');
  await request(url, '/events/a', { headers: { Authorization: 'Bearer x' } });
  await request(url, '/nothing');
  t.is(await value('refusals_total{code="unauthorized"}'), 1);
  t.is(await value('refusals_total{code="invalid_token"}'), 1);
  t.is(await value('refusals_total{code="not_found"}'), 1);

  const short = await openStream(t, `${url}/events/b`, {
    Authorization: `Bearer ${await tokenFor(['b'], { exp: inSeconds(1) })}`,
  });
  await short.ended;
  t.is(await value('connections_ended_total{reason="expired"}'), 1);
});

test('a client that comes back to one cursor again and again is counted, and told of with what to do', async (t) => {
  const lines: string[] = [];
  const database = await createDatabase(t);
  const relay = await startRelayProcess(t, database.url, { TRUST_PROXY: '1' }, (line) => {
    if (line.includes('to the same cursor')) lines.push(line);
  });
  const value = async () => {
    const { body } = await request(relay.url, '/metrics');
    return Number(/^outbox_relay_repeated_resumes_total (\d+)$/m.exec(body)?.[1]);
  };
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '1'), ('a', to_jsonb(repeat('x', 70000)))");
  const come = async (path: string, address = '203.0.113.7') => {
    const stream = await openStream(t, relay.url + path, { 'X-Forwarded-For': address });
    await stream.until(({ event }) => event === 'stream-open');
    return stream;
  };
  const leave = async (stream: TestStream) => {
    stream.close();
    const isOpen = async () =>
      !/^outbox_relay_connections\{state="live"\} 0$/m.test((await request(relay.url, '/metrics')).body);
    while (await isOpen()) await delay(POLL_MS);
  };
  // Those who come together, another client, another channel, and a client at the head.
  const together = [await come('/events/a?last_event_id=1'), await come('/events/a?last_event_id=1')];
  together.push(await come('/events/a?last_event_id=1', '203.0.113.8'), await come('/events/b?last_event_id=1'));
  for (const stream of together) stream.close();
  for (let n = 0; n < 3; n += 1) await leave(await come('/events/a?last_event_id=2'));
  t.is(await value(), 0);
  t.deepEqual(lines, []);

  for (let n = 1; n <= 6; n += 1) {
    await leave(await come('/events/a?last_event_id=1'));
    t.is(await value(), n);
  }
  // A cursor that is answered with a reset each time.
  for (let n = 0; n < 2; n += 1) await leave(await come('/events/a?last_event_id=999'));
  t.is(await value(), 7);
  t.is(lines.length, 1);
  const { lastEventId, channels, repeats, msg } = JSON.parse(lines[0] ?? '{}') as Record<string, unknown>;
  t.deepEqual([lastEventId, channels, repeats], ['1', '[["a"],[]]', 5]);
  t.regex(String(msg), /64 KiB.*raise their limit/);
});

test('what only the database knows is missing while it does not answer, and the rest is there', async (t) => {
  const { database, relay, value, until } = await setUp(t, { LISTEN_TIMEOUT_SECONDS: '1' });
  t.is(await value('tail_lag_positions'), 0);
  t.is(await value('notify_queue_usage'), 0);
  t.is(await value('listening'), 1);
  await until('notifications_arrive', (hears) => hears === 1);
  t.is(await value('listener_losses_total'), 0);

  // From outside of it, because nobody may shut themselves out.
  const server = new pg.Client({ connectionString: servers().newest });
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
  t.true(relay.notReady().length > 0);
});

test('event-loop delay and memory are there, under the names of the Node client', async (t) => {
  const { url } = await setUp(t);
  const { body, headers } = await request(url, '/metrics');
  t.regex(headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/);
  for (const name of ['nodejs_eventloop_lag_seconds', 'process_resident_memory_bytes'])
    t.regex(body, new RegExp(`^${name} `, 'm'));
});

test('METRICS_PORT has them alone, and PORT no longer', async (t) => {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { METRICS_PORT: '0' });
  t.is((await request(relay.url, '/metrics')).status, 404);
  const metrics = relay.metricsUrl ?? '';
  t.is((await request(metrics, '/metrics')).status, 200);
  t.is((await request(metrics, '/events/a')).status, 404);
});

test('the dashboard asks for metrics that there are, and leaves none of ours out', async (t) => {
  const { url } = await setUp(t);
  const { body } = await request(url, '/metrics');
  const offered = new Set([...body.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name));
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
