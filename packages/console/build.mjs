/**
 * Makes the console's page, in dist/packages/console: npm run build:console
 *
 * Its modules and the packages in them become one file; their licences go with it. What is newer
 * than its sources is left as it is, and what is made anew takes its place at once: tests that read
 * it may be running.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const BUILD = fileURLToPath(import.meta.url);
const PAGE = join(dirname(BUILD), 'page');
const OUT = join(ROOT, 'dist/packages/console');

const madeAt = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const sources = readdirSync(PAGE).map((name) => join(PAGE, name));
const newest = Math.max(...[...sources, BUILD, join(ROOT, 'package-lock.json')].map(madeAt));

if (madeAt(join(OUT, 'console.js')) <= newest) {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: [join(PAGE, 'main.tsx'), join(PAGE, 'console.css')],
    entryNames: '[name]',
    outdir: OUT,
    write: false,
    bundle: true,
    minify: true,
    format: 'esm',
    target: ['chrome111', 'firefox115', 'safari16.4'],
    jsx: 'automatic',
    jsxImportSource: 'preact',
    legalComments: 'none',
    banner: { js: '// Licences of the packages in this file: licences.txt' },
    logLevel: 'warning',
    metafile: true,
  });
  mkdirSync(OUT, { recursive: true });
  for (const name of ['index.html', 'icon.svg']) write(name, readFileSync(join(PAGE, name)));
  write('licences.txt', licences(Object.keys(metafile.inputs)));
  write('console.css', outputFiles.find(({ path }) => path.endsWith('.css')).contents);
  // Last, as its age is what is asked for.
  write('console.js', outputFiles.find(({ path }) => path.endsWith('.js')).contents);
}

function write(name, contents) {
  const unfinished = join(OUT, `${name}.${process.pid}`);
  writeFileSync(unfinished, contents);
  renameSync(unfinished, join(OUT, name));
}

/** The licence of each package that a file of is in the bundle. */
function licences(inputs) {
  const folders = new Set(inputs.map((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]));
  folders.delete(undefined);
  const parts = [...folders].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'));
    const text = readFileSync(join(ROOT, folder, 'LICENSE'), 'utf8').trim();
    return `${name} ${version} (${license})\n\n${text}`;
  });
  return `console.js has these packages in it.\n\n${parts.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`;
}
