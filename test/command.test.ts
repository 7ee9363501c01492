/**
 * The command's face: what it prints, how it exits, and that nothing secret is in it.
 */
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import test from 'ava';
import { runCommand } from './support/command.js';
import { createDatabase } from './support/database.js';

const lines = (output: string) => output.trim().split('\n');

test('--help names every command, --version says which it is', async (t) => {
  const help = await runCommand(['--help']);
  t.is(help.code, 0);
  for (const command of ['migrate [up]', 'migrate down', 'migrate status']) t.true(help.output.includes(command));
  const version = await runCommand(['--version']);
  t.is(version.code, 0);
  t.regex(version.output, /^\d+\.\d+\.\d+\n$/);
});

test('an unknown command exits 1 and shows the usage', async (t) => {
  const { code, output } = await runCommand(['migrat']);
  t.is(code, 1);
  t.true(output.includes('There is no command "migrat"'));
  t.true(output.includes('Usage:'));
});

test('migrate up, status and down do their work, twice in a row without harm', async (t) => {
  const { url } = await createDatabase(t, { template: false });
  const env = { DATABASE_URL: url };
  const before = await runCommand(['migrate', 'status'], env);
  t.deepEqual([before.code, lines(before.output)], [1, ['missing  1_outbox']]);
  t.deepEqual(await runCommand(['migrate'], env), { code: 0, output: 'applied 1_outbox\n' });
  t.deepEqual(await runCommand(['migrate', 'up'], env), {
    code: 0,
    output: 'Nothing to do: the database is as it should be.\n',
  });
  t.deepEqual(await runCommand(['migrate', 'status'], env), { code: 0, output: 'applied  1_outbox\n' });
  t.deepEqual(await runCommand(['migrate', 'down'], env), { code: 0, output: 'removed 1_outbox\n' });
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

test('the demo stays on loopback', async (t) => {
  const { code, output } = await runCommand([], { HOST: '0.0.0.0' });
  t.is(code, 1);
  t.true(output.includes('DATABASE_URL'));
});
