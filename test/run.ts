/**
 * Runs the tests: starts PostgreSQL on temporary data, migrates a template database in it, runs ava (or fuzz.js),
 * and stops and deletes the server, whatever happened.
 *
 *     npm test                                        what needs Node and npm only, on the newest PostgreSQL
 *     npm test -- test/log.test.ts --match '*wakes*'  arguments are ava's; sources stand for their compiled files
 *     npm run test:heavy                              load, crowds, many processes and a million rows, on the newest
 *     npm run test:model                              all states of the publish protocol's larger models, with no server
 *     npm run test:oldest                             the first two on the oldest PostgreSQL that is supported
 *     npm run test:browser (clients, django, faults, nats)  what needs Chromium, Python, Go, PgBouncer, nginx or nats-server
 *     npm run fuzz                                    a program of its own
 *     CI_COUNTS=1 npm test                            TAP output, and a last line `N passed, N failed`
 *     TEST_LOG=1 npm test                             with the server's log
 *
 * Tests find the servers in TEST_SERVERS, a JSON object of urls by name, the one that all of them are for first.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import {
  EmbeddedPostgresError,
  findBinaries,
  startEmbedded,
  type EmbeddedPostgres,
} from '../packages/embedded-postgres/embedded.js';
import { migrate } from '../src/postgres/migrate.js';
import { relayBackends, type ServerName } from './support/database.js';
import { SERVER_SETTINGS } from './support/server-settings.js';

/** Suites that are programs of their own: each is dist/test/NAME.js. */
const PROGRAMS = ['fuzz'] as const;

/** Suites of ava other than the tests that `npm test` runs, see ava.config.js, with the servers that each needs. */
const SUITES: Readonly<Record<string, readonly ServerName[]>> = {
  heavy: ['newest'],
  model: [],
  oldest: ['oldest'],
  browser: ['newest'],
  clients: ['newest'],
  django: ['newest', 'oldest'],
  faults: ['newest', 'oldest'],
  nats: ['newest'],
};

/** Room that the servers' data never fills, as databases are dropped with their tests. */
const ROOM_BYTES = 3 * 2 ** 30;

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

interface Outcome {
  readonly code: number;
  readonly passed: number;
  readonly failed: number;
}

let child: ChildProcess | undefined;
let wasInterrupted = false;
const interrupted = (): boolean => wasInterrupted;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    wasInterrupted = true;
    child?.kill('SIGTERM');
  });
}

process.exitCode = await main(process.argv.slice(2));

