/**
 * Tracing: spans of a real relay, in a process of its own, as a collector gets them. One after the
 * other, as many processes at once would keep each other from starting.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { startCollector, tracingTo, type Span } from './support/collector.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { startRelayProcess, type RelayProcess } from './support/relay-process.js';
import { runCommand } from './support/command.js';
import { readPages } from './support/docs.js';
import { freePort } from './support/port.js';
import { startProxy } from './support/proxy.js';
import { request } from './support/request.js';
import { openStream } from './support/stream.js';
import { startServer } from './support/http-server.js';

/** What has to be absent by then is taken for absent. */
const LEEWAY_MS = 1500;

/** How often it is asked for a state of which there is no signal. */
const POLL_MS = 50;

interface Parent {
  readonly traceId: string;
  readonly spanId: string;
  readonly traceparent: string;
}

function newParent(flags = '01'): Parent {
  const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-${flags}` };
}

async function setUp(t: ExecutionContext, env: Readonly<Record<string, string>> = {}) {
  const database = await createDatabase(t);
  const collector = await startCollector(t);
  const lines: string[] = [];
  const relay = await startRelayProcess(t, database.url, { ...tracingTo(collector), ...env }, (line) =>
    lines.push(line),
  );
  const publish = (channel: string, traceparent: string | null) =>
    database.query('INSERT INTO outbox (channel, data, traceparent) VALUES ($1, to_jsonb(1), $2)', [
      channel,
      traceparent,
    ]);
  return { database, collector, relay, lines, publish };
}

/** Traces are read in these, and so are replays, which nobody asks for here. */
async function historySessions(database: TestDatabase): Promise<string[]> {
  const { rows } = await database.query<{ application_name: string }>(
    "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '% history'",
  );
  return rows.map(({ application_name: name }) => name);
}

/** Of how many events it could not be read whether they have a trace. */
async function missedOf({ metricsUrl = '' }: RelayProcess): Promise<number> {
  const { body } = await request(metricsUrl, '/metrics');
  return Number(/^outbox_relay_traces_missed_total (\d+)$/m.exec(body)?.[1]);
}

/** What a log says of tracing, from warnings on. */
function complaints(lines: readonly string[]): string[] {
  return lines
    .map((line) => JSON.parse(line) as { level: number; msg: string })
    .filter(({ level, msg }) => level > 30 && /trace|span/.test(msg))
    .map(({ msg }) => msg);
}

/** Milliseconds from one time to another, in decimal nanoseconds. */
const between = (from: string, to: string) => Number(BigInt(to) - BigInt(from)) / 1e6;

test.serial("what becomes of an event is told in spans under its publisher's", async (t) => {
  const { database, collector, relay, publish } = await setUp(t, { OTEL_SERVICE_NAME: 'shop-relay' });
  const streams = await Promise.all(['a', 'a', 'b'].map((channel) => openStream(t, `${relay.url}/events/${channel}`)));
  for (const stream of streams) await stream.until(({ event }) => event === 'stream-open');
  const parent = newParent();
  const before = BigInt(Date.now() - 1) * 1_000_000n;
  await publish('a', parent.traceparent);
  const spans = [...(await collector.received(3))].sort((a, b) => (a.name < b.name ? -1 : 1));
  t.deepEqual(
    spans.map(({ name }) => name),
    ['outbox.delivered', 'outbox.placed', 'outbox.read'],
  );
  for (const span of spans) {
    t.is(span.traceId, parent.traceId);
    t.is(span.parentSpanId, parent.spanId);
    t.is(span.resource['service.name'], 'shop-relay');
    t.is(span.attributes['messaging.system'], 'outbox_relay');
    t.is(span.attributes['messaging.destination.name'], 'a');
    t.is(span.attributes['messaging.message.id'], '1');
    t.true(between(span.startTimeUnixNano, span.endTimeUnixNano) >= 0, span.name);
    t.true(BigInt(span.startTimeUnixNano) >= before, span.name);
    t.true(BigInt(span.endTimeUnixNano) <= BigInt(Date.now() + 1) * 1_000_000n, span.name);
  }
  const [delivered, placed, read] = spans as [Span, Span, Span];
  t.deepEqual(await historySessions(database), ['outbox-relay history']);
  t.is(delivered.attributes['outbox.streams'], '2');
  t.is(placed.endTimeUnixNano, read.startTimeUnixNano);
  t.true(between(read.endTimeUnixNano, delivered.startTimeUnixNano) >= 0);
});

test.serial('an event without a trace has no span, nor one whose publisher was not sampled', async (t) => {
  const { collector, relay, publish } = await setUp(t);
  const stream = await openStream(t, `${relay.url}/events/a`);
  await publish('a', null);
  await publish('a', newParent('00').traceparent);
  const parent = newParent();
  await publish('a', parent.traceparent);
  await stream.untilEvents(3);
  await collector.received(3);
  await delay(LEEWAY_MS);
  t.deepEqual([...new Set(collector.spans.map(({ traceId }) => traceId))], [parent.traceId]);
});

test.serial('a traceparent of another form is passed by, and its event delivered', async (t) => {
  const { database, collector, relay, publish, lines } = await setUp(t);
  const { traceId, spanId, traceparent } = newParent();
  const stream = await openStream(t, `${relay.url}/events/a`);
  const hostile = [
    '',
    'x',
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `ff-${traceId}-${spanId}-01`,
    `00-${traceId.toUpperCase()}-${spanId.toUpperCase()}-01`.replace(/\d/g, 'A'),
    `00-${traceId}-${spanId}-0g`,
    `${traceparent}\n`,
    `${traceparent}-extra`,
    ` ${traceparent.slice(1)}`,
    "'; DROP TABLE outbox; --",
    '😀'.repeat(13),
    '0'.repeat(55),
    'x'.repeat(1_000_000),
  ];
  for (const text of hostile) await publish('a', text);
  await publish('a', traceparent);
  await stream.untilEvents(hostile.length + 1);
  await collector.received(3);
  await delay(LEEWAY_MS);
  t.deepEqual(
    collector.spans.map((span) => span.attributes['messaging.message.id']),
    Array(3).fill(String(hostile.length + 1)),
  );
  t.deepEqual(complaints(lines), []);
  t.is((await database.query('SELECT FROM outbox')).rowCount, hostile.length + 1);
});

test.serial('while traces cannot be read events are delivered, it is told once, and counted', async (t) => {
  const database = await createDatabase(t);
  const collector = await startCollector(t);
  const proxy = await startProxy(t, database.url);
  const lines: string[] = [];
  const env = {
    ...tracingTo(collector),
    LISTEN_DATABASE_URL: database.url,
    METRICS_PORT: '0',
    QUERY_TIMEOUT_SECONDS: '1',
  };
  const relay = await startRelayProcess(t, proxy.url, env, (line) => lines.push(line));
  const stream = await openStream(t, `${relay.url}/events/a`);
  await stream.until(({ event }) => event === 'stream-open');
  const publish = () =>
    database.query("INSERT INTO outbox (channel, data, traceparent) VALUES ('a', to_jsonb(1), $1)", [
      newParent().traceparent,
    ]);
  proxy.blackhole();
  let count = 0;
  for (let sent = 1; !(count > 0); sent++) {
    await publish();
    await stream.untilEvents(sent);
    await delay(POLL_MS);
    count = await missedOf(relay);
  }
  t.deepEqual(collector.spans, []);
  t.is(complaints(lines).length, 1);
  t.regex(complaints(lines)[0] ?? '', /traces of events cannot be read/);
  proxy.heal();
  while (collector.spans.length === 0) {
    await publish();
    await delay(POLL_MS);
  }
  t.true(lines.some((line) => line.includes('traces of events can be read again')));
  t.is(complaints(lines).length, 1);
});

test.serial('events that were published together have one read, and each the streams that it was for', async (t) => {
  const { database, collector, relay } = await setUp(t);
  const streams = await Promise.all(
    ['a', 'a', 'b?event=x', '*', 'none'].map((channel) => openStream(t, `${relay.url}/events/${channel}`)),
  );
  for (const stream of streams) await stream.until(({ event }) => event === 'stream-open');
  const parents = [newParent(), newParent(), newParent()];
  // Of these the last two have times that are no time, or are yet to come.
  await database.query(
    `INSERT INTO outbox (channel, event, traceparent, created_at)
     VALUES ('a', 'x', $1, now()), ('b', 'y', $2, 'infinity'), ('b', 'x', $3, now() + interval '1 day')`,
    parents.map(({ traceparent }) => traceparent),
  );
  const spans = await collector.received(9);
  for (const [index, { traceId }] of parents.entries()) {
    const own = (name: string) => spans.find((span) => span.traceId === traceId && span.name === `outbox.${name}`);
    t.is(own('delivered')?.attributes['outbox.streams'], ['3', '1', '2'][index]);
    t.is(own('read')?.attributes['messaging.batch.message_count'], '3');
    const { startTimeUnixNano = '', endTimeUnixNano = '' } = own('placed') ?? {};
    if (index > 0) t.is(startTimeUnixNano, endTimeUnixNano);
  }
});

test.serial('what more than 5,000 events wait to be asked for is counted, and all are delivered', async (t) => {
  const database = await createDatabase(t);
  const proxy = await startProxy(t, database.url);
  const env = { ...tracingTo({ url: 'http://127.0.0.1:9' }), LISTEN_DATABASE_URL: database.url, METRICS_PORT: '0' };
  const relay = await startRelayProcess(t, proxy.url, env, () => undefined);
  const stream = await openStream(t, `${relay.url}/events/a`);
  await stream.until(({ event }) => event === 'stream-open');
  proxy.blackhole();
  await database.query(
    "INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(n) FROM generate_series(1, 12000) AS n",
  );
  await stream.untilEvents(12_000);
  let missed = 0;
  for (; missed < 6000; await delay(POLL_MS)) missed = await missedOf(relay);
  proxy.heal();
  t.true(missed <= 12_000, String(missed));
});

test.serial('while the collector is away events are delivered, and it is told once', async (t) => {
  const port = await freePort();
  const collector = { url: `http://127.0.0.1:${port}` };
  const database = await createDatabase(t);
  const lines: string[] = [];
  const env = { ...tracingTo(collector), OTEL_EXPORTER_OTLP_TIMEOUT: '100' };
  const relay = await startRelayProcess(t, database.url, env, (line) => lines.push(line));
  const stream = await openStream(t, `${relay.url}/events/a`);
  await stream.until(({ event }) => event === 'stream-open');
  const publish = () =>
    database.query("INSERT INTO outbox (channel, data, traceparent) VALUES ('a', to_jsonb(1), $1)", [
      newParent().traceparent,
    ]);
  for (let sent = 1; sent <= 10 || complaints(lines).length === 0; sent++) {
    await publish();
    await stream.untilEvents(sent);
    await delay(POLL_MS);
  }
  t.is(complaints(lines).length, 1);
  t.regex(complaints(lines)[0] ?? '', /spans cannot be sent to the collector/);
  const back = await startCollector(t, { port });
  while (back.spans.length === 0) {
    await publish();
    await delay(POLL_MS);
  }
  while (!lines.some((line) => line.includes('spans are sent to the collector again'))) await delay(POLL_MS);
  t.is(complaints(lines).length, 1);
});

