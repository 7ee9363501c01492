/**
 * The relay that is attacked, as a deployment has it: the command in a process of its own, started again when it dies, on the
 * same ports. And what it uses, looked at several times a second.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { residentBytes } from '../usage.js';

export interface Target {
  readonly url: string;
  readonly metricsUrl: string;
  /** Times that it ended by itself. */
  readonly deaths: number;
  /** The most of each since the last call. */
  usage(): Usage;
  stop(): Promise<void>;
}

export interface Usage {
  readonly residentBytes: number;
  readonly externalBytes: number;
  /** With the database. */
  readonly sessions: number;
}

export interface TargetOptions {
  readonly databaseUrl: string;
  readonly ports: { readonly events: number; readonly metrics: number };
  readonly env: Readonly<Record<string, string>>;
}

const LOOK_MS = 250;
/** What it has to end in order, and to start. */
const ENDS_MS = 5000;
const STARTS_MS = 60_000;
const RESTART_PAUSE_MS = 500;

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

export async function startTarget({ databaseUrl, ports, env }: TargetOptions): Promise<Target> {
  const url = `http://127.0.0.1:${ports.events}`;
  const metricsUrl = `http://127.0.0.1:${ports.metrics}`;
  const server = new pg.Client({ connectionString: databaseUrl, application_name: 'bench' });
  server.on('error', () => undefined);
  await server.connect();
  let child: ChildProcess | undefined;
  let isStopping = false;
  let deaths = 0;
  let most = { residentBytes: 0, externalBytes: 0, sessions: 0 };

  async function start(): Promise<void> {
    const starting = spawn(process.execPath, [MAIN], {
      env: {
        PATH: process.env['PATH'] ?? '',
        PUBLIC_CHANNELS: '*',
        LOG_LEVEL: 'warn',
        RETRY_SECONDS: '0.5',
        SHUTDOWN_SECONDS: '1',
        ...env,
        DATABASE_URL: databaseUrl,
        PORT: String(ports.events),
        METRICS_PORT: String(ports.metrics),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child = starting;
    const latest: string[] = [];
    for (const output of [starting.stdout, starting.stderr]) {
      createInterface(output).on('line', (line) => {
        if (process.env['BENCH_LOG'] === '1') console.error(line);
        latest.splice(0, latest.length - 9);
        latest.push(line);
      });
    }
    starting.once('exit', () => {
      if (isStopping) return;
      deaths += 1;
      // A supervisor's patience has no end, a benchmark's has: it is seen in what is measured.
      setTimeout(() => {
        if (!isStopping) void start().catch(() => undefined);
      }, RESTART_PAUSE_MS);
    });
    const isAlive = () => starting.exitCode === null && starting.signalCode === null;
    for (const end = performance.now() + STARTS_MS; performance.now() < end && isAlive();) {
      const isServing = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(ENDS_MS) }).then(
        (response) => response.ok,
        () => false,
      );
      if (isServing) return;
      await delay(50);
    }
    throw new Error(`the relay did not start:\n${latest.join('\n')}`);
  }

  async function look(): Promise<void> {
    const resident = memoryOf(child?.pid);
    // Only where it answers at once: it is not to be measured how it copes with us.
    const text = await fetch(`${metricsUrl}/metrics`, { signal: AbortSignal.timeout(LOOK_MS * 4) }).then(
      (response) => response.text(),
      () => '',
    );
    const external = Number(/^nodejs_external_memory_bytes(?:\{.*\})? (\S+)$/m.exec(text)?.[1] ?? 0);
    const { rows } = await server.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM pg_stat_activity WHERE application_name LIKE 'outbox-relay%' AND datname = current_database()`,
    );
    most = {
      residentBytes: Math.max(most.residentBytes, resident),
      externalBytes: Math.max(most.externalBytes, external),
      sessions: Math.max(most.sessions, rows[0]?.count ?? 0),
    };
  }

  async function lookAgainAndAgain(): Promise<void> {
    while (!isStopping) {
      await look().catch(() => undefined);
      await delay(LOOK_MS);
    }
  }

  try {
    await start();
  } catch (error) {
    isStopping = true;
    child?.kill('SIGKILL');
    await server.end();
    throw error;
  }
  const looking = lookAgainAndAgain();
  return {
    url,
    metricsUrl,
    get deaths() {
      return deaths;
    },
    usage() {
      const latest = most;
      most = { residentBytes: memoryOf(child?.pid), externalBytes: 0, sessions: 0 };
      return latest;
    },
    async stop() {
      isStopping = true;
      const ending = child;
      if (ending && ending.exitCode === null && ending.signalCode === null) {
        const gone = once(ending, 'exit');
        ending.kill('SIGTERM');
        const timer = setTimeout(() => ending.kill('SIGKILL'), ENDS_MS);
        await gone;
        clearTimeout(timer);
      }
      await looking;
      // What it left running in the server would be in the next one's way.
      await server.query(
        `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE application_name LIKE 'outbox-relay%' AND datname = current_database()`,
      );
      await server.end();
    },
  };
}

/** 0 where the process is gone. */
function memoryOf(pid: number | undefined): number {
  try {
    return pid === undefined ? 0 : residentBytes(pid) || 0;
  } catch {
    return 0;
  }
}
