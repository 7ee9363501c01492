/**
 * The command's face: what it prints, how it exits, and that nothing secret is in it.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import net, { type AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import test from 'ava';
import { CommanderError } from 'commander';
import { jwtVerify } from 'jose';
import { completionScript } from '../src/cli/completion.js';
import { createProgram } from '../src/cli/program.js';
import { VARIABLES } from '../src/config/config.js';
import { runCommand } from './support/command.js';
import { createDatabase } from './support/database.js';
import { eachMigration } from './support/migrations.js';
import { startTestRelay } from './support/relay.js';
import { request } from './support/request.js';
import { SECRET } from './support/token.js';

/** In the order in which they are listed. */
const COMMANDS = ['start', 'demo', 'migrate', 'roles', 'doctor', 'advance-ids', 'prune', 'token', 'completion', 'help'];

const lines = (output: string) => output.trim().split('\n');

/** What commander prints and how it exits, for arguments that run no command: no process of its own is needed. */
async function face(args: readonly string[]): Promise<{ code: number; output: string }> {
  const program = createProgram();
  let output = '';
  const write = (text: string) => void (output += text);
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({ writeOut: write, writeErr: write, getOutHelpWidth: () => 100 });
  }
  try {
    await program.parseAsync([...args], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return { code: error.exitCode, output };
    throw error;
  }
  throw new Error(`Not refused: ${args.join(' ')}`);
}

test('--help names every command, and the --help of each its options, its environment and an example', async (t) => {
  const help = await runCommand(['--help']);
  t.is(help.code, 0);
  const commands = [...help.output.matchAll(/^ {2}([a-z-]+) .* {2}\w/gm)].map(([, name = '']) => name);
  t.deepEqual(commands, COMMANDS);
  for (const command of COMMANDS.filter((name) => name !== 'help')) {
    const { code, output } = await face([command, '--help']);
    t.is(code, 0, command);
    t.regex(output, /^Usage: outbox-relay [\s\S]*^Example:\n {2}.*outbox-relay /m, command);
    if (command !== 'completion') t.regex(output, /^Environment:\n {2}[A-Z_]+ {2}/m, command);
  }
  const start = await face(['start', '--help']);
  for (const name of VARIABLES) t.true(start.output.includes(`\n  ${name} `), name);
  const version = await runCommand(['--version']);
  t.is(version.code, 0);
  t.regex(version.output, /^\d+\.\d+\.\d+\n$/);
});

test('a slip in a command, an option or an argument exits 1 and says what was meant', async (t) => {
  const unknown = await runCommand(['migrat']);
  t.is(unknown.code, 1);
  t.regex(unknown.output, /^error: unknown command 'migrat'\n\(Did you mean migrate\?\)\n\n[^]*^ {2}migrate /m);
  for (const [args, expected] of [
    [
      ['prune', '--kep', '7d'],
      /unknown option '--kep'\n\(Did you mean --keep\?\)\n[^]*prune --keep 7d\n.*prune --help/,
    ],
    [['token', '--chanel', 'a'], /Did you mean --channel\?/],
    [['migrate', 'dwon'], /'dwon' is invalid .* up, down, status/],
    [['migrate', 'up', 'down'], /too many arguments/],
    [['start', 'demo'], /too many arguments/],
    [['prune', '7d'], /too many arguments/],
    [['prune', '--keep', 'a week'], /--keep .*'a week' is invalid.* 90s, 15m, 1h or 7d/],
    [['prune', '--keep', '0d'], /--keep/],
    [['prune', '--keep', '7d', '--batch', '5'], /unknown option '--batch'/],
    [['token', '--channel', 'a', '--expires', 'soon'], /--expires .* 90s, 15m, 1h or 7d/],
    [['token', '--channel', 'a', '--expires', '0s'], /--expires/],
    [['advance-ids', '--by', '0'], /--by .* whole number from 1 to 999999999999999/],
    [['--or-demo'], /unknown option '--or-demo'/],
    [['completion', 'tcsh'], /bash, zsh, fish/],
  ] as const) {
    const { code, output } = await face(args);
    t.is(code, 1, args.join(' '));
    t.regex(output, expected, args.join(' '));
  }
});