test.serial('a relay that stops sends what spans there are', async (t) => {
  const { collector, relay, publish } = await setUp(t, { OTEL_BSP_SCHEDULE_DELAY: '3600000' });
  const stream = await openStream(t, `${relay.url}/events/a`);
  await publish('a', newParent().traceparent);
  await stream.untilEvents(1);
  t.is(await relay.end('SIGTERM'), 0);
  t.is(collector.spans.length, 3);
});

test.serial('a relay that stops does not wait for a collector that does not answer', async (t) => {
  const database = await createDatabase(t);
  const silent = await startServer(t, () => undefined);
  const env = { ...tracingTo(silent), OTEL_EXPORTER_OTLP_TIMEOUT: '600000', SHUTDOWN_SECONDS: '0' };
  const relay = await startRelayProcess(t, database.url, env);
  await database.query("INSERT INTO outbox (channel, traceparent) VALUES ('a', $1)", [newParent().traceparent]);
  await silent.requested(1);
  t.is(await relay.end('SIGTERM'), 0);
});

test.serial('spans go out as protobuf by default', async (t) => {
  const { collector, publish } = await setUp(t, { OTEL_EXPORTER_OTLP_PROTOCOL: '' });
  const parent = newParent();
  await publish('a', parent.traceparent);
  while (collector.bodies.length === 0) await delay(POLL_MS);
  const [body] = collector.bodies;
  t.is(body?.type, 'application/x-protobuf');
  t.true(body?.bytes.includes(Buffer.from(parent.traceId, 'hex')));
  t.true(body?.bytes.includes('outbox.placed'));
});

