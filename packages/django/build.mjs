/**
 * Makes the wheel and the sdist of the Django app, with the built relay inside: npm run build:django
 *
 *     node packages/django/build.mjs [FOLDER]     after `npm run build`; default: packages/django/dist
 *
 * The relay and its dependencies become a few files by esbuild: 4 MB instead of 38 in 4,200 files, and a start in half of the time. They
 * stay readable, so that a stack says something. Nothing in them is of one platform. All is put together in a folder of its own.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const HERE = fileURLToPath(new URL('.', import.meta.url));
const MAIN = 'dist/src/main.js';
/** OpenTelemetry's, which loads some of its own modules late: split it would be many files. */
const SDK = 'dist/src/tracing/sdk.js';
const besideMain = {
  name: 'sdk',
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/sdk\.js$/ }, () => ({ path: './sdk.js', external: true })),
};
/** As deep as the files that are bundled: each of them finds package.json, migrations/ and the pages' modules by its own place. */
const BUNDLE = 'dist/src/bundle';

const out = resolve(process.argv[2] ?? join(HERE, 'dist'));
const folder = mkdtempSync(join(tmpdir(), 'django-outbox-relay-'));
try {
  const source = join(folder, 'source');
  for (const part of ['pyproject.toml', 'README.md', 'outbox']) {
    const filter = (path) => !/__pycache__|outbox\/relay$/.test(path);
    cpSync(join(HERE, part), join(source, part), { recursive: true, filter });
  }
  await makeRelay(join(source, 'outbox/relay'));
  rmSync(out, { recursive: true, force: true });
  makePackages(source);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function makeRelay(relay) {
  if (!existsSync(join(ROOT, MAIN))) throw new Error(`There is no ${MAIN}: run npm run build.`);
  const common = {
    absWorkingDir: ROOT,
    outdir: join(relay, BUNDLE),
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.20',
    // Dependencies in CommonJS ask for modules of Node by `require`.
    banner: {
      js: "import { createRequire as requireOf } from 'node:module';\nconst require = requireOf(import.meta.url);",
    },
    external: ['pg-native'],
    legalComments: 'none',
    logLevel: 'warning',
    metafile: true,
  };
  // One file: what only one command needs is in it, too, and is not run for others.
  const main = await build({
    ...common,
    entryPoints: [MAIN],
    plugins: [besideMain],
  });
  const sdk = await build({ ...common, entryPoints: [SDK] });
  const { name, version, license, engines } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const write = (path, text) => {
    mkdirSync(dirname(join(relay, path)), { recursive: true });
    writeFileSync(join(relay, path), text);
  };
  write('package.json', `${JSON.stringify({ name, version, license, type: 'module', engines }, undefined, 2)}\n`);
  for (const part of ['migrations', 'dist/packages/client', 'dist/packages/console', 'LICENSE']) {
    cpSync(join(ROOT, part), join(relay, part), { recursive: true });
  }
  write('THIRD-PARTY.txt', thirdParty([main, sdk].flatMap(({ metafile }) => Object.keys(metafile.inputs))));
}

/** The licences of all packages that files of are in the bundle, each with its text. */
function thirdParty(inputs) {
  const folders = new Set(inputs.map((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]));
  folders.delete(undefined);
  const parts = [...folders].sort().map((folder) => {
    const { name, version, license, author } = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'));
    const files = readdirSync(join(ROOT, folder)).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file));
    const texts = files.sort().map((file) => readFileSync(join(ROOT, folder, file), 'utf8').trim());
    if (texts.length === 0) texts.push(standardText(name, license, author));
    return `${name} ${version} (${license})\n\n${texts.join('\n\n')}`;
  });
  return `The relay in this folder has these packages in it.\n\n${parts.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`;
}

/** Of a package that names its licence and has no text of it: ours is the same. */
function standardText(name, license, author) {
  if (license !== 'MIT') throw new Error(`${name} has no text of its licence, ${license}: add it here.`);
  const [, , , ...text] = readFileSync(join(ROOT, 'LICENSE'), 'utf8').trim().split('\n');
  const by = author === undefined ? `the authors of ${name}` : (author.name ?? author);
  return ['MIT License', '', `Copyright (c) ${by}`, ...text].join('\n');
}

/** The sdist, and the wheel that is made of it: so what the wheel needs is in both. */
function makePackages(source) {
  const run = (command, ...args) => execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const venv = join(folder, 'venv');
  const python = join(venv, 'bin/python');
  run(process.env.PYTHON || 'python3', '-m', 'venv', venv);
  run(python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', 'build', 'setuptools>=77');
  run(python, '-m', 'build', '--no-isolation', '--outdir', out, source);
  for (const file of readdirSync(out)) console.log(join(out, file));
}