test('bash completes commands, options and arguments', async (t) => {
  const { code, output: script } = await runCommand(['completion', 'bash']);
  t.is(code, 0);
  const complete = async (...words: string[]) => {
    const program = `${script}
      COMP_WORDS=(outbox-relay ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}
      _outbox_relay; echo "\${COMPREPLY[*]}"`;
    return (await promisify(execFile)('bash', ['-c', program])).stdout.trim().split(' ');
  };
  t.deepEqual(await complete('m'), ['migrate']);
  t.deepEqual(await complete(''), [...COMMANDS, '--help', '--version']);
  t.deepEqual(await complete('migrate', ''), ['up', 'down', 'status', '--help']);
  t.deepEqual(await complete('roles', '--re'), ['--relay', '--retention', '--redaction']);
  t.deepEqual(await complete('completion', 'f'), ['fish']);
  t.deepEqual(await complete('unknown', ''), ['']);
});

test('scripts for zsh and fish name every command, with its summary', (t) => {
  for (const shell of ['zsh', 'fish'] as const) {
    const output = completionScript(createProgram(), shell);
    for (const command of COMMANDS) t.regex(output, new RegExp(`[' ]${command}[ :)]`), `${shell}: ${command}`);
    t.true(output.includes('age from which events are deleted'), shell);
  }
});

test('migrate up, status and down do their work, twice in a row without harm', async (t) => {
  const { url } = await createDatabase(t, { template: false });
  const env = { DATABASE_URL: url };
  const before = await runCommand(['migrate', 'status'], env);
  t.deepEqual([before.code, before.output], [1, eachMigration('missing  ')]);
  t.deepEqual(await runCommand(['migrate'], env), { code: 0, output: eachMigration('applied ') });
  t.deepEqual(await runCommand(['migrate', 'up'], env), {
    code: 0,
    output: 'Nothing to do: the database is as it should be.\n',
  });
  t.deepEqual(await runCommand(['migrate', 'status'], env), { code: 0, output: eachMigration('applied  ') });
  t.deepEqual(await runCommand(['migrate', 'down'], env), { code: 0, output: eachMigration('removed ', 'down') });
  t.is((await runCommand(['migrate', 'down'], env)).code, 0);
});

test('migrate without DATABASE_URL says what to run', async (t) => {
  const { code, output } = await runCommand(['migrate']);
  t.is(code, 1);
  t.true(output.includes('npx outbox-relay migrate'));
});

test('without the migrations it refuses to start and names the command to run', async (t) => {
  const { url } = await createDatabase(t, { template: false });
  const { code, output } = await runCommand([], { DATABASE_URL: url, PUBLIC_CHANNELS: '*', PORT: '0' });
  t.is(code, 1);
  t.is(lines(output).at(-1), 'The database has no outbox yet. As its owner, run: npx outbox-relay migrate');
});

test('it refuses a database that is older than itself, and one that is newer', async (t) => {
  const database = await createDatabase(t);
  const env = { DATABASE_URL: database.url, PUBLIC_CHANNELS: '*', PORT: '0' };
  await database.query("INSERT INTO outbox_migrations (name, run_on) VALUES ('9_from_the_future', now())");
  const newer = await runCommand([], env);
  t.is(newer.code, 1);
  t.is(
    lines(newer.output).at(-1),
    'The database is newer than this relay (9_from_the_future). Install the newest outbox-relay.',
  );
  await database.query("UPDATE outbox_migrations SET name = '0_of_old' WHERE name = '1_outbox'");
  const older = await runCommand([], env);
  t.is(older.code, 1);
  t.is(lines(older.output).at(-1), 'The database lacks 1_outbox. As its owner, run: npx outbox-relay migrate');
});

