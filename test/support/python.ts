/**
 * Python as the Django suite needs it: virtual environments with the Django versions that are supported, and programs run in them.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export const EXAMPLE = fileURLToPath(new URL('../../../examples/django/', import.meta.url));
export const APP = fileURLToPath(new URL('../../../packages/django/', import.meta.url));

interface VenvModule {
  pythonVersion(python: string): number[];
  ensureVenv(
    name: string,
    args: readonly string[],
    extras?: readonly string[],
    options?: { python?: string | undefined; hasApp?: boolean },
  ): string;
}

// The example's own, which is JavaScript: it runs from a checkout without a build of its own.
const { ensureVenv, pythonVersion } = (await import(`${EXAMPLE}venv.mjs`)) as VenvModule;

/** What Django 6.0 and later need. */
const NEWER_PYTHON_MINOR = 12;
const NEWER_PYTHONS = ['python3.15', 'python3.14', 'python3.13', 'python3.12'];

/** The interpreter of the example, which has Django's LTS. */
export function exampleDjango(): string {
  return ensureVenv('.venv', ['-r', 'requirements.txt'], ['-r', 'requirements-dev.txt']);
}

/** The one with the oldest Django that is supported, and psycopg 2. The app's tests have the app from where they are. */
export function oldestDjango(): string {
  const args = ['Django~=4.2.0', 'psycopg2-binary', 'PyJWT', '-r', 'requirements-dev.txt'];
  return ensureVenv('.venv-oldest', args, [], { hasApp: false });
}

/**
 * The one with the newest Django, psycopg 3, and what recipes are tested with; undefined where no Python on this machine is new
 * enough.
 */
export function newestDjango(): string | undefined {
  const python = [process.env['PYTHON'] || 'python3', ...NEWER_PYTHONS].find(isNewer);
  if (python === undefined) return undefined;
  const args = [
    'Django>=6.0',
    'psycopg[binary]',
    'PyJWT',
    '-r',
    'requirements-dev.txt',
    '-r',
    'requirements-recipes.txt',
  ];
  return ensureVenv('.venv-newest', args, [], { python, hasApp: false });
}

function isNewer(python: string): boolean {
  try {
    const [major = 0, minor = 0] = pythonVersion(python);
    return major > 3 || minor >= NEWER_PYTHON_MINOR;
  } catch {
    return false;
  }
}

/** Makes all; where they are there it takes no time. @throws Error that says what is missing */
export function prepare(): void {
  exampleDjango();
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
