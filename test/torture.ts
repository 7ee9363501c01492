/**
 * The long run of the random resume engine: `npm run torture`.
 *
 * Two relays on one database, one of which is restarted now and then; everything else is as in random-resume.test.ts. It
 * publishes until clients have got TORTURE_DELIVERIES events (default 100,000), which for those that are behind is only the
 * beginning, lets all of them catch up, and fails on the first violation of a promise. When nothing moves any more it says
 * what it waits for, and fails. SEED repeats the choices of a run.
 */
import { createDatabase } from './support/database.js';
import { seedFromEnvironment } from './support/random.js';
import { describe, runRandomResume, TIGHT_ENVIRONMENT, type Progress } from './support/random-resume.js';
import type { Relay } from '../src/relay.js';
import { startTestRelay } from './support/relay.js';
import { createWaits } from './support/waits.js';

const PROGRESS_SECONDS = 5;
/** However busy the machine, in that time something happens: a client that gets nothing is given up sooner. */
const STANDSTILL_SECONDS = 30;

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
  const waits = createWaits();
  let latest: Progress | undefined;
  let restarts = 0;
  const startOne = (): Promise<Relay> =>
    waits.on('a relay to start', startTestRelay(t, database.url, TIGHT_ENVIRONMENT));
  const watch = endAtStandstill(() => [latest?.deliveries, latest?.kills, restarts, ...waits.pending].join('; '));
  const database = await waits.on('a database', createDatabase(t));
  try {
    const steady = await startOne();
    let other = await startOne();
    let shown = 0;

    const figures = await runRandomResume({
      seed,
      database,
      relays: () => [steady.url, other.url],
      writers: 12,
      clients: 60,
      waits,
      isEnough: ({ deliveries }) => deliveries >= wanted,
      onSecond(progress) {
        latest = progress;
        if (progress.seconds - shown < PROGRESS_SECONDS) return;
        shown = progress.seconds;
        showProgress(progress, restarts, waits.pending);
      },
      async fault() {
        await waits.on('a relay to stop', other.stop());
        other = await startOne();
        restarts += 1;
      },
    });

    for (const violation of figures.violations) console.error(violation);
    console.log(`${describe(figures)}; ${restarts} restarts of a relay`);
    if (figures.violations.length === 0) return 0;
    console.error(`To repeat: SEED=${seed} TORTURE_DELIVERIES=${wanted} npm run torture`);
    return 1;
  } finally {
    for (let teardown = teardowns.pop(); teardown; teardown = teardowns.pop())
      await waits.on('relays to stop and their database to be dropped', Promise.resolve(teardown()));
    clearInterval(watch);
  }
}

/** Ends the process once what it does has looked the same for too long. The runner ends the servers. */
function endAtStandstill(look: () => string): NodeJS.Timeout {
  let [seen, since] = ['', performance.now()];
  return setInterval(() => {
    const now = look();
    if (now !== seen) [seen, since] = [now, performance.now()];
    if (performance.now() - since < STANDSTILL_SECONDS * 1000) return;
    console.error(
      `Nothing has moved for ${STANDSTILL_SECONDS} s. Deliveries, kills, restarts, and what it waits for: ${now}`,
    );
    process.exit(1);
  }, 1000);
}

function showProgress(progress: Progress, restarts: number, pending: readonly string[]): void {
  const { seconds, deliveries, reconnects, kills, isPublishing, behind } = progress;
  console.log(
    `${seconds.toFixed(0).padStart(4)} s  ${deliveries} deliveries, ${reconnects} reconnects, ${kills} kills, ${restarts} restarts` +
      (isPublishing ? '' : `; ${behind} clients are behind; it waits for ${pending.join(', ')}`),
  );
}