/** A module that has all of OpenTelemetry's look as if it were not installed. */
const WITHOUT_SDK = (() => {
  const dataUrl = (code: string) => `data:text/javascript;base64,${Buffer.from(code).toString('base64')}`;
  const hooks = dataUrl(`export async function resolve(name, context, next) {
    if (name.startsWith('@opentelemetry/')) throw Object.assign(new Error('not installed'), { code: 'ERR_MODULE_NOT_FOUND' });
    return next(name, context);
  }`);
  return { NODE_OPTIONS: `--import=${dataUrl(`import { register } from 'node:module'; register('${hooks}');`)}` };
})();

for (const off of [
  { TRACING: '' },
  { TRACING: 'true', OTEL_SDK_DISABLED: 'true' },
  { TRACING: 'true', OTEL_TRACES_EXPORTER: 'none' },
]) {
  test.serial(
    `off, as by ${JSON.stringify(off)}, no module of OpenTelemetry's is loaded and no trace is read`,
    async (t) => {
      const { database, collector, relay, publish } = await setUp(t, { ...off, ...WITHOUT_SDK });
      const stream = await openStream(t, `${relay.url}/events/a`);
      await publish('a', newParent().traceparent);
      await stream.untilEvents(1);
      await delay(LEEWAY_MS);
      t.deepEqual(await historySessions(database), []);
      t.deepEqual(collector.bodies, []);
    },
  );
}

