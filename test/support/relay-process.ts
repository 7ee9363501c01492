/**
 * A relay as its users run it: a process of its own, that can be ended in every way and started again on the same port.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { Environment } from './relay.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

export interface RelayProcess {
  /** The same after every restart. */
  readonly url: string;
  /** Where its metrics are, if they have a port of their own. */
  readonly metricsUrl: string | undefined;
  /** Ends the process and resolves when it is gone: with its exit code, or the signal that ended it. */
  end(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL'): Promise<number | string | null>;
  /** Stops the process where it stands, or lets it go on. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void;
  /** Process ids of its workers, where it has some. */
  workers(): Promise<number[]>;
  /** Starts it again, after `end`, and resolves when it serves. */
  start(): Promise<void>;
}

/**
 * Starts a relay with all channels open; resolves when it serves. It ends with the test.
 *
 * @param log called with each line that it writes. Default: errors go to ours.
 */
export async function startRelayProcess(
  t: Pick<ExecutionContext, 'teardown'>,
  databaseUrl: string,
  env: Environment = {},
  log?: (line: string) => void,
): Promise<RelayProcess> {
  let child: ChildProcess | undefined;
  let url: string | undefined;
  let metricsUrl: string | undefined;
  // The first worker serves while the others may still fail, and with them the start.
  const served = Number(env['WORKERS'] ?? 1) > 1 ? 'all workers serve' : 'listening';

  async function start(): Promise<void> {
    const starting = spawn(process.execPath, [MAIN], {
      env: {
        PATH: process.env['PATH'] ?? '',
        PUBLIC_CHANNELS: '*',
        RETRY_SECONDS: '0.1',
        SHUTDOWN_SECONDS: '2',
        ...env,
        DATABASE_URL: databaseUrl,
        PORT: url === undefined ? (env['PORT'] ?? '0') : new URL(url).port,
      },
      stdio: ['ignore', 'pipe', log ? 'pipe' : 'inherit'],
    });
    child = starting;
    if (log && starting.stderr) createInterface(starting.stderr).on('line', log);
    let address: string | undefined;
    url = await new Promise<string>((resolve, reject) => {
      starting.once('error', reject);
      starting.once('exit', (code, signal) =>
        reject(new Error(`the relay ended early: ${signal ?? `exit code ${String(code)}`}`)),
      );
      createInterface(starting.stdout as Readable).on('line', (line) => {
        log?.(line);
        if (process.env['TEST_LOG'] === '1') console.error(line);
        const entry = JSON.parse(line) as { msg?: string; url?: string };
        if (entry.msg === 'metrics') metricsUrl = entry.url;
        if (entry.msg === 'listening' && entry.url !== undefined) address = entry.url;
        if (entry.msg === served && address !== undefined) resolve(address);
      });
    });
  }

  async function end(signal: NodeJS.Signals): Promise<number | string | null> {
    const ending = child;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return null;
    const gone = once(ending, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    ending.kill(signal);
    const [code, by] = await gone;
    return code ?? by;
  }

  async function workers(): Promise<number[]> {
    const pid = String(child?.pid ?? '');
    const list = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return list.split(' ').filter(Boolean).map(Number);
  }

  t.teardown(() => end('SIGKILL'));
  await start();
  return { url: url ?? '', metricsUrl, end, signal: (name) => void child?.kill(name), workers, start };
}
