/**
 * The storm: `npm run chaos`.
 *
 * A PostgreSQL that crashes, three relays and networks that fail, beside publishers, visitors and roles that are hostile,
 * redaction and retention. It ends once clients have got CHAOS_DELIVERIES events (default 1,000,000) and there were
 * CHAOS_FAULTS faults (default 50), each kind at least once; see support/trial.ts.
 */
import { useDatabase } from './support/database.js';
import { createHostileRows } from './support/hostile-rows.js';
import { createHostileVisitors, makeStranger } from './support/hostile-visitors.js';
import { startPostgres } from './support/postgres.js';
import { createPulse } from './support/pulse.js';
import { createRedactor } from './support/redactor.js';
import { createRetention } from './support/retention.js';
import { SERVER_SETTINGS } from './support/server-settings.js';
import { numberFromEnvironment, runTrial, type Setting } from './support/trial.js';

const wanted = {
  CHAOS_DELIVERIES: numberFromEnvironment('CHAOS_DELIVERIES', 1_000_000),
  CHAOS_FAULTS: numberFromEnvironment('CHAOS_FAULTS', 50),
};

/** Some stay through a fault and its end; some are away for longer than retention keeps anything. */
const HABITS = {
  stays: [20, 200, 1_000, 5_000, 30_000],
  absences: [0, 0, 5, 30, 100, 1_500, 10_000],
} as const;

async function storm(t: Setting) {
  const server = await startPostgres(t, { settings: SERVER_SETTINGS, log: (line) => t.log(`server: ${line}`) });
  const database = useDatabase(server.url);
  t.teardown(() => database.pool.end());
  const strangerUrl = await makeStranger(database);
  return {
    database,
    server,
    relays: [{ RETENTION: '6s' }, { MAX_CONNECTION_SECONDS: '10' }, { WORKERS: '2' }],
    // What is committed without waiting for its WAL is lost in a crash, after clients may have got it.
    writers: Array.from({ length: 12 }, () => ['on', 'local'] as const),
    clients: 80,
    habits: HABITS,
    actors: [
      createRetention(),
      createRedactor(),
      createPulse(),
      createHostileRows(),
      createHostileVisitors(strangerUrl),
      createHostileVisitors(strangerUrl),
    ],
    fates: [
      { of: ['sessions', 'table', 'commits', 'restarts', 'crashes'], pause: [3_000, 12_000] },
      { of: ['processes'], pause: [6_000, 20_000] },
      { of: ['networks'], pause: [1_000, 6_000] },
    ] as const,
    stuckMs: 60_000,
    isEnough: ({ deliveries, faults }: { deliveries: number; faults: { total: number; missing: readonly string[] } }) =>
      deliveries >= wanted.CHAOS_DELIVERIES && faults.total >= wanted.CHAOS_FAULTS && faults.missing.length === 0,
  };
}

process.exitCode = await runTrial({ name: 'chaos', wanted, worlds: [storm] });
