import test, { type ExecutionContext } from 'ava';
import { createDatabase } from '../support/database.js';
import { seedFromEnvironment } from '../support/random.js';
import { describe, runRandomResume, TIGHT_ENVIRONMENT, type Progress } from '../support/random-resume.js';
import { startTestRelay } from '../support/relay.js';

/** How long writers write and things break, at least; catching up comes on top. */
const SECONDS = 4;
/** It goes on until enough has happened, as a run in which little happened proves little; but not for ever. */
const SECONDS_AT_MOST = 180;
/** For all clients to catch up on a slow machine, which may take longer than it took to publish what they get. */
const CATCH_UP_SECONDS = 180;

function isWorthwhile({ deliveries, reconnects, cutFrames, kills, stalls }: Progress): boolean {
  return deliveries > 2_000 && reconnects > 150 && cutFrames > 10 && kills > 5 && stalls > 1;
}

async function everybodyGetsExactlyTheirs(t: ExecutionContext, relays: number): Promise<void> {
  t.timeout((SECONDS_AT_MOST + CATCH_UP_SECONDS) * 1000);
  const seed = seedFromEnvironment();
  const database = await createDatabase(t);
  const urls: string[] = [];
  for (let n = 0; n < relays; n += 1) urls.push((await startTestRelay(t, database.url, TIGHT_ENVIRONMENT)).url);

  const figures = await runRandomResume({
    seed,
    database,
    relays: () => urls,
    writers: 8,
    clients: 40,
    isEnough: (progress) =>
      progress.seconds > SECONDS_AT_MOST || (progress.seconds > SECONDS && isWorthwhile(progress)),
  });

  t.log(describe(figures));
  t.deepEqual(figures.violations, [], `SEED=${seed} repeats the choices of this run`);
  const { lost, double, outOfOrder, resets } = figures;
  t.deepEqual({ lost, double, outOfOrder, resets }, { lost: 0, double: 0, outOfOrder: 0, resets: 0 });
  t.true(isWorthwhile(figures), describe(figures));
}

test.serial(
  'R3, R6: clients that drop at any byte, while sessions of the relay die, get exactly what was committed, in order',
  (t) => everybodyGetsExactlyTheirs(t, 1),
);

test.serial('R3, R6: the same holds for clients that wander between two relays', (t) =>
  everybodyGetsExactlyTheirs(t, 2),
);
