/**
 * Relays that read from NATS, with real servers, real feeders and real PostgreSQL: clients get what they are owed, whatever goes and
 * comes back.
 */
import { createSecretKey } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { openNatsLog } from '../../src/nats/nats-log.js';
import { makeStream, STREAM_DEFAULTS } from '../../src/nats/stream.js';
import { startCollector, tracingTo } from '../support/collector.js';
import { consoleAt, PASSWORD } from '../support/console.js';
import { createDatabase } from '../support/database.js';
import { startFeeder } from '../support/engine-stage.js';
import { startNats } from '../support/nats.js';
import { startRelayProcess } from '../support/relay-process.js';
import { startTestRelay, type Environment } from '../support/relay.js';
import { request } from '../support/request.js';
import { openStream } from '../support/stream.js';

const POLL_MS = 50;
const DEADLINE_MS = 40_000;
const SECRET = 'a secret that feeders and relays share, of 32 bytes';

async function setUp(t: ExecutionContext) {
  const database = await createDatabase(t);
  const nats = await startNats(t);
  const env = readEnvironment(nats.url);
  const open = () => openNatsLog(env.settings, 'outbox-relay test', pino({ level: 'silent' }));
  const log = await open();
  t.teardown(log.close);
  await makeStream(log, { ...STREAM_DEFAULTS, maxBytes: 64 * 1024 ** 2 });
  let endFeeder = await startFeeder(database.url, open);
  t.teardown(() => endFeeder());
  const lines: string[] = [];
  return {
    database,
    nats,
    log,
    lines,
    variables: env.variables,
    endFeeder: () => endFeeder(),
    async startFeeder() {
      endFeeder = await startFeeder(database.url, open);
    },
    relay: (more: Environment = {}) =>
      startTestRelay(t, database.url, { ...env.variables, ...more }, (line) => lines.push(line)),
    async publish(...values: readonly unknown[]): Promise<string[]> {
      const { rows } = await database.query<{ id: string }>(
        "INSERT INTO outbox (channel, data) SELECT 'a', value FROM jsonb_array_elements($1::jsonb) RETURNING id",
        [JSON.stringify(values)],
      );
      return rows.map(({ id }) => id);
    },
  };
}

function readEnvironment(url: string) {
  return {
    variables: { NATS_URL: url, NATS_SECRET: SECRET, POLL_SECONDS: '0.2' },
    settings: {
      servers: url.split(','),
      credentialsFile: undefined,
      stream: 'outbox',
      secret: createSecretKey(Buffer.from(SECRET)),
    },
  };
}

async function untilReady(
  url: string,
  isReady: (answer: { status: number; codes: string[] }) => boolean,
): Promise<void> {
  for (const end = performance.now() + DEADLINE_MS; ; await delay(POLL_MS)) {
    const { status, body } = await request(url, '/readyz');
    const { reasons } = JSON.parse(body) as { reasons: { code: string }[] };
    const codes = reasons.map(({ code }) => code);
    if (isReady({ status, codes })) return;
    if (performance.now() > end) throw new Error(`/readyz says ${status} ${codes.join()}`);
  }
}

test('R3: a client of a relay on PostgreSQL goes on at one on NATS, and back, with the same cursor', async (t) => {
  const { database, relay, publish } = await setUp(t);
  const [onNats, onPostgres] = [await relay(), await startTestRelay(t, database.url)];
  const ids = await publish(...Array.from({ length: 20 }, (_, n) => n));
  const got: (string | undefined)[] = [];
  let cursor = 'earliest';
  for (const [turn, { url }] of [onPostgres, onNats, onPostgres, onNats].entries()) {
    const client = await openStream(t, `${url}/events/a`, { 'Last-Event-ID': cursor });
    ids.push(...(await publish(`turn ${turn}`)));
    const events = await client.untilEvents(turn === 0 ? 21 : 2);
    got.push(...events.map(({ id }) => id));
    cursor = client.lastEventId;
    client.close();
    // What it misses on its way.
    ids.push(...(await publish('away')));
  }
  t.deepEqual(got, ids.slice(0, -1));
});

