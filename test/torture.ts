/**
 * The torture of commits: `npm run torture`.
 *
 * One, two and five relays one after the other, with a PostgreSQL and its synchronous standby for each. Applications' triggers
 * sleep and fail inside COMMIT, commits are cut off, the standby is stopped for seconds, and relays are killed, the awake one
 * first of all. It publishes until clients are owed TORTURE_DELIVERIES events (default 100,000) altogether and there were
 * TORTURE_FAULTS faults (default 50), and lets all of them catch up; see support/trial.ts.
 */
import { useDatabase } from './support/database.js';
import { startPostgres, startStandby } from './support/postgres.js';
import { numberFromEnvironment, runTrial, type Setting } from './support/trial.js';
import type { Progress } from './support/world.js';

const RELAYS = [1, 2, 5];
const wanted = {
  TORTURE_DELIVERIES: numberFromEnvironment('TORTURE_DELIVERIES', 100_000),
  TORTURE_FAULTS: numberFromEnvironment('TORTURE_FAULTS', 50),
};

const withRelays = (count: number) => async (t: Setting) => {
  // The WAL goes to disk, or `commit_delay` would do nothing.
  const settings = { fsync: 'on', max_connections: '200' };
  const server = await startPostgres(t, { settings, log: (line) => t.log(`server: ${line}`) });
  const standby = await startStandby(t, server, settings);
  const database = useDatabase(server.url);
  t.teardown(() => database.pool.end());
  return {
    database,
    server,
    standby,
    relays: Array.from({ length: count }, () => ({})),
    // Half of the publishers go on when the standby is stopped.
    writers: Array.from({ length: 24 }, (_, n) =>
      n % 2 === 0 ? (['local', 'local', 'off'] as const) : (['on', 'local', 'off', 'remote_apply'] as const),
    ),
    clients: 60,
    fates: [
      { of: ['sessions'], pause: [500, 2_500] },
      { of: ['table', 'restarts'], pause: [4_000, 8_000] },
      { of: ['commits'], pause: [200, 1_000] },
      { of: ['standby'], pause: [4_000, 10_000] },
      { of: ['awake'], pause: [1_000, 4_000] },
      { of: ['processes'], pause: [4_000, 10_000] },
    ] as const,
    stuckMs: 30_000,
    isEnough: ({ owed, faults }: Progress) =>
      owed * RELAYS.length >= wanted.TORTURE_DELIVERIES &&
      faults.total * RELAYS.length >= wanted.TORTURE_FAULTS &&
      faults.missing.length === 0,
  };
};

process.exitCode = await runTrial({ name: 'torture', wanted, worlds: RELAYS.map(withRelays) });
