/**
 * A virtual environment as a team has it that ran `pip install "django-outbox-relay[relay]"`: the app from its wheel, the relay inside of it,
 * and Node from PyPI. Programs in it find no other Node.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { APP, EXAMPLE } from './python.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const FOLDER = join(EXAMPLE, '.venv-wheel');
/** What the tests run the project with. */
const SERVERS = ['psycopg[binary]', 'gunicorn', 'uvicorn', 'daphne', 'whitenoise'];

export interface WheelVenv {
  readonly python: string;
  /** A PATH that leads to its programs alone, and to no Node. */
  readonly path: string;
}

/** Makes it where there is none of this state of the code; some ten seconds. */
export function wheelVenv(): WheelVenv {
  const venv = { python: join(FOLDER, 'bin/python'), path: join(FOLDER, 'bin') };
  const stamp = join(FOLDER, 'made-from');
  const [needs, wheelFrom] = fingerprints();
  const there = existsSync(stamp) ? readFileSync(stamp, 'utf8').split('\n') : [];
  if (there[0] === needs && there[1] === wheelFrom) return venv;
  console.log('Making examples/django/.venv-wheel, with what it needs from PyPI …');
  const wheels = mkdtempSync(join(tmpdir(), 'outbox-relay-wheel-'));
  try {
    const run = (command: string, ...args: string[]) =>
      execFileSync(command, args, { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
    run(process.execPath, join(APP, 'build.mjs'), wheels);
    const wheel = join(wheels, readdirSync(wheels).find((name) => name.endsWith('.whl')) ?? '');
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'];
    if (there[0] === needs) {
      run(venv.python, ...pip, '--force-reinstall', '--no-deps', wheel);
    } else {
      rmSync(FOLDER, { recursive: true, force: true });
      run(process.env['PYTHON'] || 'python3', '-m', 'venv', FOLDER);
      run(venv.python, ...pip, `${wheel}[relay]`, ...SERVERS);
    }
    writeFileSync(stamp, `${needs}\n${wheelFrom}`);
  } finally {
    rmSync(wheels, { recursive: true, force: true });
  }
  return venv;
}

/** Of what is installed beside the wheel, and of all that it is made of. */
function fingerprints(): [string, string] {
  const python = process.env['PYTHON'] || 'python3';
  const needs = createHash('sha256').update([FOLDER, python, ...SERVERS].join('\0'));
  needs.update(readFileSync(join(APP, 'pyproject.toml')));
  const hash = createHash('sha256');
  const files = [
    join(ROOT, 'package-lock.json'),
    ...['build.mjs', 'pyproject.toml'].map((name) => join(APP, name)),
    ...filesIn(join(APP, 'outbox')),
    ...filesIn(join(ROOT, 'dist/src')),
    ...filesIn(join(ROOT, 'dist/packages/client')),
    ...filesIn(join(ROOT, 'dist/packages/console')),
  ];
  for (const file of files) hash.update(`${file}\0`).update(readFileSync(file));
  return [needs.digest('hex'), hash.digest('hex')];
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\.(pyc|map)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** Where the venv has what of the wheel. */
export function installedApp({ python }: WheelVenv): string {
  const code = 'import outbox; print(outbox.__file__)';
  return dirname(execFileSync(python, ['-c', code], { cwd: tmpdir(), encoding: 'utf8' }).trim());
}