test.serial("with TRACING and without OpenTelemetry's packages it says what to install", async (t) => {
  const { url } = await createDatabase(t);
  const env = { DATABASE_URL: url, PUBLIC_CHANNELS: '*', PORT: '0', TRACING: 'true', ...WITHOUT_SDK };
  const { code, output } = await runCommand([], env);
  t.is(code, 1);
  t.regex(
    output,
    /OpenTelemetry's packages are not installed\. Run: npm install @opentelemetry\/api @opentelemetry\/core/,
  );
});

test.serial("what is wrong with OpenTelemetry's variables is said at the start, without secrets", async (t) => {
  const { url } = await createDatabase(t);
  const wrong = {
    OTEL_TRACES_EXPORTER: 'zipkin',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:p4ssword',
  };
  const env = { DATABASE_URL: url, PUBLIC_CHANNELS: '*', PORT: '0', TRACING: 'true', ...wrong };
  const { code, output } = await runCommand([], env);
  t.is(code, 1);
  t.is(
    output.slice(output.indexOf('TRACING')),
    `TRACING is on, and these are not valid:
  OTEL_TRACES_EXPORTER="zipkin": expected otlp or none
  OTEL_EXPORTER_OTLP_PROTOCOL="grpc": expected http/protobuf or http/json; collectors take both on one port, 4318 by default
  OTEL_EXPORTER_OTLP_ENDPOINT=(not shown): expected the address of a collector, as in http://localhost:4318
`,
  );
});

