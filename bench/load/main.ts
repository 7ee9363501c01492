/**
 * `npm run bench:load`: drives any SSE server over HTTP/1.1, with any publisher, and says what arrived, how late, and what it cost.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { cpuSeconds, openFilesLimit, residentBytes } from '../usage.js';
import { startBareWriter, type BareWriter } from './bare.js';
import { createGenerator, type Report } from './generator.js';

const USAGE = `Usage: npm run bench:load -- --url URL --publish COMMAND [options]
       npm run bench:load -- --bare [options]

Opens streams, starts a publisher once all are open, and checks, counts and times what arrives.

  --url URL            an SSE endpoint (http only); {n} stands for the number of the connection, from 0 on
  --connections N      how many (default 100)
  --header "NAME: V"   sent with each request; may be given several times, and contain {n}
  --ramp N             connections opened in a second (default 1000)
  --sources N          connect from 127.0.0.1 … 127.0.0.N by turns: one address has no more than 28,000 ports
  --publish COMMAND    run in a shell once all streams are open, and waited for
  --expect N           events that each connection should get (default: as many as the one that got most)
  --lanes N            channels that each connection gets (default 1): each has a sequence of its own
  --settle SECONDS     pause before the publisher starts, and how long the last event may be awaited (default 2)
  --watch PID[,PID…]   the server's processes: their CPU time and memory are measured as well
  --json FILE          writes the result there, too

  --bare               measures the generator: against a bare writer of our own, which is its own publisher, with
  --rate N --burst N --events N --size N     events in a second (50), in one write (1), altogether (500); bytes of each (300)

An event counts when its data contains  @@LANE:SEQUENCE:MICROSECONDS@@  with a number of its channel, from 0 on, a number
counted from 1 in that channel, and the time of sending since 1970. For the outbox there is a publisher:

  DATABASE_URL=… node dist/bench/load/publish.js --channel orders --rate 50 --burst 1 --events 500 --size 300 --lanes 1

It ends with 1 where an event was lost, came twice or out of order, or a stream failed or ended.`;

/** A generator that is busy for more of its time may be what is measured. */
const BUSY = 0.8;
const POLL = 20;

const { values } = parseArgs({
  options: {
    help: { type: 'boolean', short: 'h' },
    url: { type: 'string' },
    connections: { type: 'string', default: '100' },
    header: { type: 'string', multiple: true, default: [] },
    ramp: { type: 'string', default: '1000' },
    sources: { type: 'string', default: '0' },
    publish: { type: 'string' },
    expect: { type: 'string' },
    lanes: { type: 'string', default: '1' },
    settle: { type: 'string', default: '2' },
    watch: { type: 'string', default: '' },
    json: { type: 'string' },
    bare: { type: 'boolean', default: false },
    rate: { type: 'string', default: '50' },
    burst: { type: 'string', default: '1' },
    events: { type: 'string', default: '500' },
    size: { type: 'string', default: '300' },
  },
});

if (values.help || (!values.bare && (values.url === undefined || values.publish === undefined))) {
  console.log(USAGE);
  process.exit(values.help ? 0 : 2);
}
const connections = Number(values.connections);
const limit = openFilesLimit();
if (connections + 50 > limit) {
  console.error(`${connections} connections need as many open files, and ${limit} are allowed: see ulimit -n.`);
  process.exit(2);
}
const bare = values.bare ? await startBareWriter() : undefined;
const url = bare?.url ?? values.url ?? '';
const watched = bare ? [bare.pid] : values.watch.split(',').filter(Boolean).map(Number);
const generator = createGenerator({
  url,
  connections,
  headers: values.header,
  ramp: Number(values.ramp),
  lanes: Number(values.lanes),
  sources: Number(values.sources),
});
const settle = Number(values.settle) * 1000;
try {
  await generator.open();
  await delay(settle);
  generator.reset();
  const before = cpuSeconds(...watched);
  await publish(bare);
  await arrived();
  const cpu = cpuSeconds(...watched) - before;
  const report = generator.report();
  const expected = Number(values.expect ?? (bare ? values.events : report.most)) * connections;
  const missing = expected - report.deliveries + report.doubles;
  const server =
    watched.length === 0
      ? undefined
      : {
          cpuSeconds: cpu,
          perCpuSecond: report.deliveries / cpu,
          residentMebibytes: watched.reduce((sum, pid) => sum + residentBytes(pid), 0) / 1024 ** 2,
        };
  print(report, expected, missing, server);
  if (values.json !== undefined) {
    await writeFile(values.json, `${JSON.stringify({ url, expected, missing, ...report, server }, undefined, 2)}\n`);
  }
  const { failed, ended } = report.connections;
  if (missing + report.gaps + report.doubles + report.disorder + failed + ended > 0) process.exitCode = 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  generator.close();
  await bare?.stop();
}

async function publish(writer: BareWriter | undefined): Promise<void> {
  if (writer) {
    const { events, burst, rate, size } = values;
    return writer.write({ events: Number(events), burst: Number(burst), rate: Number(rate), size: Number(size) });
  }
  const child = spawn(values.publish ?? '', { shell: true, stdio: ['ignore', 'inherit', 'inherit'] });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`the publisher ended with ${code ?? 'a signal'}`);
}

/** Resolves when all that is expected has come, or nothing more has for as long as it may take. */
async function arrived(): Promise<void> {
  const expected = values.expect === undefined ? Infinity : Number(values.expect) * connections;
  let [seen, since] = [-1, Date.now()];
  while (generator.deliveries < expected && Date.now() - since < settle) {
    if (generator.deliveries !== seen) [seen, since] = [generator.deliveries, Date.now()];
    await delay(POLL);
  }
}

function print(
  report: Report,
  expected: number,
  missing: number,
  server: { cpuSeconds: number; perCpuSecond: number; residentMebibytes: number } | undefined,
): void {
  const { latency, generator: own } = report;
  const line = (name: string, ...cells: string[]) => console.log(`${name.padEnd(13)} ${cells.join('   ')}`);
  const { asked, open, failed, ended } = report.connections;
  line('connections', `${open} of ${asked} open`, `${failed} failed`, `${ended} ended`);
  line('deliveries', `${report.deliveries} of ${expected}`, `${report.perSecond.toFixed(0)}/s`);
  line(
    'wrong',
    `${missing} missing`,
    `${report.gaps} gaps`,
    `${report.doubles} doubles`,
    `${report.disorder} out of order`,
  );
  line(
    'latency (ms)',
    ...[`p50 ${latency.p50.toFixed(2)}`, `p99 ${latency.p99.toFixed(2)}`, `p99.9 ${latency.p999.toFixed(2)}`],
  );
  if (server) {
    const resident = `${server.residentMebibytes.toFixed(1)} MiB resident`;
    line(
      'server',
      `${server.cpuSeconds.toFixed(2)} CPU s`,
      `${server.perCpuSecond.toFixed(0)} deliveries/CPU s`,
      resident,
    );
  }
  const { p50, p99, max } = own.loopDelay;
  const delays = `loop late by p50 ${p50.toFixed(1)}, p99 ${p99.toFixed(1)}, at most ${max.toFixed(1)} ms`;
  line('generator', `${own.cpuSeconds.toFixed(2)} CPU s`, `${own.perCpuSecond.toFixed(0)} deliveries/CPU s`, delays);
  const share = `${(own.share * 100).toFixed(0)} % of a core`;
  line(
    '',
    own.share > BUSY ? `busy for ${share}: it may be what was measured` : `busy for ${share}: not the bottleneck`,
  );
}
