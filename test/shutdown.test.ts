import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { createDatabase, serverUrl } from './support/database.js';
import { eachMigration } from './support/migrations.js';
import { openRaw } from './support/request.js';
import { openStream } from './support/stream.js';

const ROOT = new URL('../../', import.meta.url);
const MAIN = fileURLToPath(new URL('dist/src/main.js', ROOT));

/** What a busy machine may add, in seconds. A relay that waited for a client would add 5, and end with 1. */
const LEEWAY = 2;

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts the command with nothing in its environment but `env`. */
function start(t: Pick<ExecutionContext, 'teardown'>, args: readonly string[], env: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let stdout = '';
  let stderr = '';
  const closed = once(child, 'close');
  const listening = new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
      const line = stdout.split('\n').find((text) => text.includes('"msg":"listening"'));
      if (line !== undefined) resolve((JSON.parse(line) as { url: string }).url);
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
    void closed.then(() => reject(new Error(`it ended before it listened: ${stdout}${stderr}`)));
  });
  // A command that never listens is no error.
  listening.catch(() => undefined);
  return {
    child,
    /** Resolves with the url when it accepts clients. */
    listening,
    ended: closed.then((values): Outcome => ({ code: (values as [number | null])[0], stdout, stderr })),
  };
}

const run = (t: ExecutionContext, args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  start(t, args, env).ended;

async function startRelay(t: ExecutionContext, env: Readonly<Record<string, string>> = {}) {
  const database = await createDatabase(t);
  const relay = start(t, [], {
    DATABASE_URL: database.url,
    PORT: '0',
    PUBLIC_CHANNELS: '*',
    RETRY_SECONDS: '1',
    SHUTDOWN_SECONDS: '2',
    ...env,
  });
  return { database, relay, url: await relay.listening };
}

/** When the relay logged the message, in ms since 1970. */
function loggedAt(stdout: string, message: string): number {
  const line = stdout.split('\n').find((text) => text.includes(`"msg":"${message}"`));
  return (JSON.parse(line ?? '{}') as { time?: number }).time ?? NaN;
}

/** A failure as a user should see it: one line, nothing on standard output that looks like success, no stack, no password. */
function isClear(t: ExecutionContext, { code, stderr, stdout }: Outcome, expected: RegExp): void {
  t.is(code, 1);
  t.regex(stderr, expected);
  t.is(stderr.trim().split('\n').length, 1, stderr);
  t.notRegex(stderr, /^\s+at /m);
  t.notRegex(stdout, /"msg":"listening"/);
  const password = new URL(serverUrl()).password;
  t.false(password !== '' && (stdout + stderr).includes(password), 'the password is shown');
  t.notRegex(stdout + stderr, /s3cret/);
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} tells each client to come back after a pause of its own, and ends with 0`, async (t) => {
    const { relay, url } = await startRelay(t);
    const streams = await Promise.all(Array.from({ length: 20 }, () => openStream(t, `${url}/events?channel=a`)));
    for (const stream of streams) await stream.until((frame) => frame.event === 'stream-open');
    relay.child.kill(signal);
    for (const stream of streams) await stream.ended;
    const last = streams.map(({ frames }) => frames.at(-1));
    for (const frame of last) {
      t.deepEqual(Object.keys(frame ?? {}), ['event', 'retry', 'data']);
      t.is(frame?.event, 'stream-pause');
      t.deepEqual(JSON.parse(frame?.data ?? ''), { reason: 'shutdown', retryMs: frame?.retry });
      t.true(frame?.retry !== undefined && frame.retry >= 1000 && frame.retry <= 3000, String(frame?.retry));
    }
    t.true(new Set(last.map((frame) => frame?.retry)).size > 10, 'they would all come back at once');
    const { code, stderr } = await relay.ended;
    t.is(code, 0);
    t.is(stderr, '');
  });
}

test('a shutdown waits for no client: neither for one that does not read nor for one that does not ask', async (t) => {
  const shutdown = 1;
  const { database, relay, url } = await startRelay(t, { SHUTDOWN_SECONDS: String(shutdown) });
  await database.query(
    `INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(repeat('x', 10000)) FROM generate_series(1, 2000)`,
  );
  const stalled = await openStream(t, `${url}/events?channel=a&last_event_id=earliest`);
  await stalled.untilEvents(1);
  stalled.pause();
  const silent = openRaw(t, url, '');
  await once(silent.socket, 'connect');
  const unfinished = openRaw(t, url, 'GET /events?channel=a HTTP/1.1\r\nHost: ');
  await once(unfinished.socket, 'connect');
  // Answered only after the relay has accepted those before it.
  const last = await openStream(t, `${url}/events?channel=a`);
  await last.until((frame) => frame.event === 'stream-open');

  relay.child.kill('SIGTERM');
  const { code, stdout } = await relay.ended;
  const took = (loggedAt(stdout, 'stopped') - loggedAt(stdout, 'stopping')) / 1000;
  t.is(code, 0);
  t.true(took < shutdown + LEEWAY, `it took ${took} seconds`);
});

test('a request that is finished only while the relay stops does not hold it up', async (t) => {
  const { relay, url } = await startRelay(t, { SHUTDOWN_SECONDS: '1' });
  const late = openRaw(t, url, 'GET /events?channel=a HTTP/1.1\r\nHost: ');
  const stream = await openStream(t, `${url}/events?channel=a`);
  await stream.until((frame) => frame.event === 'stream-open');
  relay.child.kill('SIGTERM');
  await stream.ended;
  late.socket.write('x\r\n\r\n');
  t.is((await relay.ended).code, 0);
});

test('asked twice, it ends at once', async (t) => {
  const { database, relay, url } = await startRelay(t, { SHUTDOWN_SECONDS: '60' });
  await database.query(
    `INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(repeat('x', 10000)) FROM generate_series(1, 2000)`,
  );
  const stalled = await openStream(t, `${url}/events?channel=a&last_event_id=earliest`);
  await stalled.untilEvents(1);
  stalled.pause();
  const other = await openStream(t, `${url}/events?channel=b`);
  relay.child.kill('SIGTERM');
  await other.ended;
  relay.child.kill('SIGINT');
  t.is((await relay.ended).code, 1);
});

test('a port that is taken is named', async (t) => {
  const database = await createDatabase(t);
  const taken = createServer().listen(0, '127.0.0.1');
  t.teardown(() => taken.close());
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const outcome = await run(t, [], { DATABASE_URL: database.url, PUBLIC_CHANNELS: '*', PORT: String(port) });
  isClear(t, outcome, new RegExp(`Port taken: .*${port}.*set PORT`));
});

test('a database that cannot be reached is said so, without its password', async (t) => {
  for (const args of [[], ['migrate'], ['migrate', 'status']]) {
    const outcome = await run(t, args, {
      DATABASE_URL: 'postgres://relay:s3cret@127.0.0.1:1/app',
      PUBLIC_CHANNELS: '*',
    });
    isClear(t, outcome, /^The database is not reachable: .*DATABASE_URL/);
  }
  isClear(
    t,
    await run(t, [], { DATABASE_URL: 'postgres://relay:s3cret@no-such-host.invalid/app', PUBLIC_CHANNELS: '*' }),
    /^The database is not reachable: .*DATABASE_URL/,
  );
});

for (const name of ['LISTEN_DATABASE_URL', 'RETENTION_DATABASE_URL'] as const) {
  test(`a database that only ${name} leads to, and that cannot be reached or refuses, is said to be that`, async (t) => {
    const database = await createDatabase(t);
    const env = {
      DATABASE_URL: database.url,
      LISTEN_DATABASE_URL: database.url,
      PUBLIC_CHANNELS: '*',
      RETENTION: '7d',
    };
    const nobody = 'postgres://relay:s3cret@127.0.0.1:1/app';
    const unreachable = new RegExp(`^The database is not reachable: .*Check ${name} and that PostgreSQL runs`);
    const retention = { RETENTION_DATABASE_URL: database.url };
    isClear(t, await run(t, [], { ...env, ...retention, [name]: nobody }), unreachable);
    const wrong = new URL(database.url);
    wrong.password = 's3cret';
    const refused = new RegExp(`^PostgreSQL refused: password authentication failed .*Check ${name}\\.`);
    isClear(t, await run(t, [], { ...env, ...retention, [name]: wrong.href }), refused);
  });
}

test('prune says that RETENTION_DATABASE_URL leads nowhere', async (t) => {
  const outcome = await run(t, ['prune', '--keep', '7d'], {
    DATABASE_URL: 'postgres://relay:s3cret@127.0.0.1:1/app',
    RETENTION_DATABASE_URL: 'postgres://retention:s3cret@127.0.0.1:1/app',
  });
  isClear(t, outcome, /^The database is not reachable: .*Check RETENTION_DATABASE_URL/);
});

test('a wrong password, an unknown role and an unknown database are told apart, without the password', async (t) => {
  const withUrl = async (change: (url: URL) => void) => {
    const url = new URL(serverUrl());
    change(url);
    return run(t, [], { DATABASE_URL: url.href, PUBLIC_CHANNELS: '*' });
  };
  isClear(t, await withUrl((url) => (url.password = 's3cret')), /^PostgreSQL refused: password authentication failed/);
  isClear(
    t,
    await withUrl((url) => (url.pathname = '/no_such_database')),
    /^PostgreSQL refused: database .* does not exist/,
  );
});

test('invalid settings are all named, each in a line, and no password', async (t) => {
  const { code, stderr } = await run(t, [], {
    DATABASE_URL: 'pg://relay:s3cret@x/y',
    PORT: 'x',
    HEARTBEAT_SECONDS: '0',
  });
  t.is(code, 1);
  t.deepEqual(
    stderr.match(/^ {2}[A-Z_]+=/gm)?.map((name) => name.trim()),
    ['DATABASE_URL=', 'PORT=', 'HEARTBEAT_SECONDS='],
  );
  t.notRegex(stderr, /s3cret|^\s+at /m);
});

test('the demo is refused on an address that others reach', async (t) => {
  isClear(t, await run(t, ['demo'], { HOST: '0.0.0.0' }), /^The demo .* HOST=0\.0\.0\.0 needs DATABASE_URL/);
});

const MIGRATIONS: Readonly<Record<string, { sql: string; expected: RegExp }>> = {
  'lacks a migration': {
    sql: `UPDATE outbox_migrations SET name = '0_before' WHERE name = '1_outbox'`,
    expected: /^The database lacks 1_outbox\. As its owner, run: npx outbox-relay migrate$/m,
  },
  'is newer than the relay': {
    sql: `INSERT INTO outbox_migrations (name, run_on) VALUES ('999_later', now())`,
    expected: /^The database is newer than this relay \(999_later\)\. Install the newest outbox-relay\.$/m,
  },
};

for (const [what, { sql, expected }] of Object.entries(MIGRATIONS)) {
  test(`a database that ${what} is refused with what to do`, async (t) => {
    const database = await createDatabase(t);
    await database.query(sql);
    isClear(t, await run(t, [], { DATABASE_URL: database.url, PUBLIC_CHANNELS: '*' }), expected);
  });
}

test('migrate takes a database up and down again, and status says where it stands', async (t) => {
  const database = await createDatabase(t, { template: false });
  const env = { DATABASE_URL: database.url, PUBLIC_CHANNELS: '*' };
  isClear(t, await run(t, [], env), /^The database has no outbox yet\. As its owner, run: npx outbox-relay migrate$/m);

  const expect = async (args: string, code: number, stdout: string, stderr = /^$/) => {
    const outcome = await run(t, args.split(' '), env);
    t.deepEqual([outcome.code, outcome.stdout], [code, stdout], args);
    t.regex(outcome.stderr, stderr, args);
  };
  await expect('migrate status', 1, eachMigration('missing  '));
  await expect('migrate', 0, eachMigration('applied '));
  await expect('migrate status', 0, eachMigration('applied  '));
  await expect('migrate up', 0, 'Nothing to do: the database is as it should be.\n');
  await database.query(`INSERT INTO outbox (channel) VALUES ('a')`);
  await expect('migrate down', 1, '', /, with 1 event in it\. Nothing was deleted yet; to do it: .* --yes$/m);
  await expect('migrate down --yes', 0, eachMigration('removed ', 'down'), /, with 1 event in it\.$/m);
  await expect('migrate status', 1, eachMigration('missing  '));
  await expect('migrate down', 0, 'Nothing to do: the database is as it should be.\n');
  const { rows } = await database.query(
    `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
     UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace`,
  );
  t.deepEqual(rows, [], 'down leaves nothing behind');
});

test('a command that does not exist is refused with those that do', async (t) => {
  for (const [args, expected] of [
    [['serve'], /^error: unknown command 'serve'\n\nUsage: [^]*^ {2}migrate /m],
    [['start', 'now'], /^error: too many arguments/],
    [['migrate', 'up', 'down'], /^error: too many arguments/],
    [['migrate', 'sideways'], /^error: .*'sideways' is invalid .* up, down, status/],
  ] as const) {
    const { code, stdout, stderr } = await run(t, args, { DATABASE_URL: serverUrl() });
    t.is(code, 1);
    t.is(stdout, '');
    t.regex(stderr, expected);
  }
  isClear(t, await run(t, ['migrate']), /^DATABASE_URL is not set\. Run: DATABASE_URL=/);
});

test('--help and --version say so on standard output and end with 0', async (t) => {
  const { version } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as { version: string };
  for (const args of [['--help'], ['-h'], ['help']]) {
    const { code, stdout, stderr } = await run(t, args);
    t.deepEqual([code, stderr], [0, '']);
    t.regex(stdout, /^Usage:.*migrate \[options\] \[action\].*\.env\.example\..*Exit codes: 0 done; [^]*\n$/s);
  }
  for (const args of [['--version'], ['-v']]) {
    t.deepEqual(await run(t, args), { code: 0, stdout: `${version}\n`, stderr: '' });
  }
});
