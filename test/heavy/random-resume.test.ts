import test, { type ExecutionContext } from 'ava';
import { createDatabase } from '../support/database.js';
import { seedFromEnvironment } from '../support/random.js';
import { runWorld, type Progress } from '../support/world.js';

/** How long writers write and things break, at least; catching up comes on top. */
const SECONDS = 4;
/** It goes on until enough has happened, as a run in which little happened proves little; but not for ever. */
const SECONDS_AT_MOST = 180;
/** For all clients to catch up on a slow machine, which may take longer than it took to publish what they get. */
const CATCH_UP_SECONDS = 180;

function isWorthwhile({ deliveries, reconnects, cutFrames, faults }: Progress): boolean {
  const happened = (kind: string) => faults.counts.get(kind) ?? 0;
  return (
    deliveries > 2_000 &&
    reconnects > 150 &&
    cutFrames > 10 &&
    happened('sessions ended') > 5 &&
    happened('table locked') > 1
  );
}

async function everybodyGetsExactlyTheirs(t: ExecutionContext, relays: number): Promise<void> {
  t.timeout((SECONDS_AT_MOST + CATCH_UP_SECONDS) * 1000);
  const seed = seedFromEnvironment();

  const figures = await runWorld(t, {
    seed,
    database: await createDatabase(t),
    relays: Array.from({ length: relays }, () => ({})),
    writers: Array.from({ length: 8 }, () => ['on', 'off']),
    clients: 40,
    fates: [
      { of: ['sessions'], pause: [20, 400] },
      { of: ['table'], pause: [500, 1_500] },
    ],
    stuckMs: 10_000,
    isEnough: (progress) =>
      progress.seconds > SECONDS_AT_MOST || (progress.seconds > SECONDS && isWorthwhile(progress)),
  });

  t.log(figures.table.map((figure) => figure.join(': ')).join(', '));
  t.deepEqual(figures.violations, [], `SEED=${seed} repeats the choices of this run`);
  const { lost, double, outOfOrder, resets } = figures;
  t.deepEqual({ lost, double, outOfOrder, resets }, { lost: 0, double: 0, outOfOrder: 0, resets: 0 });
  t.true(isWorthwhile(figures), figures.table.join('; '));
}

test.serial(
  'R3, R6: clients that drop at any byte, while sessions of the relay die, get exactly what was committed, in order',
  (t) => everybodyGetsExactlyTheirs(t, 1),
);

test.serial('R3, R6: the same holds for clients that wander between two relays', (t) =>
  everybodyGetsExactlyTheirs(t, 2),
);
