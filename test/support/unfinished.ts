/**
 * Notes which test files have not come to their end, and what each waits for: ava ends one whose process does not exit a minute
 * after its last test, and in TAP says neither that nor which it was. The runner reads the notes, test/run.ts.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const SUFFIX = '.unfinished';
const NOTED_EVERY_MS = 5000;

/** Ava calls it before it loads a test file: notes in the folder of the tests what the file waits for, until it has ended. */
export default function noteUntilTheEnd(): void {
  const folder = process.env['TEST_FOLDER'];
  if (folder === undefined) return;
  const file = fileURLToPath(test.meta.file);
  const path = join(folder, `${basename(file)}${SUFFIX}`);
  const note = () => writeFileSync(path, `${relative(process.cwd(), file)}: ${waitsFor()}\n`);
  note();
  setInterval(note, NOTED_EVERY_MS).unref();
  process.once('exit', () => rmSync(path, { force: true }));
}

/** What keeps the process, as Node names it: `2 × PipeWrap, ProcessWrap`. */
function waitsFor(): string {
  const counts = new Map<string, number>();
  for (const name of process.getActiveResourcesInfo()) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => (count === 1 ? name : `${count} × ${name}`)).join(', ') || 'nothing';
}
