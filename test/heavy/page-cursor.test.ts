import test, { type ExecutionContext } from 'ava';
import { createDatabase } from '../support/database.js';
import { describeLoads, loadPages } from '../support/page-loads.js';
import { seedFromEnvironment } from '../support/random.js';
import { startTestRelay } from '../support/relay.js';
import { TIGHT_ENVIRONMENT } from '../support/world.js';

const LOADS = 1000;

async function everyPageIsTheTable(t: ExecutionContext, env: Record<string, string>): Promise<void> {
  t.timeout(300_000);
  const seed = seedFromEnvironment();
  const database = await createDatabase(t);
  const [one, other] = [await startTestRelay(t, database.url, env), await startTestRelay(t, database.url, env)];
  const figures = await loadPages(t, {
    database,
    relays: [one.url, other.url],
    seed,
    writers: 16,
    readers: 6,
    loads: LOADS,
  });
  t.log(describeLoads(figures));
  const { missed, doubled, strange, resets } = figures;
  t.deepEqual(
    { missed, doubled: doubled.exact, strange, resets },
    { missed: { first: 0, exact: 0 }, doubled: 0, strange: 0, resets: 0 },
    `SEED=${seed} repeats the choices of this run`,
  );
  t.true(figures.excluded > LOADS && figures.cutExcluding > 100 && figures.aborted > 100, describeLoads(figures));
}

test.serial('R3: page and stream are the table at each of many loads, by two relays', (t) =>
  everyPageIsTheTable(t, {}),
);

test.serial('R3: the same holds where streams read from history', (t) =>
  everyPageIsTheTable(t, { ...TIGHT_ENVIRONMENT, WINDOW_MEGABYTES: '0.002' }),
);