test.serial('the trace of docs/tracing.md arrives, published as it says there', async (t) => {
  const { database, collector, relay } = await setUp(t);
  const lines = (readPages().get('docs/tracing.md')?.blocks ?? []).flatMap(({ code }) => code.split('\n'));
  const example = lines.find((line) => line.includes('outbox-relay publish ')) ?? '';
  const [, channel = '', data = '', traceparent = ''] = /publish (\S+) '(.*)' --traceparent (\S+)$/.exec(example) ?? [];
  const stream = await openStream(t, `${relay.url}/events/${channel}`);
  const { output } = await runCommand(['publish', channel, data, '--traceparent', traceparent], {
    DATABASE_URL: database.url,
  });
  t.is(output, `Published 1 to ${channel}.\n`);
  await stream.untilEvents(1);
  for (const { traceId } of await collector.received(3)) t.true(traceparent.includes(`-${traceId}-`));
  const doctor = await runCommand(['doctor'], { DATABASE_URL: database.url, ...tracingTo(collector) });
  t.regex(
    doctor.output,
    new RegExp(`^ok +tracing +spans go to ${collector.url}/v1/traces, which answers \\(200\\)$`, 'm'),
  );
  await collector.close();
  const alone = await runCommand(['doctor'], { DATABASE_URL: database.url, ...tracingTo(collector) });
  t.regex(alone.output, /^WARNING +tracing +no collector answers at /m);
});

const OPEN_METRICS =
  'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';

for (const WORKERS of ['1', '2']) {
  test.serial(
    `of ${WORKERS} workers, a scraper that takes OpenMetrics gets a trace beside the time that it took`,
    async (t) => {
      const { collector, relay, publish } = await setUp(t, { METRICS_PORT: '0', WORKERS });
      const scrape = (Accept: string) => request(relay.metricsUrl ?? '', '/metrics', { headers: { Accept } });
      const parent = newParent();
      await publish('a', parent.traceparent);
      await collector.received(3 * Number(WORKERS));
      const exemplar =
        /^outbox_relay_delivery_seconds_bucket\{le="([\d.]+|\+Inf)"\} (\d+) # \{trace_id="(\w+)"\} ([\d.e-]+) ([\d.]+)$/m;
      for (;;) {
        const { body, headers } = await scrape(OPEN_METRICS);
        const [, le, count, traceId, seconds, at] = exemplar.exec(body) ?? [];
        if (traceId === undefined) {
          await delay(POLL_MS);
          continue;
        }
        t.is(traceId, parent.traceId);
        t.true(Number(seconds) <= Number(le) && Number(count) >= 1, `${seconds ?? ''} in ${le ?? ''}`);
        t.true(Math.abs(Number(at) - Date.now() / 1000) < 60);
        t.regex(String(headers['content-type']), /^application\/openmetrics-text; version=1\.0\.0/);
        t.regex(String(headers.vary), /Accept/);
        t.true(body.endsWith('\n# EOF\n'));
        t.regex(body, /^# TYPE outbox_relay_traced_events counter$/m);
        t.regex(body, new RegExp(`^outbox_relay_traced_events_total ${WORKERS}$`, 'm'));
        t.notRegex(body, /^$\n/m);
        break;
      }
      for (const accept of ['', '*/*', 'text/plain', 'text/plain;version=0.0.4']) {
        const { body, headers } = await scrape(accept);
        t.regex(String(headers['content-type']), /^text\/plain; version=0\.0\.4/, accept);
        t.notRegex(body, /trace_id|# EOF/);
        t.regex(body, /^# TYPE outbox_relay_traced_events_total counter$/m);
      }
    },
  );
}

test.serial('without tracing there is no other form of metrics', async (t) => {
  const { relay } = await setUp(t, { METRICS_PORT: '0', TRACING: '' });
  const { headers } = await request(relay.metricsUrl ?? '', '/metrics', { headers: { Accept: OPEN_METRICS } });
  t.regex(String(headers['content-type']), /^text\/plain/);
  t.is(headers.vary, undefined);
});
