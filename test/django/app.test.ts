/**
 * The Django app's own tests, by Django's runner and by pytest, on both ends of what is supported; and what holds its code together.
 */
import test, { type ExecutionContext } from 'ava';
import { serverUrl } from '../support/database.js';
import { APP, EXAMPLE, exampleDjango, newestDjango, oldestDjango, runPython } from '../support/python.js';

const example = exampleDjango();
const oldest = oldestDjango();
const newest = newestDjango();

const PYTEST = ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests'];

async function pass(t: ExecutionContext, python: string, args: readonly string[], server: 'oldest' | 'newest') {
  const { code, output } = await runPython(python, args, { cwd: APP, env: { DATABASE_URL: serverUrl(server) } });
  t.is(code, 0, output);
  t.log(/Ran \d+ tests.*/.exec(output)?.[0] ?? output.trim().split('\n').at(-1));
}

test.serial(
  'the app passes its tests by manage.py test, on Django 4.2, psycopg 2 and the oldest PostgreSQL',
  async (t) => {
    await pass(t, oldest, ['-m', 'django', 'test', '--settings', 'tests.settings'], 'oldest');
  },
);

test.serial('the app passes its tests by pytest, on the newest Django, psycopg 3 and PostgreSQL', async (t) => {
  if (newest === undefined)
    t.log('Django 6.0 needs Python 3.12, which is not on this machine: the LTS is tested instead.');
  await pass(t, newest ?? example, PYTEST, 'newest');
});

const typed = newest === undefined ? test.serial.skip : test.serial;
typed("the app's types are as mypy wants them, strictly and with Django's stubs", async (t) => {
  await pass(t, newest ?? example, ['-m', 'mypy', '--cache-dir', '/dev/null', 'outbox'], 'newest');
});

test.serial("the Python code is as ruff wants it, and the app's SQL as migrations/ has it", async (t) => {
  for (const args of [
    ['check', '--no-cache'],
    ['format', '--check', '--no-cache'],
  ]) {
    for (const cwd of [EXAMPLE, APP]) {
      const { code, output } = await runPython(example, ['-m', 'ruff', ...args, '.'], { cwd });
      t.is(code, 0, output);
    }
  }
  const { code, output } = await runPython(process.execPath, ['sync.mjs', '--check'], { cwd: APP });
  t.is(code, 0, output);
});
