import test from 'ava';
import { createDatabase } from '../support/database.js';
import { describeFuzz, runFuzz } from '../support/fuzz.js';
import { describePort, fuzzPort, PORT_KINDS } from '../support/fuzz-ports.js';
import { seedFromEnvironment } from '../support/random.js';

/** The long run is `npm run fuzz`. */
const REQUESTS = { rights: 1_200, limits: 800 } as const;
const ATTACKS = 400;

for (const scene of ['rights', 'limits'] as const) {
  test.serial(
    `R8: random requests against low or high limits harm nothing, tell nothing, leave nothing: ${scene}`,
    async (t) => {
      const seed = seedFromEnvironment('FUZZ_SEED');
      const figures = await runFuzz(t, { seed, requests: REQUESTS[scene], database: await createDatabase(t), scene });
      t.log(describeFuzz(figures));
      t.deepEqual(figures.violations, [], `FUZZ_SEED=${seed} repeats the choices of this run`);
      // A run in which little happened proves little.
      t.true(figures.streams > 80 && figures.events > 500, describeFuzz(figures));
    },
  );
}

for (const kind of PORT_KINDS) {
  test.serial(
    `R5: random bytes to this port end no process, delay nobody who behaves, tell no secret: ${kind}`,
    async (t) => {
      const seed = seedFromEnvironment('FUZZ_SEED');
      const figures = await fuzzPort(t, { kind, seed, requests: ATTACKS });
      t.log(describePort(figures));
      t.deepEqual(figures.violations, [], `FUZZ_SEED=${seed} repeats the choices of this run`);
      t.true(figures.requests >= ATTACKS && figures.events > 5 && figures.probes > 5, describePort(figures));
    },
  );
}
