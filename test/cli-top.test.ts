/**
 * `top`: figures of two looks at metrics, on terminals of any size, and a relay that is really at work.
 */
import test from 'ava';
import type { RelayConnections } from '../src/cli/relay/connections.js';
import { readMetrics } from '../src/cli/relay/metrics-text.js';
import { crowdLines } from '../src/cli/top/crowd.js';
import { figuresOf } from '../src/cli/top/figures.js';
import { topLines } from '../src/cli/top/view.js';
import { startCommand } from './support/cli.js';
import { runCommand } from './support/command.js';
import { createDatabase } from './support/database.js';
import { startRelayProcess } from './support/relay-process.js';
import { startTestRelay } from './support/relay.js';
import { request } from './support/request.js';
import { openStream } from './support/stream.js';

const same = (text: string) => text;
const NO_COLOURS = { bold: same, dim: same, red: same, green: same, yellow: same, cyan: same };

const metrics = (lines: Record<string, number>) =>
  readMetrics(
    Object.entries(lines)
      .map(([name, value]) => `${name} ${value}`)
      .join('\n'),
  );

test('metrics are read with their labels, and what is no sample is passed by', (t) => {
  const read = readMetrics(
    '# HELP a b\n# TYPE a gauge\na 1\nb{x="1",y="a \\"b\\" \\\\ \\n}"} 2.5e3 1700000000\nc{le="+Inf"} +Inf\n\n{} 3\nd\n<html>\n',
  );
  t.deepEqual(
    [...read],
    [
      ['a', [{ labels: {}, value: 1 }]],
      ['b', [{ labels: { x: '1', y: 'a "b" \\ \n}' }, value: 2500 }]],
      ['c', [{ labels: { le: '+Inf' }, value: Infinity }]],
    ],
  );
});

const BEFORE = {
  outbox_relay_events_sent_total: 1000,
  outbox_relay_connections_opened_total: 10,
  process_cpu_seconds_total: 5,
  outbox_relay_delivery_seconds_count: 100,
  'outbox_relay_delivery_seconds_bucket{le="0.01"}': 100,
  'outbox_relay_delivery_seconds_bucket{le="+Inf"}': 100,
  'outbox_relay_refusals_total{code="unauthorized"}': 3,
};
const AFTER = {
  ...BEFORE,
  outbox_relay_events_sent_total: 3000,
  process_cpu_seconds_total: 6,
  outbox_relay_delivery_seconds_count: 200,
  'outbox_relay_delivery_seconds_bucket{le="0.01"}': 160,
  'outbox_relay_delivery_seconds_bucket{le="+Inf"}': 200,
  'outbox_relay_refusals_total{code="unauthorized"}': 5,
  'outbox_relay_refusals_total{code="forbidden"}': 1,
};

test('figures are of the time between two looks, and say nothing across a restart', (t) => {
  const figures = figuresOf({ at: 0, metrics: metrics(BEFORE) }, { at: 2000, metrics: metrics(AFTER) });
  t.like(figures, { seconds: 2, deliveriesPerSecond: 1000, eventsPerSecond: 50, cpu: 0.5 });
  t.deepEqual(figures.deliverySeconds, { p50: 0.01, p99: Infinity });
  t.deepEqual(figures.refusals, { unauthorized: { total: 5, recent: 2 }, forbidden: { total: 1, recent: 1 } });
  const restarted = figuresOf({ at: 0, metrics: metrics(AFTER) }, { at: 2000, metrics: metrics(BEFORE) });
  t.like(restarted, { seconds: 0, deliveriesPerSecond: undefined, deliverySeconds: undefined });
  t.deepEqual(restarted.refusals, { unauthorized: { total: 3, recent: 0 } });
});

const CROWD: RelayConnections = {
  total: 1234,
  channelsTotal: 2000,
  channels: Array.from({ length: 10 }, (_, n) => ({
    channel: `channel:${n}:${'x'.repeat(50)}`,
    connections: 1000 - n,
    lagging: n,
  })),
  connections: Array.from({ length: 10 }, (_, n) => ({
    ...{
      id: `c${n}`,
      address: '203.0.113.x',
      channels: ['a\u001b[2J', 'b:*'],
      moreChannels: 7,
      state: 'stalled' as const,
    },
    ...{ lagEvents: 50_000 - n, ageSeconds: 60, waitingBytes: 2048 },
  })),
};

