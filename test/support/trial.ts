/**
 * A trial: a program that runs worlds one after the other, shows how they fare, and ends with 1 where a promise was not kept.
 *
 * SEED repeats the choices of a run. LOG=file keeps what servers and relays write.
 */
import { createWriteStream } from 'node:fs';
import { seedFromEnvironment } from './random.js';
import { runWorld, type Figures, type Progress, type WorldOptions } from './world.js';

export interface Trial {
  /** Of its script. */
  readonly name: string;
  /** What is wanted, by the variable that says so. */
  readonly wanted: Readonly<Record<string, number>>;
  readonly worlds: readonly ((
    setting: Setting,
  ) => Promise<Omit<WorldOptions, 'seed' | 'signal' | 'log' | 'onSecond'>>)[];
}

export interface Setting {
  teardown(teardown: () => unknown): void;
  readonly log: (line: string) => void;
}

const PROGRESS_SECONDS = 5;
/** However busy the machine, in that time something happens: a client that gets nothing is given up sooner. */
const STANDSTILL_SECONDS = 150;
const MOST_SHOWN = 20;

/** Resolves with the exit code. */
export async function runTrial({ name, wanted, worlds }: Trial): Promise<number> {
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted.abort());
  const seed = seedFromEnvironment();
  const settings = Object.entries(wanted).map(([variable, number]) => `${variable}=${number}`);
  console.log(`SEED=${seed} ${settings.join(' ')}`);
  const path = process.env['LOG'];
  const file = path ? createWriteStream(path) : undefined;
  const log = (line: string) => file?.write(`${new Date().toISOString()} ${line}\n`);
  const sums = { deliveries: 0, faults: 0, lost: 0, double: 0, outOfOrder: 0, violations: 0 };

  for (const world of worlds) {
    const teardowns: (() => unknown)[] = [];
    const setting = { teardown: (teardown: () => unknown) => void teardowns.push(teardown), log };
    try {
      const options = await world(setting);
      const onSecond = showProgress();
      const figures = await runWorld(setting, { ...options, seed, signal: interrupted.signal, log, onSecond });
      show(figures);
      for (const what of ['deliveries', 'lost', 'double', 'outOfOrder'] as const) sums[what] += figures[what];
      sums.faults += figures.faults.total;
      sums.violations += figures.violations.length;
    } catch (error) {
      if (interrupted.signal.aborted) return 130;
      console.error(error);
      sums.violations += 1;
    } finally {
      for (let teardown = teardowns.pop(); teardown; teardown = teardowns.pop()) await teardown();
    }
  }
  file?.end();
  const { deliveries, faults, lost, double, outOfOrder, violations } = sums;
  console.log(
    `${deliveries} deliveries and ${faults} faults: ${lost} lost, ${double} double, ${outOfOrder} out of order, ` +
      `${violations} violations; seed ${seed}`,
  );
  if (violations === 0) return 0;
  console.error(`To repeat: SEED=${seed} ${settings.join(' ')} npm run ${name}`);
  return 1;
}

/** The number that a variable of the environment has. */
export function numberFromEnvironment(name: string, fallback: number): number {
  const text = process.env[name] ?? '';
  const number = text === '' ? fallback : Number(text);
  if (!Number.isInteger(number) || number < 1) throw new RangeError(`${name}=${text}: expected a whole number above 0`);
  return number;
}

/** Shows it every few seconds, and ends the process once it has looked the same for too long. */
function showProgress(): (progress: Progress) => void {
  let [shown, moved, seen] = [0, 0, ''];
  return ({ seconds, phase, deliveries, owed, reconnects, resets, faults, behind }) => {
    const now = [deliveries, owed, reconnects, faults.total, phase].join();
    if (now !== seen) [seen, moved] = [now, seconds];
    if (seconds - moved > STANDSTILL_SECONDS) {
      console.error(`Nothing has moved for ${STANDSTILL_SECONDS} s, and it waits for ${phase}.`);
      process.exit(1);
    }
    if (seconds - shown < PROGRESS_SECONDS) return;
    shown = seconds;
    const missing = faults.missing.length === 0 ? '' : `, to come: ${faults.missing.join(', ')}`;
    console.log(
      `${seconds.toFixed(0).padStart(4)} s  ${deliveries} deliveries of ${owed}, ${reconnects} reconnects, ${resets} resets, ` +
        `${faults.total} faults${missing}; ${behind} clients are behind; it waits for ${phase}`,
    );
  };
}

function show({ table, violations }: Figures): void {
  for (const [what, count] of table) console.log(`  ${what.padEnd(42, '.')} ${String(count).padStart(8)}`);
  for (const violation of violations.slice(0, MOST_SHOWN)) console.error(`✘ ${violation}`);
}
