/**
 * The Django app's own tests, by Django's runner and by pytest, on both ends of what is supported; and what holds its code together.
 */
import test from 'ava';
import { serverUrl } from '../support/database.js';
import { APP, EXAMPLE, newestDjango, oldestDjango, runPython } from '../support/python.js';

const oldest = oldestDjango();
const newest = newestDjango();

test.serial('the app passes its tests by manage.py test, on the oldest Django and PostgreSQL', async (t) => {
  const args = ['-m', 'django', 'test', '--settings', 'tests.settings'];
  const { code, output } = await runPython(oldest, args, { cwd: APP, env: { DATABASE_URL: serverUrl('oldest') } });
  t.is(code, 0, output);
  t.log(/Ran \d+ tests.*/.exec(output)?.[0]);
});

test.serial('the app passes its tests by pytest, on the newest Django for this Python and PostgreSQL', async (t) => {
  const args = ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests'];
  const { code, output } = await runPython(newest ?? oldest, args, {
    cwd: APP,
    env: { DATABASE_URL: serverUrl('newest') },
  });
  t.is(code, 0, output);
  t.log(output.trim().split('\n').at(-1));
});

test.serial("the Python code is as ruff wants it, and the app's SQL as migrations/ has it", async (t) => {
  for (const args of [
    ['check', '--no-cache'],
    ['format', '--check', '--no-cache'],
  ]) {
    const { code, output } = await runPython(oldest, ['-m', 'ruff', ...args, '.'], { cwd: EXAMPLE });
    t.is(code, 0, output);
  }
  const { code, output } = await runPython(process.execPath, ['outbox/sync.mjs', '--check'], { cwd: EXAMPLE });
  t.is(code, 0, output);
});
