/**
 * The long run of the random resume engine: `npm run torture`.
 *
 * Two relays on one database, one of which is restarted now and then; everything else is as in random-resume.test.ts. It
 * ends once clients have got TORTURE_DELIVERIES events (default 100,000), and fails on the first violation of a promise.
 * SEED repeats the choices of a run.
 */
import { createDatabase } from './support/database.js';
import { seedFromEnvironment } from './support/random.js';
import { describe, runRandomResume, TIGHT_ENVIRONMENT, type Progress } from './support/random-resume.js';
import { startTestRelay } from './support/relay.js';

const PROGRESS_SECONDS = 5;

const wanted = Number(process.env['TORTURE_DELIVERIES'] ?? 100_000);
if (!Number.isInteger(wanted) || wanted < 1) {
  throw new RangeError(
    `TORTURE_DELIVERIES=${process.env['TORTURE_DELIVERIES'] ?? ''}: expected a whole number above 0`,
  );
}
process.exitCode = await main(seedFromEnvironment());

async function main(seed: number): Promise<number> {
  console.log(`seed ${seed}: ${wanted} deliveries wanted`);
  const teardowns: (() => unknown)[] = [];
  const t = { teardown: (teardown: () => unknown) => void teardowns.push(teardown) };
  try {
    const database = await createDatabase(t);
    const steady = await startTestRelay(t, database.url, TIGHT_ENVIRONMENT);
    let other = await startTestRelay(t, database.url, TIGHT_ENVIRONMENT);
    let restarts = 0;
    let shown = 0;

    const figures = await runRandomResume({
      seed,
      database,
      relays: () => [steady.url, other.url],
      writers: 12,
      clients: 60,
      isEnough(progress) {
        if (progress.seconds - shown >= PROGRESS_SECONDS) {
          shown = progress.seconds;
          showProgress(progress, restarts);
        }
        return progress.deliveries >= wanted;
      },
      async fault() {
        await other.stop();
        other = await startTestRelay(t, database.url, TIGHT_ENVIRONMENT);
        restarts += 1;
      },
    });

    for (const violation of figures.violations) console.error(violation);
    console.log(`${describe(figures)}; ${restarts} restarts of a relay`);
    if (figures.violations.length === 0) return 0;
    console.error(`To repeat: SEED=${seed} TORTURE_DELIVERIES=${wanted} npm run torture`);
    return 1;
  } finally {
    for (let teardown = teardowns.pop(); teardown; teardown = teardowns.pop()) await teardown();
  }
}

function showProgress({ seconds, deliveries, reconnects, kills }: Progress, restarts: number): void {
  console.log(
    `${seconds.toFixed(0).padStart(4)} s  ${deliveries} deliveries, ${reconnects} reconnects, ${kills} kills, ${restarts} restarts`,
  );
}