test('an unreachable database is one clear line and exit 1', async (t) => {
  const { code, output } = await runCommand([], {
    DATABASE_URL: 'postgres://app:sesame@127.0.0.1:1/app',
    PUBLIC_CHANNELS: '*',
  });
  t.is(code, 1);
  t.is(lines(output).length, 1, output);
  t.true(output.startsWith('The database is not reachable: '));
  t.false(output.includes('sesame'));
});

test('a wrong password is one clear line and exit 1, and is not printed', async (t) => {
  const database = await createDatabase(t);
  const url = new URL(database.url);
  url.username = 'nobody_of_that_name';
  url.password = 'sesame';
  const { code, output } = await runCommand([], { DATABASE_URL: url.href, PUBLIC_CHANNELS: '*', PORT: '0' });
  t.is(code, 1);
  t.is(lines(output).length, 1, output);
  t.true(output.startsWith('PostgreSQL refused: '));
  t.false(output.includes('sesame'));
});

test('a taken port is one clear line and exit 1', async (t) => {
  const database = await createDatabase(t);
  const other = net.createServer().listen(0, '127.0.0.1');
  t.teardown(() => other.close());
  await once(other, 'listening');
  const { port } = other.address() as AddressInfo;
  const { code, output } = await runCommand([], {
    DATABASE_URL: database.url,
    PUBLIC_CHANNELS: '*',
    PORT: String(port),
    LOG_LEVEL: 'silent',
  });
  t.is(code, 1);
  t.is(lines(output).length, 1, output);
  t.true(output.startsWith('Port taken: '));
});

test('all that is wrong with the environment is said at once, without the password', async (t) => {
  const { code, output } = await runCommand([], {
    DATABASE_URL: 'mysql://app:sesame@db/app',
    PORT: 'http',
    HEARTBEAT_SECONDS: '-1',
  });
  t.is(code, 1);
  for (const name of ['DATABASE_URL=', 'PORT="http"', 'HEARTBEAT_SECONDS="-1"']) t.true(output.includes(name), output);
  t.false(output.includes('sesame'));
});

test('a deployment that lost DATABASE_URL gets an error that names it and the demo, and no demo', async (t) => {
  for (const args of [[], ['start']]) {
    for (const env of [{}, { DATABASE_URL: '' }, { LISTEN_DATABASE_URL: 'postgres://db.example/app' }]) {
      const { code, output } = await runCommand(args, { ...env, PUBLIC_CHANNELS: '*', PORT: '0' });
      t.is(code, 1);
      t.regex(output, /^DATABASE_URL is not set/);
      t.regex(output, /npm start$/m);
    }
  }
});

test('npm start shows the demo without DATABASE_URL, and runs the relay with it', async (t) => {
  const manifest = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  const { scripts } = JSON.parse(manifest) as { scripts: Record<string, string> };
  const [, ...args] = (scripts['start']?.split('&&')[1] ?? '').trim().split(' ').slice(1);
  const demo = await runCommand(args, { HOST: '0.0.0.0' });
  t.regex(demo.output, /^The demo is open to all/);
  const relay = await runCommand(args, { DATABASE_URL: 'postgres://127.0.0.1:1/app', PUBLIC_CHANNELS: '*' });
  t.regex(relay.output, /^The database is not reachable/);
});

test('the demo stays on loopback', async (t) => {
  const { code, output } = await runCommand(['demo'], { HOST: '0.0.0.0' });
  t.is(code, 1);
  t.true(output.includes('DATABASE_URL'));
});

test('with a database it starts only once somebody may listen, and says how to let them', async (t) => {
  const { url } = await createDatabase(t);
  const { code, output } = await runCommand([], { DATABASE_URL: url, PORT: '0', JWT_SECRET: '' });
  t.is(code, 1);
  for (const name of ['JWT_SECRET', 'JWT_PUBLIC_KEY', 'JWKS_URL', 'FORWARD_AUTH_URL', 'PUBLIC_CHANNELS']) {
    t.true(output.includes(name), name);
  }
});

