/**
 * .ci/release: what it refuses. What it makes is made by its dry run, a step of its own.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'ava';
import { ROOT } from './support/docs.js';

const release = (...args: string[]) => spawnSync(join(ROOT, '.ci/release'), args, { encoding: 'utf8' });

test('a release of a version that places disagree on is refused, with each of them, before anything is made', (t) => {
  const { status, stdout, stderr } = release('99.0.0', '--dry-run');
  t.is(status, 1);
  t.is(stdout, '');
  for (const file of ['package.json', 'package-lock.json', 'packages/django/pyproject.toml', 'CHANGELOG.md']) {
    t.regex(stderr, new RegExp(`^${file} .*99\\.0\\.0`, 'm'));
  }
});

test('what is no version is answered with how to say one', (t) => {
  for (const args of [[], ['v0.1.0'], ['next'], ['0.1.0', 'now']]) {
    const { status, stderr } = release(...args);
    t.is(status, 1, args.join(' '));
    t.is(stderr, 'Which version, as in package.json? .ci/release 0.2.0 [--dry-run]\n');
  }
});
