/**
 * A PostgreSQL with TLS and a certificate that nobody has signed but itself: each sslmode as psql has it.
 */
import { execFile } from 'node:child_process';
import { chown, copyFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { withClient } from '../../src/postgres/client.js';
import { runCommand } from '../support/command.js';
import { makeFolder } from '../support/folder.js';
import { startPostgres } from '../support/postgres.js';
import { startRelayProcess } from '../support/relay-process.js';
import { openStream } from '../support/stream.js';

const run = promisify(execFile);

async function setUp(t: ExecutionContext, name: string) {
  const postgres = await startPostgres(t);
  const folder = await makeFolder(t, 'certificate');
  const [certificate, key] = [join(folder, 'server.crt'), join(folder, 'server.key')];
  await run('openssl', [
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days',
    '2',
    '-subj',
    `/CN=${name}`,
    '-addext',
    `subjectAltName=DNS:${name}`,
    '-keyout',
    key,
    '-out',
    certificate,
  ]);
  const data = join(postgres.folder, 'data');
  const { uid, gid } = await stat(data);
  for (const file of ['server.crt', 'server.key']) {
    await copyFile(join(folder, file), join(data, file));
    await chown(join(data, file), uid, gid);
  }
  await postgres.query('ALTER SYSTEM SET ssl = on');
  await postgres.end('fast');
  await postgres.start();
  const url = (options: string, host = 'localhost') => {
    const address = new URL(postgres.url);
    address.hostname = host;
    address.search = options;
    return address.href;
  };
  return { postgres, certificate, url };
}

const isEncrypted = (url: string) =>
  withClient(url, 'test', async (client) => {
    const { rows } = await client.query<{ ssl: boolean }>('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()');
    return rows[0]?.ssl;
  });

test('sslmode means what it means to psql, and what it refuses is told by one line that names the setting', async (t) => {
  const { certificate, url } = await setUp(t, 'localhost');
  const root = `sslrootcert=${encodeURIComponent(certificate)}`;
  for (const [options, expected] of [
    ['', false],
    ['sslmode=disable', false],
    ['sslmode=allow', false],
    ['sslmode=prefer', true],
    ['sslmode=require', true],
    [`sslmode=require&${root}`, true],
    [`sslmode=verify-ca&${root}`, true],
    [`sslmode=verify-full&${root}`, true],
  ] as const) {
    t.is(await isEncrypted(url(options)), expected, options);
  }
  t.true(await isEncrypted(url(`sslmode=verify-ca&${root}`, '127.0.0.1')), 'the name is not asked for');
  for (const [options, host] of [
    ['sslmode=verify-full', 'localhost'],
    [`sslmode=verify-full&${root}`, '127.0.0.1'],
    ['sslrootcert=system', 'localhost'],
  ] as const) {
    const { code, output } = await runCommand(['migrate', 'status'], { DATABASE_URL: url(options, host) });
    t.is(code, 1);
    t.regex(output, /^The certificate of the database is not believed: .*sslrootcert in DATABASE_URL.*\n$/, options);
  }

  const relay = await startRelayProcess(t, url('sslmode=require'));
  const stream = await openStream(t, `${relay.url}/events?channel=a`);
  await withClient(url('sslmode=require'), 'test', async (client) => {
    await client.query(`INSERT INTO outbox (channel, data) VALUES ('a', '1')`);
    t.is((await stream.untilEvents(1)).length, 1);
    const { rows } = await client.query(`SELECT FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
      WHERE application_name LIKE 'outbox-relay%' AND NOT ssl`);
    t.is(rows.length, 0);
  });
  t.is(await relay.end('SIGTERM'), 0);
});

test('a server without TLS serves sslmode=prefer, and refuses sslmode=require by one line', async (t) => {
  const postgres = await startPostgres(t);
  t.false(await isEncrypted(`${postgres.url}?sslmode=prefer`));
  const { code, output } = await runCommand(['migrate', 'status'], { DATABASE_URL: `${postgres.url}?sslmode=require` });
  t.is(code, 1);
  t.regex(output, /^The database has no TLS, which sslmode in DATABASE_URL asks for.*\n$/);
});
