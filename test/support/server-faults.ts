/**
 * What happens to a PostgreSQL server: it is killed and restarted in every way, one of its backends is killed, which restarts
 * all others, commits are cut off, a standby for which they wait is stopped, sessions are ended, and the table is locked. And
 * since when it was away, as that excuses a transaction that is cut off.
 */
import type { TestDatabase } from './database.js';
import type { Fault } from './fate.js';
import { isLoss } from './lasting-session.js';
import type { TestPostgres } from './postgres.js';
import type { Random } from './random.js';
import type { Shift } from './shift.js';

export interface ServerFaultsOptions {
  readonly database: Pick<TestDatabase, 'query' | 'kill' | 'withClient'>;
  /** The server itself, where it is nobody else's. */
  readonly server?: TestPostgres | undefined;
  /** For which commits wait. */
  readonly standby?: TestPostgres | undefined;
  readonly random: Random;
  readonly shift: Shift;
}

export type ServerFaultGroup = 'sessions' | 'awake' | 'table' | 'commits' | 'restarts' | 'crashes' | 'standby';

export interface ServerFaults {
  readonly groups: Readonly<Record<ServerFaultGroup, Readonly<Record<string, Fault>>>>;
  /** Whether it was away at any time since then, in milliseconds of `performance.now`. */
  wasAway(since: number): boolean;
  /** Sessions of relays that were ended while the server lived. */
  readonly ended: number;
}

const SESSIONS = ['listener', 'tail', 'history', '%'] as const;
const COMMITS = `state = 'active' AND query = 'COMMIT'`;
/** The lock of a relay that looks by itself. */
const AWAKE = `pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'
  AND classid = 'outbox'::regclass AND objid = 2 AND objsubid = 2)`;

/** The longest that the server stays away, in milliseconds; every other time it comes back at once. */
const AWAY_MS = 2_000;
/** How long a standby is stopped. */
const STOPPED_MS = [500, 3_000] as const;
/** How often and how many times a commit that is under way is looked for. */
const LOOK = { pauseMs: 10, times: 50 } as const;

export function createServerFaults(options: ServerFaultsOptions): ServerFaults {
  const { server, standby, database, random, shift } = options;
  let away = 0;
  let back = -Infinity;
  let ended = 0;

  const wasAway = (since: number) => away > 0 || back >= since;

  async function whileAway(fault: () => Promise<unknown>): Promise<unknown> {
    away += 1;
    try {
      return await fault();
    } finally {
      back = performance.now();
      away -= 1;
    }
  }

  /** What is cut off by another fault has come to nothing. */
  const guarded = (faults: Record<string, () => Promise<unknown>>): Record<string, Fault> =>
    Object.fromEntries(
      Object.entries(faults).map(([kind, fault]) => [
        kind,
        async () => {
          const began = performance.now();
          try {
            return await fault();
          } catch (error) {
            if (!isLoss(error) || !wasAway(began)) throw error;
            return false;
          }
        },
      ]),
    );

  /** Process ids of backends, those of a commit as soon as there is one. */
  async function backends(which: string): Promise<number[]> {
    for (let look = 0; look < LOOK.times && shift.isOn; look += 1) {
      const { rows } = await database.query<{ pid: number }>(
        `SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database()
           AND pid <> pg_backend_pid() AND ${which} ORDER BY pid`,
      );
      if (rows.length > 0) return rows.map(({ pid }) => pid);
      await shift.pause(LOOK.pauseMs);
    }
    return [];
  }

  async function terminate(which: string): Promise<boolean> {
    const [pid] = random.sample(await backends(which), 1);
    if (pid === undefined) return false;
    await database.query('SELECT pg_terminate_backend($1)', [pid]);
    return true;
  }

  /** The server cannot know what the backend left in shared memory, so it ends all others and recovers. */
  async function killBackend(which: string): Promise<boolean> {
    const [pid] = random.sample(await backends(which), 1);
    if (server === undefined || pid === undefined) return false;
    const recovered = server.recovered();
    process.kill(pid, 'SIGKILL');
    await recovered;
    return true;
  }

  async function restart(how: 'fast' | 'immediate' | 'kill', which = 'true'): Promise<boolean> {
    if (server === undefined || (await backends(which)).length === 0) return false;
    await server.end(how);
    if (random.chance(0.5)) await shift.pause(random.integer(0, AWAY_MS));
    await server.start();
    return true;
  }

  /** Ends some of the relays' sessions, or all. */
  async function endSessions(): Promise<void> {
    ended += await database.kill(`outbox-relay ${random.pick(SESSIONS)}`);
  }

  /**
   * Keeps everybody from the table for a while, as a migration does. Readers wait with their streams open, heartbeats come
   * due, and a session that is killed now is killed amid a query.
   */
  async function lockTable(): Promise<void> {
    await database.withClient(async (client) => {
      await client.query('BEGIN');
      await client.query('LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE');
      await shift.pause(random.integer(50, 300));
      if (random.chance(0.7)) await endSessions();
      await shift.pause(random.integer(50, 300));
      await client.query('COMMIT');
    });
  }

  async function stopStandby(): Promise<void> {
    await standby?.end('immediate');
    await shift.pause(random.integer(...STOPPED_MS));
    await standby?.start();
  }

  return {
    groups: {
      sessions: guarded({ 'sessions ended': endSessions }),
      awake: guarded({ 'session of the awake relay ended': () => terminate(AWAKE) }),
      table: guarded({ 'table locked': lockTable }),
      commits: guarded({ 'commit terminated': () => whileAway(() => terminate(COMMITS)) }),
      restarts: guarded({ 'server restarted, fast': () => whileAway(() => restart('fast')) }),
      crashes: guarded({
        'server killed': () => whileAway(() => restart('kill')),
        'server stopped, immediate': () => whileAway(() => restart('immediate')),
        'server stopped, immediate, amid commits': () => whileAway(() => restart('immediate', COMMITS)),
        'backend killed': () => whileAway(() => killBackend('true')),
        'backend killed amid its commit': () => whileAway(() => killBackend(COMMITS)),
      }),
      standby: guarded({ 'standby stopped': stopStandby }),
    },
    wasAway,
    get ended() {
      return ended;
    },
  };
}
