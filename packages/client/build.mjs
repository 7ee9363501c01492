/**
 * Makes the modules that the relay serves, in dist/packages/client: npm run build:client
 *
 * What is newer than its source is left as it is, and what is made anew takes its place at once: tests that read it may be
 * running.
 */
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { minify } from 'terser';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const BUILD = fileURLToPath(import.meta.url);
const FILES = ['outbox-relay.js', 'outbox-relay-htmx.js'].map((name) => `packages/client/${name}`);

const madeAt = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

for (const file of FILES) {
  const [from, to] = [join(ROOT, file), join(ROOT, 'dist', file)];
  if (madeAt(to) > Math.max(madeAt(from), madeAt(BUILD))) continue;
  const { code } = await minify(readFileSync(from, 'utf8'), {
    module: true,
    compress: { passes: 3, ecma: 2022 },
    mangle: true,
  });
  mkdirSync(dirname(to), { recursive: true });
  const unfinished = `${to}.${process.pid}`;
  writeFileSync(unfinished, code);
  renameSync(unfinished, to);
}