test('top shows as many channels and slow connections as there are rows for, and no character that moves the cursor', (t) => {
  for (const rows of [0, 1, 2, 3, 8, 12, 22, 100]) {
    const lines = crowdLines(CROWD, rows);
    t.is(lines.length, Math.min(rows, 22));
    t.false(lines.some((line) => /\p{Cc}/u.test(line)));
  }
  const count = (lines: string[], mark: RegExp) => lines.filter((line) => mark.test(line)).length;
  const half = crowdLines(CROWD, 12);
  t.deepEqual([count(half, /^ {2}channel:/), count(half, /^ {2}c\d /)], [5, 5]);
  const few = { ...CROWD, channels: CROWD.channels.slice(0, 1) };
  t.deepEqual(crowdLines(few, 12).length, 12, 'what the channels leave is for connections');
  t.deepEqual(crowdLines({ ...CROWD, connections: [] }, 12).at(-1), 'slowest       none is behind');
  const [first] = crowdLines(CROWD, 100).slice(12);
  t.is(first, '  c0     50,000 behind  stalled  2.0 KiB waiting  203.0.113.x  open 60 s  a\\u001b[2J b:* 7 more');
});

test('top fits a terminal of any size, the most important lines first', (t) => {
  const figures = figuresOf({ at: 0, metrics: metrics(BEFORE) }, { at: 2000, metrics: metrics(AFTER) });
  const shown = { url: 'http://127.0.0.1:9100', figures, troubleSeconds: 3, readiness: undefined, crowd: CROWD };
  for (const trouble of [undefined, 'No relay answers.']) {
    for (const [columns, rows] of [
      [1, 1],
      [20, 5],
      [80, 24],
      [300, 100],
    ] as const) {
      const lines = topLines({ ...shown, trouble }, NO_COLOURS, columns, rows);
      t.true(lines.length <= rows && lines.every((line) => line.length <= columns), `${columns} x ${rows}`);
    }
  }
  const text = topLines({ ...shown, trouble: undefined }, NO_COLOURS, 80, 24).join('\n');
  t.regex(text, /^deliveries +1,000\/s/m);
  t.regex(text, /^refused +unauthorized 5 \(\+2\) {2}forbidden 1 \(\+1\)$/m);
  t.regex(topLines({ ...shown, trouble: 'No relay answers.' }, NO_COLOURS, 80, 24).join('\n'), /^NO ANSWER for 3 s/m);
});

test('top --once says of a relay what it does, and top fails where there are no metrics', async (t) => {
  const { url, query } = await createDatabase(t);
  const relay = await startTestRelay(t, url, { METRICS_PORT: '0', PUBLIC_CHANNELS: 'a' });
  const stream = await openStream(t, `${relay.url}/events/a`);
  await stream.until(({ event }) => event === 'stream-open');
  await request(relay.url, '/events/b');
  await query("INSERT INTO outbox (channel) VALUES ('a')");
  await stream.untilEvents(1);
  const { code, output } = await runCommand(['top', '--once', '--json', '--url', relay.metricsUrl ?? '']);
  t.is(code, 0, output);
  t.like(JSON.parse(output), {
    connections: { live: 1, catching_up: 0, stalled: 0 },
    refusals: { forbidden: { total: 1, recent: 0 } },
    listening: true,
    channelsTotal: 1,
    channels: [{ channel: 'a', connections: 1, lagging: 0 }],
  });
  const text = await runCommand(['top', '--once', '--url', relay.metricsUrl ?? '']);
  t.regex(text.output, /^channels +1 asked for\n {2}a +1\nslowest +none is behind$/m);
  t.regex((await runCommand(['top', '--url', relay.url])).output, /refused \(404\)/);
  t.regex((await runCommand(['top'])).output, /^Where are the metrics\? Set METRICS_PORT/);
  t.regex((await runCommand(['top', '--url', 'http://127.0.0.1:9'])).output, /^No relay answers at/);
});

test('top goes on by itself after its relay was killed and started again', async (t) => {
  const { url } = await createDatabase(t);
  const relay = await startRelayProcess(t, url, { PUBLIC_METRICS: 'true' });
  const top = startCommand(t, ['top', '--json', '--url', relay.url]);
  await top.untilLines(1);
  await relay.end('SIGKILL');
  await top.until('"trouble":"No relay answers');
  const { length } = top.out;
  await relay.start();
  await top.until(/"trouble":"No relay answers[^]*"readiness":\{"ready":true,"reasons":\[\]\},"seconds":0/);
  await top.until(/"seconds":[1-9][^]*"seconds":0[^]*"seconds":[1-9]/);
  t.true(top.out.length > length);
  top.signal('SIGINT');
  t.is(await top.ended, 0);
});
