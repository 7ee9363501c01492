/**
 * Programs that listen with clients that others have made, in Python, Go and Node. Each prints what the client hands to its
 * application: a line of JSON a message.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Inbox } from './inbox.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const SOURCES = join(ROOT, 'test/clients');
const VENV = join(SOURCES, '.venv');
const GO_BINARIES = join(ROOT, 'dist/test/clients/go');

/** Whether there is a Go to build with. */
export function hasGo(): boolean {
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Makes the virtual environment and builds the programs in Go, where they are not there yet. @throws Error with what failed */
export function prepare(): void {
  const requirements = join(SOURCES, 'python/requirements.txt');
  const stamp = join(VENV, 'made-from');
  const python = process.env['PYTHON'] ?? 'python3';
  const basis = createHash('sha256').update(VENV).update(python).update(readFileSync(requirements)).digest('hex');
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== basis) {
    console.log('Making test/clients/.venv, with what it needs from PyPI …');
    rmSync(VENV, { recursive: true, force: true });
    run(
      python,
      ['-m', 'venv', VENV],
      'Python with its module venv: on Debian and Ubuntu, apt-get install python3-venv',
    );
    run(
      join(VENV, 'bin/python'),
      ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements],
      'packages from PyPI',
    );
    writeFileSync(stamp, basis);
  }
  if (hasGo()) {
    const build = ['-C', join(SOURCES, 'go'), 'build', '-o', `${GO_BINARIES}/`, './...'];
    run('go', build, 'a Go that can build test/clients/go');
  } else console.log('There is no Go on this machine: the clients in Go are skipped.');
}

function run(command: string, args: readonly string[], needed: string): void {
  try {
    execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const said = (error as { stderr?: string }).stderr ?? '';
    throw new Error(`The tests of clients need ${needed}.\n${said}`, { cause: error });
  }
}

/** Makes a client listen at that address; returns how to end it. */
export type Start = (url: string, inbox: Inbox) => Promise<() => unknown>;

export const inPython = (program: string): Start => {
  const path = join(SOURCES, 'python', `${program}.py`);
  return (url, inbox) => start(join(VENV, 'bin/python'), [path, url], inbox);
};

export const inGo =
  (program: string): Start =>
  (url, inbox) =>
    start(join(GO_BINARIES, program), [url], inbox);

export const inNode = (program: string): Start => {
  const path = join(SOURCES, 'node', `${program}.mjs`);
  return (url, inbox) => start(process.execPath, [path, url], inbox);
};

function start(command: string, args: readonly string[], inbox: Inbox): Promise<() => unknown> {
  const child = spawn(command, args, {
    env: { PATH: process.env['PATH'] ?? '', PYTHONDONTWRITEBYTECODE: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.on('error', (error) => inbox.ended(String(error)));
  createInterface(child.stdout).on('line', (line) =>
    inbox.take(JSON.parse(line) as { name: string; id: string; data: string }),
  );
  let said = '';
  child.stderr.on('data', (chunk) => (said = (said + String(chunk)).slice(-2000)));
  child.on('close', (code, signal) => inbox.ended(`it ended: ${signal ?? code ?? ''} ${said}`));
  return Promise.resolve(() => child.kill('SIGKILL'));
}