async function main(args: string[]): Promise<number> {
  const folder = await mkdtemp(join(await temporaryFolder(), 'outbox-relay-test-'));
  // Servers of the tests have folders of their own in it, and do not run as root.
  await chmod(folder, 0o711);
  const started: EmbeddedPostgres[] = [];
  const counts = process.env['CI_COUNTS'] === '1' && programIn(args) === undefined;
  const suite = Object.keys(SUITES).find((name) => args.includes(`--${name}`)) ?? '';
  try {
    const names = SUITES[suite] ?? ['newest'];
    const starts = await Promise.allSettled(
      names.map(async (name) => [name, await startServer(folder, name, started)] as const),
    );
    if (interrupted()) return 130;
    const servers: Partial<Record<ServerName, string>> = {};
    for (const start of starts) {
      if (start.status === 'fulfilled') servers[start.value[0]] = start.value[1];
      else if (!isMissing(start.reason) || names.length === 1) throw start.reason;
    }
    if (servers.oldest === undefined && names.includes('oldest')) {
      console.log('The package of PostgreSQL 14 is not installed here: its tests run on the newest PostgreSQL only.');
      Object.assign(servers, { oldest: servers.newest });
    }
    const outcome = await runTests(args, suite, folder, servers, counts);
    const leaks = (await Promise.all(started.map(leftOn))).flat();
    for (const leak of leaks) console.error(`\n  ✘ After all tests a connection of the relay is left: ${leak}`);
    // What fails outside of a test (no test found, a connection left) must not read as a success to who reads the line only.
    const failed = outcome.failed + leaks.length;
    const code = interrupted() ? 130 : outcome.code || (leaks.length > 0 ? 1 : 0);
    if (counts) console.log(`${outcome.passed} passed, ${code === 0 ? failed : Math.max(failed, 1)} failed`);
    return code;
  } finally {
    await Promise.allSettled(started.map((server) => server.stop('immediate')));
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** In memory, if the machine has such a folder with room: on some disks each new database takes a tenth of a second. */
async function temporaryFolder(): Promise<string> {
  const memory = '/dev/shm';
  const { bavail, bsize } = await statfs(memory).catch(() => ({ bavail: 0, bsize: 0 }));
  return process.env['TMPDIR'] === undefined && bavail * bsize > ROOM_BYTES ? memory : tmpdir();
}

/** The package of the oldest, an optional one, does not exist for each platform. */
function isMissing(error: unknown): boolean {
  return error instanceof EmbeddedPostgresError && error.code === 'missing';
}

/** Resolves with the url of a server that has the template database. */
async function startServer(folder: string, name: ServerName, started: EmbeddedPostgres[]): Promise<string> {
  const binaries = name === 'oldest' ? findBinaries(join(ROOT, 'test', 'postgres-14', 'package.json')) : undefined;
  const server = await startEmbedded({
    dataDirectory: join(folder, name),
    binaries,
    settings: SERVER_SETTINGS,
    persistent: false,
    log: process.env['TEST_LOG'] === '1' ? (line) => console.error(`[${name}] ${line}`) : undefined,
  });
  started.push(server);
  await withClient(server.url, (client) => client.query('CREATE DATABASE outbox_template'));
  const template = new URL(server.url);
  template.pathname = '/outbox_template';
  await migrate(template.href, 'up');
  // Nobody can be in it, so cloning it never has to wait.
  await withClient(server.url, (client) => client.query('ALTER DATABASE outbox_template ALLOW_CONNECTIONS false'));
  return server.url;
}

async function runTests(
  args: string[],
  suite: string,
  folder: string,
  servers: Readonly<Record<string, string>>,
  counts: boolean,
): Promise<Outcome> {
  const name = programIn(args);
  // Once, and not by each of its files at the same time.
  if (suite === 'django') {
    (await import('./support/python.js')).prepare();
    (await import('./support/django-wheel.js')).wheelVenv();
  }
  if (suite === 'clients') (await import('./clients/programs.js')).prepare();
  const program = name
    ? [join(ROOT, `dist/test/${name}.js`), ...args.filter((arg) => arg !== `--${name}`)]
    : [
        join(ROOT, 'node_modules/ava/entrypoints/cli.mjs'),
        ...(counts ? ['--tap'] : []),
        ...args.filter((arg) => arg !== `--${suite}`).map(compiled),
      ];
  const tests = spawn(process.execPath, program, {
    cwd: ROOT,
    env: {
      ...process.env,
      TEST_SERVERS: JSON.stringify(servers),
      TEST_SUITE: suite,
      TEST_FOLDER: folder,
      NODE_OPTIONS: `${process.env['NODE_OPTIONS'] ?? ''} --enable-source-maps`.trim(),
    },
    stdio: ['inherit', counts ? 'pipe' : 'inherit', 'inherit'],
    // A process group: what a test that was cut off has started is found by it.
    detached: true,
  });
  child = tests;
  let [passed, failed] = [0, 0];
  if (tests.stdout) {
    // TAP ends with its sums.
    createInterface(tests.stdout).on('line', (line) => {
      console.log(line);
      const [, what, number] = /^# (pass|fail) (\d+)$/.exec(line) ?? [];
      if (what === 'pass') passed = Number(number);
      if (what === 'fail') failed = Number(number);
    });
  }
  const [code, signal] = (await once(tests, 'close')) as [number | null, NodeJS.Signals | null];
  await endLeftovers(tests, folder);
  if (counts && failed === 0 && code !== 0) {
    console.error(`No test failed, yet the tests ended with ${signal ?? code}. ${await unfinished(folder)}`);
  }
  return { code: code ?? 1, passed, failed };
}

/** Which files did not come to their end, and what they waited for, as test/support/unfinished.ts has noted. */
async function unfinished(folder: string): Promise<string> {
  const notes = (await readdir(folder)).filter((name) => name.endsWith('.unfinished'));
  const texts = await Promise.all(notes.map((name) => readFile(join(folder, name), 'utf8')));
  const files = texts.map((text) => text.trim());
  return files.length === 0 ? 'All files came to their end.' : `Not at their end were ${files.join('; ')}.`;
}

/** What tests started and did not get to end, because they ran out of time or their process crashed. */
async function endLeftovers(tests: ChildProcess, folder: string): Promise<void> {
  const ends: (readonly [number, NodeJS.Signals])[] = tests.pid === undefined ? [] : [[-tests.pid, 'SIGKILL']];
  for (const name of await readdir(folder)) {
    if (name === 'newest' || name === 'oldest') continue;
    // Servers of PostgreSQL lead groups of their own.
    const lock = await readFile(join(folder, name, 'data', 'postmaster.pid'), 'utf8').catch(() => undefined);
    if (lock !== undefined) ends.push([Number.parseInt(lock), 'SIGQUIT']);
  }
  for (const [pid, signal] of ends) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended.
    }
  }
}

function programIn(args: string[]): (typeof PROGRAMS)[number] | undefined {
  return PROGRAMS.find((name) => args.includes(`--${name}`));
}

function compiled(arg: string): string {
  return arg.replace(/^(?:\.\/)?(test\/.*)\.ts$/, 'dist/$1.js');
}

async function leftOn(server: EmbeddedPostgres): Promise<string[]> {
  const left = await withClient(server.url, (client) => relayBackends(client));
  return left.map((name) => `${name} (PostgreSQL ${server.version})`);
}

async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: 'test runner' });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
