/**
 * What the benchmark of NATS runs: feeders and relays as processes, and which cores they and PostgreSQL have.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startObservedRelay, type ObservedRelay } from '../../test/support/observed-relay.js';
import { freePort } from '../../test/support/port.js';
import { withClient } from '../publish/databases.js';
import { cpuSeconds } from '../usage.js';

export const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));
const READY_MS = 60_000;

export interface Feeder {
  start(): Promise<void>;
  /** Undefined while it does not run. */
  readonly pid: number | undefined;
  signal(name: 'SIGSTOP' | 'SIGCONT'): void;
  /** The last position that it says it has fed. */
  fed(): Promise<bigint>;
  stop(): Promise<void>;
}

/** One that does not run yet. */
export async function createFeeder(env: Readonly<Record<string, string>>): Promise<Feeder> {
  const port = await freePort();
  let child: ChildProcess | undefined;
  return {
    async start() {
      if (child !== undefined) return;
      child = spawn(process.execPath, [MAIN, 'feed'], {
        env: { PATH: process.env['PATH'] ?? '', ...env, METRICS_PORT: String(port) },
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      await ready(child, `http://127.0.0.1:${port}/readyz`);
    },
    get pid() {
      return child?.pid;
    },
    signal: (name) => void child?.kill(name),
    async fed() {
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      return BigInt(/^outbox_relay_feeder_position (\d+)/m.exec(text)?.[1] ?? 0);
    },
    async stop() {
      const ending = child;
      child = undefined;
      if (ending === undefined) return;
      const gone = once(ending, 'exit');
      ending.kill('SIGTERM');
      ending.kill('SIGCONT');
      await gone;
    },
  };
}

export async function startAll(feeders: readonly Feeder[]): Promise<void> {
  await Promise.all(feeders.map((feeder) => feeder.start()));
}

export async function stopAll(feeders: readonly Feeder[]): Promise<void> {
  await Promise.all(feeders.map((feeder) => feeder.stop()));
}

async function ready(child: ChildProcess, url: string): Promise<void> {
  for (const end = performance.now() + READY_MS; performance.now() < end; await delay(100)) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    const isReady = await fetch(url).then(
      (response) => response.ok,
      () => false,
    );
    if (isReady) return;
  }
  throw new Error(`${url} does not say that it is ready`);
}

/** As processes of one port. */
export async function startRelays(
  databaseUrl: string,
  count: number,
  env: Readonly<Record<string, string>>,
): Promise<ObservedRelay | undefined> {
  if (count === 0) return undefined;
  const relay = await startObservedRelay(
    { DATABASE_URL: databaseUrl, PUBLIC_CHANNELS: '*', LOG_LEVEL: 'info', WORKERS: String(count), ...env },
    { collects: false },
  );
  for (const end = performance.now() + READY_MS; count > 1 && !relay.output.includes('all workers serve');) {
    if (performance.now() > end) throw new Error(`not all of ${count} relays serve:\n${relay.output}`);
    await delay(100);
  }
  // What they do at first is over.
  await delay(3_000);
  return relay;
}

/** Seconds. What is there when `act` is over counts. */
export async function cpuOfPostgres(databaseUrl: string, act: () => Promise<void>): Promise<number> {
  const before = new Map((await pidsOfPostgres(databaseUrl)).map((pid) => [pid, cpuSeconds(pid)]));
  await act();
  return (await pidsOfPostgres(databaseUrl)).reduce((sum, pid) => sum + cpuSeconds(pid) - (before.get(pid) ?? 0), 0);
}

/** Of the postmaster, and of all that it has started. */
export async function pidsOfPostgres(databaseUrl: string): Promise<number[]> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const own = rows[0]?.pid ?? 0;
    const parent = Number(readFileSync(`/proc/${own}/stat`, 'utf8').split(') ')[1]?.split(' ')[1]);
    return [parent, ...childrenOf(parent).filter((pid) => pid !== own)];
  });
}

/** Of one that has ended: none. */
export function childrenOf(pid: number): number[] {
  const path = `/proc/${pid}/task/${pid}/children`;
  return existsSync(path) ? readFileSync(path, 'utf8').split(' ').filter(Boolean).map(Number) : [];
}

/** Gives a process and its children these cores. Sessions of PostgreSQL may end meanwhile. */
export async function pin(pid: number, cores: string): Promise<void> {
  for (const each of [pid, ...childrenOf(pid)]) {
    try {
      await promisify(execFile)('taskset', ['-acp', cores, String(each)]);
    } catch (error) {
      if (existsSync(`/proc/${each}`)) throw error;
    }
  }
}