test('token prints a token and nothing else, which the relay with the same secret takes', async (t) => {
  const env = { JWT_SECRET: SECRET };
  const args = ['token', '--channel', 'user:42', '--channel', 'org:7:*', '--expires', '15m', '--sub', '42'];
  const { code, output } = await runCommand(args, env);
  t.is(code, 0);
  const { payload } = await jwtVerify(output.trim(), Buffer.from(SECRET), { algorithms: ['HS256'] });
  t.deepEqual(payload['channels'], ['user:42', 'org:7:*']);
  t.is(payload.sub, '42');
  t.is((payload.exp ?? 0) - (payload.iat ?? 0), 15 * 60);

  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { ...env, PUBLIC_CHANNELS: '' });
  const headers = { Authorization: `Bearer ${output.trim()}` };
  t.is((await request(relay.url, '/events?channel=user:42&channel=org:7:a', { headers })).status, 200);
  t.is((await request(relay.url, '/events/user:43', { headers })).status, 403);
});

test('token says what it lacks, and never shows the secret', async (t) => {
  const env = { JWT_SECRET: SECRET };
  for (const [args, vars, expected] of [
    [['token'], env, /--channel user:42/],
    [['token', '--channel', 'a'], {}, /JWT_SECRET/],
    [['token', '--channel', 'a*'], env, /"\*" stands alone/],
    [['token', '--channel', 'a'], { JWT_SECRET: 'too short s3' }, /at least 16 bytes/],
  ] as const) {
    const { code, output } = await runCommand(args, vars);
    t.is(code, 1, args.join(' '));
    t.regex(output, expected);
    t.false(output.includes(SECRET) || output.includes('too short s3'));
  }
});

test('prune says what it deleted, and that nothing was due', async (t) => {
  const { url, query } = await createDatabase(t);
  // The address of its own counts before the relay's.
  const env = { DATABASE_URL: 'postgres://app@127.0.0.1:1/app', RETENTION_DATABASE_URL: url };
  await query(
    `INSERT INTO outbox (channel, created_at) VALUES ('a', now() - interval '9 days'), ('a', now() - interval '8 days'),
       ('a', now() - interval '13 hours'), ('a', now())`,
  );
  const outcomes = [];
  for (const keep of ['7d', '7d', '12h', '30m'])
    outcomes.push(Object.values(await runCommand(['prune', '--keep', keep], env)));
  t.deepEqual(outcomes, [
    [0, 'Deleted 2 events older than 7d.\n'],
    [0, 'Nothing to delete: no event is older than 7d.\n'],
    [0, 'Deleted 1 event older than 12h.\n'],
    [0, 'Nothing to delete: no event is older than 30m.\n'],
  ]);
  t.is((await query('SELECT FROM outbox')).rowCount, 1);
});

test('prune leaves the work to another that is at it, and says so', async (t) => {
  const database = await createDatabase(t);
  await database.query("INSERT INTO outbox (channel, created_at) VALUES ('a', now() - interval '9 days')");
  await database.withClient(async (other) => {
    await other.query("BEGIN; SELECT pg_advisory_xact_lock('outbox'::regclass::oid::integer, 1)");
    t.deepEqual(await runCommand(['prune', '--keep', '7d'], { DATABASE_URL: database.url }), {
      code: 0,
      output: 'Another process prunes this outbox, so this one leaves it to that.\n',
    });
  });
});

test('prune says what it lacks', async (t) => {
  const { url } = await createDatabase(t, { template: false });
  const env = { DATABASE_URL: url };
  for (const [args, vars, expected] of [
    [['prune'], env, /prune --keep 7d/],
    [['prune', '--keep', '7d'], {}, /RETENTION_DATABASE_URL/],
    [['prune', '--keep', '7d'], env, /no outbox .*npx outbox-relay migrate/],
  ] as const) {
    const { code, output } = await runCommand(args, vars);
    t.is(code, 1, args.join(' '));
    t.regex(output, expected);
  }
});
