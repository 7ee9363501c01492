/**
 * The storm: `npm run chaos`.
 *
 * A PostgreSQL of its own, three relays in processes of their own, and faults of every kind; support/chaos.ts has what
 * happens. It ends once clients have got CHAOS_DELIVERIES events (default 1,000,000) and there were CHAOS_FAULTS faults
 * (default 50), each kind at least once; it fails when a promise was not kept. SEED repeats the choices of a run.
 * CHAOS_LOG=file keeps what the server and the relays write.
 */
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbedded } from '../packages/embedded-postgres/embedded.js';
import { migrate } from '../src/postgres/migrate.js';
import { runChaos, type ChaosFigures, type ChaosProgress } from './support/chaos.js';
import { seedFromEnvironment } from './support/random.js';
import { SERVER_SETTINGS } from './support/server-settings.js';

const PROGRESS_SECONDS = 5;
/** A run in which nobody has got anything for so long is judged as it is. */
const SILENCE_SECONDS = 120;
const MOST_SHOWN = 20;

const wanted = {
  deliveries: numberFromEnvironment('CHAOS_DELIVERIES', 1_000_000),
  faults: numberFromEnvironment('CHAOS_FAULTS', 50),
};
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort());

process.exitCode = await main(seedFromEnvironment());

async function main(seed: number): Promise<number> {
  console.log(`seed ${seed}: ${wanted.deliveries} deliveries and ${wanted.faults} faults wanted`);
  const teardowns: (() => unknown)[] = [];
  const t = { teardown: (teardown: () => unknown) => void teardowns.push(teardown) };
  try {
    const figures = await storm(t, seed);
    showTable(figures);
    for (const violation of figures.violations.slice(0, MOST_SHOWN)) console.error(`✘ ${violation}`);
    console.log(`${describe(figures)}, ${figures.violations.length} violations; seed ${seed}`);
    if (figures.violations.length === 0) return 0;
    console.error(
      `To repeat: SEED=${seed} CHAOS_DELIVERIES=${wanted.deliveries} CHAOS_FAULTS=${wanted.faults} npm run chaos`,
    );
    return 1;
  } catch (error) {
    if (interrupted.signal.aborted) return 130;
    console.error(error);
    console.error(`seed ${seed}`);
    return 1;
  } finally {
    for (let teardown = teardowns.pop(); teardown; teardown = teardowns.pop()) await teardown();
  }
}

async function storm(t: { teardown(teardown: () => unknown): void }, seed: number): Promise<ChaosFigures> {
  const folder = await mkdtemp(join(tmpdir(), 'outbox-relay-chaos-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const path = process.env['CHAOS_LOG'];
  const file = path ? createWriteStream(path) : undefined;
  t.teardown(() => file?.end());
  const log = (line: string) => file?.write(`${new Date().toISOString()} ${line}\n`);

  const waiting = new Set<() => void>();
  const server = await startEmbedded({
    dataDirectory: join(folder, 'postgres'),
    settings: SERVER_SETTINGS,
    persistent: false,
    log(line) {
      log(`server: ${line}`);
      if (!line.includes('ready to accept connections')) return;
      for (const wake of waiting) wake();
      waiting.clear();
    },
  });
  t.teardown(() => server.stop('immediate'));
  await migrate(server.url, 'up');
  interrupted.signal.throwIfAborted();

  let shown = 0;
  let [most, since] = [0, 0];
  return runChaos(t, {
    seed,
    server,
    ready: () => new Promise((resolve) => waiting.add(resolve)),
    signal: interrupted.signal,
    log,
    isEnough(progress) {
      const { seconds, deliveries, faults } = progress;
      if (seconds - shown >= PROGRESS_SECONDS) {
        shown = seconds;
        showProgress(progress);
      }
      if (deliveries > most) [most, since] = [deliveries, seconds];
      if (seconds - since > SILENCE_SECONDS) return true;
      return deliveries >= wanted.deliveries && faults.total >= wanted.faults && faults.missing.length === 0;
    },
  });
}

function showProgress({ seconds, deliveries, reconnects, resets, faults }: ChaosProgress): void {
  const missing = faults.missing.length === 0 ? '' : `, ${faults.missing.length} kinds to come`;
  console.log(
    `${seconds.toFixed(0).padStart(4)} s  ${deliveries} deliveries, ${reconnects} reconnects, ${resets} resets, ` +
      `${faults.total} faults${missing}`,
  );
}

function showTable(figures: ChaosFigures): void {
  const rows: [string, number][] = [
    ...figures.faults.counts,
    ['sessions of relays ended', figures.endedSessions],
    ['starts of a relay that failed', figures.failedStarts],
    ['relays that SIGTERM ended late', figures.lateEnds],
    ...[...figures.faults.attacks].map(([kind, count]): [string, number] => [`attack: ${kind}`.slice(0, 41), count]),
    ['hostile rows that the table took', figures.hostileRows.taken],
    ['hostile rows that it refused', figures.hostileRows.refused],
    ['events redacted', figures.redacted],
    ['and got by who had connected later', figures.redactionsChecked],
    ['deliveries that no fault excuses', figures.pulse.judged],
    ['the longest of them, in milliseconds', Math.round(figures.pulse.longest * 1000)],
    ['transactions committed', figures.committed],
    ['transactions rolled back', figures.rolledBack],
    ['commits cut off, kept', figures.unknown.kept],
    ['commits cut off, gone', figures.unknown.gone],
    ['events', figures.events],
    ['events deleted by retention', figures.deleted],
    ['reconnects', figures.reconnects],
    ['connections cut amid a frame', figures.cutFrames],
    ['resets, all justified unless said below', figures.resets],
  ];
  for (const [what, count] of rows) console.log(`  ${what.padEnd(42, '.')} ${String(count).padStart(8)}`);
}

function describe({ deliveries, seconds, faults, lost, double, outOfOrder }: ChaosFigures): string {
  return (
    `${deliveries} deliveries and ${faults.total} faults in ${seconds.toFixed(0)} s: ` +
    `${lost} lost, ${double} double, ${outOfOrder} out of order`
  );
}

function numberFromEnvironment(name: string, fallback: number): number {
  const text = process.env[name] ?? '';
  const number = text === '' ? fallback : Number(text);
  if (!Number.isInteger(number) || number < 1) throw new RangeError(`${name}=${text}: expected a whole number above 0`);
  return number;
}
