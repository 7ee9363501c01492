/**
 * A program of the system's that serves until it is ended: in a folder of its own, on a port of its own, and not as root.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { chown, writeFile } from 'node:fs/promises';
import { basename, delimiter, isAbsolute, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { ExecutionContext } from 'ava';
import { handOver, makeFolder } from './folder.js';

export interface Daemon {
  /** Of its process; undefined while it does not run. */
  readonly pid: number | undefined;
  /** Of its own: its configuration is in it, and what it keeps. */
  readonly folder: string;
  /** Stops the process where it stands, or lets it go on, or has it read its configuration again. */
  signal(name: 'SIGSTOP' | 'SIGCONT' | 'SIGHUP'): void;
  /** Resolves when the process is gone. */
  end(signal: NodeJS.Signals): Promise<void>;
  /** Starts it again, after `end`; resolves when it serves. */
  start(): Promise<void>;
}

export interface DaemonOptions {
  /** Its name, or a path to it. */
  readonly program: string;
  /** What to do where it is missing. Default: Debian's package of that name. */
  readonly install?: string;
  readonly args: (folder: string) => string[];
  /** Its configuration: a file, and what is to stand in it. */
  readonly config: { readonly name: string; readonly text: (folder: string) => string };
  /** The line on its standard error that says that it serves. */
  readonly ready: RegExp;
  /** Whether it runs as whoever runs the tests. Default: never as root, which some of them refuse. */
  readonly asOurselves?: boolean;
  /** Called with each line on its standard error. */
  readonly log?: (line: string) => void;
}

/** Where Debian puts servers, which is not on every user's path. */
const SERVER_PATHS = ['/usr/sbin', '/usr/local/sbin'];

/** Starts it; ends it with the test. @throws when it is not installed. */
export async function startDaemon(
  t: Pick<ExecutionContext, 'teardown'>,
  { program, install = `apt-get install ${program}`, args, config, ready, asOurselves, log }: DaemonOptions,
): Promise<Daemon> {
  const path = find(program, install);
  const folder = await makeFolder(t, basename(program));
  const account = asOurselves ? undefined : await handOver(folder);
  await writeFile(join(folder, config.name), config.text(folder), { mode: 0o600 });
  if (account) await chown(join(folder, config.name), account.uid, account.gid);
  let child: ChildProcess | undefined;

  async function start(): Promise<void> {
    const starting = spawn(path, args(folder), { ...account, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    child = starting;
    let output = '';
    let hasServed = false;
    await new Promise<void>((serves, failed) => {
      createInterface(starting.stderr).on('line', (line) => {
        if (process.env['TEST_LOG'] === '1') console.error(`[${program}] ${line}`);
        log?.(line);
        if (hasServed) return;
        output += `${line}\n`;
        hasServed = ready.test(line);
        if (hasServed) serves();
      });
      starting.once('error', failed);
      starting.once('close', () => failed(new Error(`${program} ended before it served:\n${output}`)));
    });
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    const ending = child;
    child = undefined;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    const gone = once(ending, 'close');
    ending.kill(signal);
    // Else one that is stopped would hear of SIGTERM when it goes on.
    ending.kill('SIGCONT');
    await gone;
  }

  t.teardown(() => end('SIGTERM'));
  await start();
  return {
    folder,
    get pid() {
      return child?.pid;
    },
    signal: (name) => void child?.kill(name),
    end,
    start,
  };
}

function find(program: string, install: string): string {
  if (isAbsolute(program)) return program;
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), ...SERVER_PATHS]) {
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there.
    }
  }
  throw new Error(`${program} is not installed, and these tests need it: ${install}`);
}
