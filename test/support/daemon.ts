/**
 * A program of the system's that serves until it is ended: in a folder of its own, on a port of its own, and never as root.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { chown, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { ExecutionContext } from 'ava';
import { handOver, makeFolder } from './folder.js';

export interface Daemon {
  /** Resolves when the process is gone. */
  end(signal: NodeJS.Signals): Promise<void>;
  /** Starts it again, after `end`; resolves when it serves. */
  start(): Promise<void>;
}

export interface DaemonOptions {
  readonly program: string;
  readonly args: (folder: string) => string[];
  /** Its configuration: a file, and what is to stand in it. */
  readonly config: { readonly name: string; readonly text: (folder: string) => string };
  /** The line on its standard error that says that it serves. */
  readonly ready: RegExp;
}

/** Where Debian puts servers, which is not on every user's path. */
const SERVER_PATHS = ['/usr/sbin', '/usr/local/sbin'];

/** Starts it; ends it with the test. @throws when it is not installed. */
export async function startDaemon(
  t: Pick<ExecutionContext, 'teardown'>,
  { program, args, config, ready }: DaemonOptions,
): Promise<Daemon> {
  const path = find(program);
  const folder = await makeFolder(t, program);
  const account = await handOver(folder);
  await writeFile(join(folder, config.name), config.text(folder), { mode: 0o600 });
  if (account) await chown(join(folder, config.name), account.uid, account.gid);
  let child: ChildProcess | undefined;

  async function start(): Promise<void> {
    const starting = spawn(path, args(folder), { ...account, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    child = starting;
    let output = '';
    await new Promise<void>((serves, failed) => {
      createInterface(starting.stderr).on('line', (line) => {
        if (process.env['TEST_LOG'] === '1') console.error(`[${program}] ${line}`);
        output += `${line}\n`;
        if (ready.test(line)) serves();
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
    await gone;
  }

  t.teardown(() => end('SIGTERM'));
  await start();
  return { end, start };
}

function find(program: string): string {
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), ...SERVER_PATHS]) {
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there.
    }
  }
  throw new Error(`${program} is not installed, and these tests need it: apt-get install ${program}`);
}
