/**
 * Builds what `npm start` and `npm run migrate` run: the relay and the demo. `npm run build` builds the tests and the bench
 * as well, and checks all types, which takes ten times as long; this only takes the types out of files that have changed.
 * What it makes is what that makes, but for source maps and declarations.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const FOLDERS = ['src', 'packages/demo', 'packages/embedded-postgres'];
const CLIENT = ['outbox-relay.js', 'outbox-relay-htmx.js'].map((name) => `packages/client/${name}`);
const CONSOLE = 'packages/console';

const isStale = (from, to) => {
  const made = statSync(join(ROOT, to), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return made < statSync(join(ROOT, from)).mtimeMs;
};
const sources = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => [join(folder, name), join('dist', folder, name.replace(/\.ts$/, '.js'))]),
).filter(([from, to]) => isStale(from, to));
const isClientStale = CLIENT.some((path) => isStale(path, join('dist', path)));
const isConsoleStale = readdirSync(join(ROOT, CONSOLE, 'page')).some((name) =>
  isStale(join(CONSOLE, 'page', name), join('dist', CONSOLE, 'console.js')),
);

if (sources.length > 0 || isClientStale || isConsoleStale) await build();

async function build() {
  const began = performance.now();
  process.stdout.write('Building the relay and the demo …');
  const { default: ts } = await import('typescript').catch(() => {
    console.error('\nWhat builds them is not installed. Run: npm ci');
    process.exit(1);
  });
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT);
  for (const [from, to] of sources) {
    const { outputText } = ts.transpileModule(readFileSync(join(ROOT, from), 'utf8'), {
      fileName: from,
      // A file by itself does not tell that its package is one of ES modules.
      compilerOptions: { ...options, module: ts.ModuleKind.ESNext, sourceMap: false, declaration: false },
    });
    mkdirSync(dirname(join(ROOT, to)), { recursive: true });
    writeFileSync(join(ROOT, to), outputText);
  }
  for (const script of [isClientStale && 'build:client', isConsoleStale && 'build:console'].filter(Boolean)) {
    const { status } = spawnSync('npm', ['run', '--silent', script], { cwd: ROOT, stdio: 'inherit' });
    if (status !== 0) process.exit(1);
  }
  const seconds = (performance.now() - began) / 1000;
  console.log(seconds < 1 ? '' : ` ${seconds.toFixed(1)} s`);
}
