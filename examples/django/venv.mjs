/**
 * A virtual environment for Python, made where there is none, and used again while what it was made from is the same.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const APP = fileURLToPath(new URL('../../packages/django/', import.meta.url));
const OLDEST_PYTHON = [3, 10];

/** What the user has to mend: shown as it is. */
export class PythonError extends Error {
  name = 'PythonError';
}

/** The version of that Python, by default the one that venvs are made with, as in [3, 12]. @throws PythonError */
export function pythonVersion(python = ownPython()) {
  const wanted = OLDEST_PYTHON.join('.');
  let text;
  try {
    text = run(python, ['-c', 'import sys, venv, ensurepip; print(*sys.version_info[:2])']);
  } catch (error) {
    throw new PythonError(
      `Python ${wanted} or newer with its venv module is needed: on Debian and Ubuntu, apt-get install python3-venv. ` +
        `PYTHON says which to take, if it is not python3. (${String(error.message).trim().split('\n').at(-1)})`,
    );
  }
  const version = text.trim().split(' ').map(Number);
  if (version[0] < OLDEST_PYTHON[0] || (version[0] === OLDEST_PYTHON[0] && version[1] < OLDEST_PYTHON[1])) {
    throw new PythonError(`Python ${wanted} or newer is needed, and ${python} is ${version.join('.')}. Set PYTHON.`);
  }
  return version;
}

/**
 * Installs into examples/django/NAME what `args` name, as pip takes it; and `extras`, which do not make the venv another for who
 * can do without them.
 *
 * @param options `python` makes the venv; `hasApp` (true): the app `outbox` is there, too, as it stands in this
 *     repository, and with it the relay of this repository
 * @returns the path of the venv's python
 * @throws PythonError
 */
export function ensureVenv(name, args, extras = [], { python = ownPython(), hasApp = true } = {}) {
  const version = pythonVersion(python);
  const folder = join(HERE, name);
  const interpreter = join(folder, 'bin/python');
  const stamp = join(folder, 'made-from');
  const app = hasApp ? ['-e', APP] : [];
  const basis = fingerprint([folder, version.join('.'), ...args, ...app]);
  const wanted = [basis, ...(extras.length > 0 ? [fingerprint([basis, ...extras])] : [])];
  const there = existsSync(stamp) ? readFileSync(stamp, 'utf8').split('\n') : [];
  if (wanted.every((each) => there.includes(each))) return interpreter;
  console.log(`Making examples/django/${name}, with what it needs from PyPI …`);
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'];
  try {
    if (!there.includes(basis)) {
      rmSync(folder, { recursive: true, force: true });
      run(python, ['-m', 'venv', folder]);
      run(interpreter, [...pip, ...args, ...app]);
    }
    if (extras.length > 0) run(interpreter, [...pip, ...extras]);
  } catch (error) {
    throw new PythonError(`The virtual environment could not be made:\n${error.stderr ?? error.message}`);
  }
  writeFileSync(stamp, wanted.join('\n'));
  return interpreter;
}

/** Of the arguments and of what they lead to. */
function fingerprint(parts) {
  const hash = createHash('sha256').update(parts.join('\0'));
  const requirements = readdirSync(HERE).filter((file) => /^requirements.*\.txt$/.test(file));
  const files = [join(APP, 'pyproject.toml'), ...requirements.sort().map((file) => join(HERE, file))];
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest('hex');
}

function ownPython() {
  return process.env.PYTHON || 'python3';
}

function run(command, args) {
  // Of Pythons that pyenv has, only the one that it is told of answers to its name.
  const [, named] = /^python(3\.\d+)$/.exec(command) ?? [];
  const env = named ? { ...process.env, PYENV_VERSION: named } : process.env;
  return execFileSync(command, args, { cwd: HERE, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
