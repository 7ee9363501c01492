/**
 * The long run of the random requests: `npm run fuzz`.
 *
 * FUZZ_REQUESTS of them (default 20,000), most against a relay whose limits nobody meets, the others against one whose
 * limits most meet; and a tenth as many, of bytes of all kinds, to each kind of port. It fails when anything is wrong that fuzz.test.ts, its short form, looks for. FUZZ_SEED repeats the
 * choices of a run.
 */
import { createDatabase } from './support/database.js';
import { describeFuzz, runFuzz } from './support/fuzz.js';
import { describePort, fuzzPort, PORT_KINDS } from './support/fuzz-ports.js';
import { seedFromEnvironment } from './support/random.js';

const MOST_SHOWN = 20;

const wanted = Number(process.env['FUZZ_REQUESTS'] ?? 20_000);
if (!Number.isInteger(wanted) || wanted < 100) {
  throw new RangeError(`FUZZ_REQUESTS=${process.env['FUZZ_REQUESTS'] ?? ''}: expected a whole number from 100`);
}
process.exitCode = await main(seedFromEnvironment('FUZZ_SEED'));

async function main(seed: number): Promise<number> {
  console.log(`seed ${seed}: ${wanted} requests`);
  const requests = { rights: Math.ceil(wanted * 0.7), limits: Math.floor(wanted * 0.3) };
  let wrong = 0;
  for (const scene of ['rights', 'limits'] as const) {
    const teardowns: (() => unknown)[] = [];
    const t = { teardown: (teardown: () => unknown) => void teardowns.push(teardown) };
    try {
      const database = await createDatabase(t);
      const onProgress = (done: number) => console.log(`${scene}: ${done} of ${requests[scene]}`);
      const figures = await runFuzz(t, { seed, requests: requests[scene], database, scene, onProgress });
      for (const violation of figures.violations.slice(0, MOST_SHOWN)) console.error(violation);
      console.log(describeFuzz(figures));
      wrong += figures.violations.length;
    } finally {
      for (let teardown = teardowns.pop(); teardown; teardown = teardowns.pop()) await teardown();
    }
  }
  for (const kind of PORT_KINDS) {
    const teardowns: (() => unknown)[] = [];
    const t = { teardown: (teardown: () => unknown) => void teardowns.push(teardown) };
    try {
      const figures = await fuzzPort(t, { kind, seed, requests: Math.ceil(wanted / 10) });
      for (const violation of figures.violations.slice(0, MOST_SHOWN)) console.error(violation);
      console.log(describePort(figures));
      wrong += figures.violations.length;
    } finally {
      for (let teardown = teardowns.pop(); teardown; teardown = teardowns.pop()) await teardown();
    }
  }
  if (wrong === 0) return 0;
  console.error(`To repeat: FUZZ_SEED=${seed} FUZZ_REQUESTS=${wanted} npm run fuzz`);
  return 1;
}