test('what NATS is away for is delivered after, and the relay says so meanwhile; publishers notice nothing', async (t) => {
  const { nats, relay, publish } = await setUp(t);
  const { url } = await relay();
  await untilReady(url, ({ status }) => status === 200);
  const client = await openStream(t, `${url}/events/a`);
  await client.until(({ event }) => event === 'stream-open');
  const ids = await publish('before');
  await client.untilEvents(1);
  const [server] = nats.servers;
  await server.end('SIGKILL');
  ids.push(...(await publish('during')));
  await untilReady(url, ({ status, codes }) => status === 503 && codes.includes('not_listening'));
  await untilReady(url, ({ status, codes }) => status === 503 && codes.includes('no_feeder'));
  ids.push(...(await publish('during')));
  await server.start();
  await untilReady(url, ({ status }) => status === 200);
  ids.push(...(await publish('after')));
  const events = await client.untilEvents(ids.length);
  t.deepEqual(
    events.map(({ id }) => id),
    ids,
  );
});

test('R8: while no feeder is heard nothing stays in memory, nobody is told old news, and all is delivered after', async (t) => {
  const { database, relay, publish, endFeeder, startFeeder: begin } = await setUp(t);
  const { url, log } = await relay();
  const client = await openStream(t, `${url}/events/a`);
  await client.until(({ event }) => event === 'stream-open');
  const ids = await publish('old', 'other');
  await client.untilEvents(2);
  t.true(log.size.events > 0);
  await endFeeder();
  await untilReady(url, ({ status, codes }) => status === 503 && codes.includes('no_feeder'));
  while (log.size.events > 0) await delay(POLL_MS);
  await database.query(`UPDATE outbox SET data = '"redacted"' WHERE id = $1`, [ids[0]]);
  ids.push(...(await publish('new')));
  const late = await openStream(t, `${url}/events/a?last_event_id=earliest`);
  await begin();
  await untilReady(url, ({ status }) => status === 200);
  t.deepEqual(
    (await client.untilEvents(3)).map(({ id }) => id),
    ids,
  );
  t.deepEqual(
    (await late.untilEvents(3)).map(({ data }) => data),
    ['redacted', 'other', 'new'],
  );
});

test('R8: what was redacted comes from no window and no stream, for whoever comes after', async (t) => {
  const { database, relay, publish, log } = await setUp(t);
  const { url } = await relay();
  const ids = await publish(...Array.from({ length: 10 }, (_, n) => `old ${n}`));
  const client = await openStream(t, `${url}/events/a?last_event_id=earliest`);
  await client.untilEvents(10);
  for (const id of [ids[3], ids[9]]) {
    await database.query(`UPDATE outbox SET data = '"redacted"' WHERE id = $1`, [id]);
    const late = await openStream(t, `${url}/events/a?last_event_id=earliest`);
    const data = (await late.untilEvents(10)).map((event) => event.data);
    t.is(data[ids.indexOf(id ?? '')], 'redacted');
    // Another relay has it from the stream, if it is there.
    const other = await openStream(t, `${(await relay()).url}/events/a?last_event_id=earliest`);
    t.deepEqual(
      (await other.untilEvents(10)).map((event) => event.data),
      data,
    );
  }
  for (const end = performance.now() + DEADLINE_MS; ; await delay(POLL_MS)) {
    const entries = await log.read(0n);
    const bytes = entries
      .flatMap(({ entry }) => (entry?.kind === 'run' ? entry.events : []))
      .map(({ frame }) => String(frame));
    if (!bytes.some((text) => text.includes('old 3'))) break;
    if (performance.now() > end) t.fail('it is still in the stream');
  }
});

test('a message that no feeder has made is told of, and nothing of it is delivered', async (t) => {
  const { relay, publish, log, lines, nats } = await setUp(t);
  const { url } = await relay();
  const client = await openStream(t, `${url}/events/a`);
  await client.until(({ event }) => event === 'stream-open');
  const ids = await publish('one');
  await client.untilEvents(1);
  // Somebody without the secret, who has seen what runs are like.
  const forger = await openNatsLog(
    { servers: nats.url.split(','), credentialsFile: undefined, stream: 'outbox', secret: undefined },
    'outbox-relay test',
    pino({ level: 'silent' }),
  );
  t.teardown(forger.close);
  const { entry, sequence } = await log.tip();
  if (entry?.kind !== 'run') throw new Error('the newest entry is no run');
  const position = entry.last.position + 1n;
  const last = { position, id: '999' };
  const frame = Buffer.from('1a\r\nid: 999\ndata: "forged"\n\n\r\n');
  const event = { ...last, channel: 'a', createdAt: Date.now(), kind: 'text' as const, frame };
  await forger.append({ ...entry, prev: entry.last.position, last, events: [event] }, sequence);
  ids.push(...(await publish('two', 'three')));
  const events = await client.untilEvents(3);
  t.deepEqual(
    events.map(({ id, data }) => [id, data]),
    ids.map((id, n) => [id, ['one', 'two', 'three'][n]]),
  );
  t.true(lines.some((line) => line.includes('no feeder of ours has made it')));
});

