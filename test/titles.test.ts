/**
 * The tests' own rules: what a list of their titles says, and that each of them asserts something.
 */
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const FOLDER = fileURLToPath(new URL('../../test/', import.meta.url));
const TITLE = /\btest(?:\.serial|\.failing|\.skip)*\(\s*(['"`])((?:\\.|(?!\1).)*)\1/gs;

async function sources(): Promise<{ path: string; text: string }[]> {
  const paths = await readdir(FOLDER, { recursive: true });
  const tests = paths.filter((path) => path.endsWith('.test.ts'));
  return Promise.all(tests.map(async (path) => ({ path, text: await readFile(FOLDER + path, 'utf8') })));
}

test('no two tests have one title, in whatever files they are', async (t) => {
  const found = new Map<string, string[]>();
  for (const { path, text } of await sources()) {
    // Of titles that a loop makes, what they have in common; ava compares those of one file itself.
    for (const [, , title = ''] of text.matchAll(TITLE)) {
      const common = title.replaceAll(/\$\{[^}]*\}/g, '…');
      found.set(common, [...(found.get(common) ?? []), path]);
    }
  }
  t.true(found.size > 400, `${found.size} titles`);
  t.deepEqual(
    [...found].filter(([, paths]) => paths.length > 1),
    [],
  );
});

test('no test counts as passed for having come to its end', async (t) => {
  const idle = (await sources()).filter(({ text }) => text.includes('t.pass' + '('));
  t.deepEqual(
    idle.map(({ path }) => path),
    [],
  );
});
