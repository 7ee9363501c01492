/**
 * A feeder as a process of its own, to which everything may happen: it is killed, rolled and stopped where it stands, and between it
 * and its database, and it and NATS, there are networks that fail. Whenever it ends it is started again, as by a supervisor.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { Party } from './fate.js';
import { lineOf, networkFaults } from './network-faults.js';
import { freePort } from './port.js';
import { startProxy, type Proxy } from './proxy.js';
import type { Environment } from './relay.js';
import type { Exposure } from './world.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

/** The longest that it stays away, in milliseconds. */
const AWAY_MS = 1_500;
const RESTART_MS = 200;
/** How long it is stopped where it stands: shorter and longer than others take to notice. */
const STOPPED_MS = [20, 300, 2_000, 8_000] as const;
/** For how long answers of NATS get lost, in milliseconds. */
const MUTE_MS = [10, 200, 3_000] as const;
/** It ends in SHUTDOWN_SECONDS and its grace. */
const END_MS = 30_000;
const WORKS_MS = 60_000;
const POLL_MS = 100;

export interface ExposedFeeder extends Party {
  /** Ends it; it stays away. Resolves when it is gone. */
  end(how: 'SIGKILL' | 'SIGTERM'): Promise<void>;
  /** Starts it again, after `end`. */
  start(): void;
}

/** @param env has DATABASE_URL and NATS_URL, straight to them. */
export async function startExposedFeeder(
  t: Pick<ExecutionContext, 'teardown'>,
  name: string,
  env: Environment & { readonly DATABASE_URL: string; readonly NATS_URL: string },
  { random, shift, signal, log }: Exposure,
): Promise<ExposedFeeder> {
  const database = await startProxy(t, env.DATABASE_URL);
  const servers: Proxy[] = [];
  for (const url of env.NATS_URL.split(',')) servers.push(await startProxy(t, url));
  const metricsPort = await freePort();
  const complaints: string[] = [];
  let child: ChildProcess | undefined;
  let isAway = false;
  let hasEnded = false;
  let [failedStarts, forcedEnds] = [0, 0];
  let latestError = '';

  function run(): void {
    const starting = spawn(process.execPath, [MAIN, 'feed'], {
      env: {
        PATH: process.env['PATH'] ?? '',
        SHUTDOWN_SECONDS: '2',
        ...env,
        DATABASE_URL: database.url,
        NATS_URL: servers.map(({ url }) => url).join(),
        METRICS_PORT: String(metricsPort),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child = starting;
    for (const stream of [starting.stdout, starting.stderr]) {
      createInterface(stream).on('line', (line) => {
        log(line);
        if (process.env['TEST_LOG'] === '1') console.error(`[${name}] ${line}`);
        if (/^\w*error: /i.test(line)) latestError = line;
        if (line.startsWith('Node.js v')) complaints.push(`${name} crashed: ${latestError}`);
      });
    }
    starting.once('exit', () => {
      if (isAway || hasEnded) return;
      // It may say that something is away, and end.
      failedStarts += 1;
      setTimeout(() => {
        if (!isAway && !hasEnded && child === starting) run();
      }, RESTART_MS);
    });
  }

  async function restart(how: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    await leave(how);
    await shift.pause(random.integer(0, AWAY_MS));
    comeBack();
  }

  async function leave(how: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    isAway = true;
    await end(how);
  }

  function comeBack(): void {
    isAway = false;
    if (!hasEnded) run();
  }

  async function end(how: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const ending = child;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    const gone = once(ending, 'exit');
    ending.kill(how);
    const late = setTimeout(() => {
      forcedEnds += 1;
      if (how === 'SIGTERM') complaints.push(`${name} did not end within ${END_MS / 1000} s of SIGTERM`);
      ending.kill('SIGKILL');
    }, END_MS);
    await gone;
    clearTimeout(late);
  }

  async function stopForAWhile(): Promise<void> {
    const stopped = child;
    stopped?.kill('SIGSTOP');
    await shift.pause(random.integer(1, random.pick(STOPPED_MS)));
    stopped?.kill('SIGCONT');
  }

  /** What it appends is accepted, and it does not hear of it. */
  async function loseAnswers(): Promise<void> {
    for (const server of servers) server.mute();
    await shift.pause(random.integer(1, random.pick(MUTE_MS)));
    for (const server of servers) server.cut();
  }

  run();
  signal.addEventListener('abort', () => (hasEnded = true));
  t.teardown(async () => {
    hasEnded = true;
    await end('SIGKILL');
  });

  return {
    where: name,
    faults: {
      feeders: {
        'feeder killed': () => restart('SIGKILL'),
        'feeder rolled': () => restart('SIGTERM'),
        'feeder stopped where it stood': stopForAWhile,
      },
      'networks of feeders': {
        'answers to a feeder lost': loseAnswers,
        ...networkFaults(lineOf(servers, random), "feeder's NATS", random, shift),
        ...networkFaults(database, "feeder's database", random, shift),
      },
    },
    end: leave,
    start: comeBack,
    heal() {
      for (const proxy of [database, ...servers]) {
        proxy.heal();
        proxy.cut();
      }
    },
    async works() {
      let trouble = '';
      for (const end = performance.now() + WORKS_MS; performance.now() < end; await delay(POLL_MS)) {
        try {
          const response = await fetch(`http://127.0.0.1:${metricsPort}/readyz`);
          trouble = await response.text();
          if (response.ok) return;
        } catch (error) {
          trouble = String(error);
        }
      }
      complaints.push(`${name} is not ready though all is healed: ${trouble}`);
    },
    complaints,
    figures: () => [
      [`ends of ${name} by itself`, failedStarts],
      [`times that ${name} had to be killed to end`, forcedEnds],
    ],
  };
}