test('R4: after a restore to an earlier point clients are told, and nothing of what was lost comes later', async (t) => {
  const { database, relay, publish } = await setUp(t);
  const { url } = await relay();
  const ids = await publish(...Array.from({ length: 10 }, (_, n) => n));
  const client = await openStream(t, `${url}/events/a?last_event_id=earliest`);
  await client.untilEvents(10);
  await database.withClient(async (restorer) => {
    await restorer.query('SET session_replication_role = replica');
    await restorer.query('DELETE FROM outbox WHERE id > $1', [ids[4]]);
    await restorer.query("SELECT setval('outbox_position_seq', (SELECT max(position) FROM outbox))");
    await restorer.query("SELECT setval(pg_get_serial_sequence('outbox', 'id'), 1000)");
  });
  await database.kill('outbox-relay%');
  const reset = await client.until(({ event }) => event === 'stream-reset');
  t.regex(reset.data ?? '', /"unknown"/);
  const after = await publish('after');
  await client.until(({ id }) => id === after[0]);
  const late = await openStream(t, `${url}/events/a?last_event_id=earliest`);
  t.deepEqual(
    (await late.untilEvents(6)).map(({ id }) => id),
    [...ids.slice(0, 5), ...after],
  );
});

test('whatever starts first, relay or feeder, all of it works in the end', async (t) => {
  const { relay, publish, endFeeder, startFeeder: begin } = await setUp(t);
  const ids = await publish('one');
  const first = await relay();
  await first.stop();
  await endFeeder();
  ids.push(...(await publish('two')));
  const starting = relay({ QUERY_TIMEOUT_SECONDS: '30' });
  await delay(500);
  await begin();
  const { url } = await starting;
  const client = await openStream(t, `${url}/events/a?last_event_id=earliest`);
  ids.push(...(await publish('three')));
  t.deepEqual(
    (await client.untilEvents(3)).map(({ id }) => id),
    ids,
  );
});

test('a relay that reads from NATS asks the database which span published an event', async (t) => {
  const { database, variables } = await setUp(t);
  const collector = await startCollector(t);
  const process = await startRelayProcess(t, database.url, { ...variables, ...tracingTo(collector) });
  const stream = await openStream(t, `${process.url}/events/a`);
  await stream.until(({ event }) => event === 'stream-open');
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  await database.query("INSERT INTO outbox (channel, traceparent) VALUES ('a', $1)", [
    `00-${traceId}-b7ad6b7169203331-01`,
  ]);
  const spans = await collector.received(3);
  t.deepEqual([...new Set(spans.map((span) => span.traceId))], [traceId]);
  t.is(spans.find(({ name }) => name === 'outbox.delivered')?.attributes['outbox.streams'], '1');
  t.is(await process.end('SIGTERM'), 0);
});

test('the console of a relay on NATS has the table, its connections, where an event went, and what is wrong', async (t) => {
  const { database, relay, publish, lines, endFeeder } = await setUp(t);
  const { url, stop } = await relay({ CONSOLE: 'true', CONSOLE_PASSWORD: PASSWORD });
  const client = await openStream(t, `${url}/events/a`);
  await client.until(({ event }) => event === 'stream-open');
  const ids = await publish('one', 'two');
  await client.untilEvents(2);

  const site = consoleAt(url, { database, log: lines, stop });
  const { events } = await site.api<{ events: { id: string; data: string }[] }>('log?channel=a');
  t.deepEqual(
    events.map(({ id, data }) => [id, data]),
    [
      [ids[1], '"two"'],
      [ids[0], '"one"'],
    ],
  );
  t.like(await site.api('connections'), { total: 1, connections: [{ cursor: ids[1] }] });
  t.like(await site.api(`events/${ids[1] ?? ''}`), { id: ids[1], delivered: { open: 1, passed: 1, behind: 0 } });
  const { findings } = await site.api<{ findings: { title: string }[] }>('doctor');
  for (const check of ['triggers', 'stream'])
    t.true(
      findings.some(({ title }) => title.startsWith(`${check}: `)),
      check,
    );

  await endFeeder();
  await untilReady(url, ({ codes }) => codes.includes('no_feeder'));
  const live = await openStream(t, `${url}/console/api/live?views=overview`, { cookie: await site.signIn() });
  await live.until(({ data }) => /"no_feeder"/.test(data ?? ''));
});
