/**
 * What happens to a PostgreSQL server: it is killed and restarted in every way, one of its backends is killed, which restarts
 * all others, its sessions are ended, and the table is locked. And since when it was away, as that excuses a transaction
 * that is cut off.
 */
import type { EmbeddedPostgres } from '../../packages/embedded-postgres/embedded.js';
import type { TestDatabase } from './database.js';
import type { Fault } from './fate.js';
import type { Random } from './random.js';
import { killSessions, lockTable } from './session-faults.js';
import type { Shift } from './shift.js';

export interface ServerFaultsOptions {
  readonly server: Pick<EmbeddedPostgres, 'kill' | 'restart'>;
  readonly database: Pick<TestDatabase, 'query' | 'kill' | 'withClient'>;
  readonly random: Random;
  readonly shift: Shift;
  /** Resolves when the server says the next time that it accepts connections. */
  readonly ready: () => Promise<void>;
}

export interface ServerFaults {
  readonly faults: Readonly<Record<string, Fault>>;
  /** Whether it was away at any time since then, in milliseconds of `performance.now`. */
  wasAway(since: number): boolean;
  /** Sessions of relays that were ended while the server lived. */
  readonly ended: number;
}

/** The longest that the server stays away, in milliseconds; every other time it comes back at once. */
const AWAY_MS = 2_000;

export function createServerFaults({ server, database, random, shift, ready }: ServerFaultsOptions): ServerFaults {
  let isAway = false;
  let back = -Infinity;
  let ended = 0;

  async function whileAway(fault: () => Promise<void>): Promise<void> {
    isAway = true;
    await fault();
    back = performance.now();
    isAway = false;
  }

  async function kill(): Promise<void> {
    await server.kill();
    if (random.chance(0.5)) await shift.pause(random.integer(0, AWAY_MS));
    await server.restart();
  }

  /** The server cannot know what the backend left in shared memory, so it ends all others and recovers. */
  async function killBackend(): Promise<void> {
    const { rows } = await database.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid`,
    );
    const [victim] = random.sample(rows, 1);
    if (victim === undefined) return;
    const recovered = ready();
    process.kill(victim.pid, 'SIGKILL');
    await recovered;
  }

  return {
    faults: {
      'server killed': () => whileAway(kill),
      'server restarted, fast': () => whileAway(() => server.restart('fast')),
      'server restarted, immediate': () => whileAway(() => server.restart('immediate')),
      'backend killed': () => whileAway(killBackend),
      'sessions ended': async () => (ended += await killSessions(database, random)),
      'table locked': async () => (ended += await lockTable(database, random, shift)),
    },
    wasAway: (since) => isAway || back >= since,
    get ended() {
      return ended;
    },
  };
}
