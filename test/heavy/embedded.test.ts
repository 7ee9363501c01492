import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { startEmbedded, type EmbeddedPostgresOptions } from '../../packages/embedded-postgres/embedded.js';

const MODULE = new URL('../../packages/embedded-postgres/embedded.js', import.meta.url).href;
const FAST = { fsync: 'off', shared_buffers: '4MB' };

async function folderFor(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'outbox-relay-embedded-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function start(t: ExecutionContext, dataDirectory: string, options?: Partial<EmbeddedPostgresOptions>) {
  const server = await startEmbedded({ dataDirectory, settings: FAST, ...options });
  t.teardown(() => server.stop('immediate'));
  return server;
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query(sql)).rows as unknown[];
  } finally {
    await client.end();
  }
}

/** Another process that starts a server in the folder and prints its url; its standard input tells it how to end. */
async function startElsewhere(t: ExecutionContext, dataDirectory: string) {
  const program = `
    import { startEmbedded } from ${JSON.stringify(MODULE)};
    const server = await startEmbedded(${JSON.stringify({ dataDirectory, settings: FAST })});
    process.stdout.write(server.url);
    process.stdin.once('data', () => process.stdin.destroy());`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const [url] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, url: url.toString() };
}

test('a new folder becomes a server that speaks UTF-8, listens on loopback only and asks for its password', async (t) => {
  const folder = await folderFor(t);
  const server = await start(t, folder);
  t.deepEqual(
    await query(
      server.url,
      `SELECT current_setting('server_encoding') encoding, current_setting('listen_addresses') host`,
    ),
    [{ encoding: 'UTF8', host: '127.0.0.1' }],
  );
  t.true(server.major >= 18);
  t.true(server.version.startsWith(`${server.major}.`));
  t.is((await stat(join(folder, 'password'))).mode & 0o777, 0o600);
  const stranger = new URL(server.url);
  stranger.password = 'guessed';
  await t.throwsAsync(query(stranger.href, 'SELECT 1'), { message: /password authentication failed/ });
});

test('data and password are kept between runs', async (t) => {
  const folder = await folderFor(t);
  const first = await start(t, folder);
  await query(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer');
  await first.stop();
  t.deepEqual((await readdir(folder)).sort(), ['data', 'password']);
  const second = await start(t, folder, { port: first.port });
  t.is(second.url, first.url);
  t.deepEqual(await query(second.url, 'SELECT answer FROM kept'), [{ answer: 42 }]);
});

test('a server that was killed recovers what was committed, on the same url', async (t) => {
  const server = await start(t, await folderFor(t));
  await query(server.url, 'CREATE TABLE kept AS SELECT 42 AS answer');
  await server.kill();
  await t.throwsAsync(query(server.url, 'SELECT 1'), { code: 'ECONNREFUSED' });
  await server.restart();
  t.deepEqual(await query(server.url, 'SELECT answer FROM kept'), [{ answer: 42 }]);
});

test('of three starts on one folder, one succeeds and two are refused with the process that has it', async (t) => {
  const folder = await folderFor(t);
  const outcomes = await Promise.allSettled([start(t, folder), start(t, folder), start(t, folder)]);
  const [server, ...more] = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  t.is(more.length, 0);
  for (const outcome of outcomes) {
    if (outcome.status === 'fulfilled') continue;
    t.like(outcome.reason, { code: 'in-use' });
    t.regex(String(outcome.reason), new RegExp(`in use by process ${process.pid}\\b.*DATABASE_URL`));
  }
  t.is((await query(server?.url ?? '', 'SELECT 1')).length, 1);
});

test('the server of a process that was killed is taken over', async (t) => {
  const folder = await folderFor(t);
  const { child, url } = await startElsewhere(t, folder);
  await query(url, 'CREATE TABLE kept AS SELECT 42 AS answer');
  await t.throwsAsync(start(t, folder), { code: 'in-use', message: new RegExp(`process ${child.pid}\\b`) });
  child.kill('SIGKILL');
  await once(child, 'close');
  t.is((await query(url, 'SELECT 1')).length, 1, 'the orphan is alive');

  const log: string[] = [];
  const server = await start(t, folder, { log: (line) => log.push(line) });
  t.regex(log[0] ?? '', /left behind/);
  t.deepEqual(await query(server.url, 'SELECT answer FROM kept'), [{ answer: 42 }]);
});

test('a process that exits without stop takes its server with it, and is not kept alive by it', async (t) => {
  const folder = await folderFor(t);
  const { child, url } = await startElsewhere(t, folder);
  const session = new pg.Client(url);
  const gone = new Promise((resolve) => session.on('error', resolve));
  await session.connect();
  child.stdin.write('end');
  t.deepEqual(await once(child, 'exit'), [0, null]);
  t.regex(String(await gone), /terminating connection due to administrator command/);
  await start(t, folder);
});

test('data of another major version is refused with what to do, and left as it is', async (t) => {
  const folder = await folderFor(t);
  const first = await start(t, folder);
  await first.stop();
  await writeFile(join(folder, 'data', 'PG_VERSION'), '13\n');
  await t.throwsAsync(start(t, folder), { code: 'other-version', message: /made by PostgreSQL 13.*pg_dump.*move/s });
  t.is(await readFile(join(folder, 'data', 'PG_VERSION'), 'utf8'), '13\n');
  await writeFile(join(folder, 'data', 'PG_VERSION'), `${first.major}\n`);
  await start(t, folder);
});

test('a server that is not persistent leaves no folder, nor the remains of an initdb that was interrupted', async (t) => {
  const folder = await folderFor(t);
  await mkdir(join(folder, 'data.interrupted', 'base'), { recursive: true });
  const server = await start(t, folder, { persistent: false });
  t.deepEqual((await readdir(folder)).sort(), ['data', 'owner', 'password']);
  await server.stop();
  await t.throwsAsync(stat(folder), { code: 'ENOENT' });
});
