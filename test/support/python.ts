/**
 * Python as the Django suite needs it: virtual environments with the Django versions that are supported, and programs run in them.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export const EXAMPLE = fileURLToPath(new URL('../../../examples/django/', import.meta.url));
export const APP = fileURLToPath(new URL('../../../examples/django/outbox/', import.meta.url));

interface VenvModule {
  pythonVersion(): number[];
  ensureVenv(name: string, args: readonly string[], extras?: readonly string[]): string;
}

// The example's own, which is JavaScript: it runs from a checkout without a build of its own.
const { ensureVenv, pythonVersion } = (await import(`${EXAMPLE}venv.mjs`)) as VenvModule;

/** The interpreter with the oldest Django that is supported, the LTS, which is the example's too. */
export function oldestDjango(): string {
  return ensureVenv('.venv', ['-r', 'requirements.txt'], ['-r', 'requirements-dev.txt']);
}

/** The one with the newest Django; undefined where this Python is too old for any but the oldest. */
export function newestDjango(): string | undefined {
  const [major = 0, minor = 0] = pythonVersion();
  // Django 6.0 and later.
  if (major === 3 && minor < 12) return undefined;
  return ensureVenv('.venv-newest', ['Django>=6.0', 'psycopg[binary]', 'PyJWT', '-r', 'requirements-dev.txt']);
}

/** Makes both; where they are there it takes no time. @throws Error that says what is missing */
export function prepare(): void {
  oldestDjango();
  newestDjango();
}

export interface PythonOutcome {
  readonly code: number | null;
  /** What it printed, on both outputs. */
  readonly output: string;
}

/** Runs it to its end. */
export async function runPython(
  python: string,
  args: readonly string[],
  options: { cwd: string; env?: Readonly<Record<string, string>> },
): Promise<PythonOutcome> {
  const child = spawn(python, args, {
    cwd: options.cwd,
    env: { PATH: process.env['PATH'] ?? '', PYTHONDONTWRITEBYTECODE: '1', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}
