/**
 * Commands that print facts: what they say, as JSON too, without colours and secrets, and how they exit.
 */
import test from 'ava';
import { progressText } from '../src/cli/terminal/progress.js';
import { effectiveSettings } from '../src/config/effective.js';
import { VARIABLES } from '../src/config/config.js';
import { runCommand, runOnTerminal } from './support/command.js';
import { createDatabase } from './support/database.js';
import { SECRET } from './support/token.js';

test('--json prints JSON and nothing else, for every command that prints facts', async (t) => {
  const { url } = await createDatabase(t);
  const env = { DATABASE_URL: url, JWT_SECRET: SECRET };
  for (const [args, expected] of [
    [['migrate', 'status'], { pending: [], unknown: [] }],
    [['migrate'], { applied: [] }],
    [['publish', 'a', '1'], { line: 1, id: '1', channel: 'a', event: 'message' }],
    [['stats'], { rows: 1, isEstimate: false, channels: 1, sampled: 1 }],
    [['explain', '9'], { ok: false, subject: 'event 9' }],
    [['config'], {}],
    [['doctor'], {}],
    [['roles', '--relay', 'outbox_relay', '--print'], {}],
    [['advance-ids', '--by', '10'], {}],
    [['prune', '--keep', '7d', '--dry-run'], { dryRun: true, events: 0 }],
    [['prune', '--keep', '7d'], { deleted: 0, outcome: 'done' }],
    [['token', '--channel', 'a'], { channels: ['a'], expiresInSeconds: 3600 }],
    [['migrate', 'down', '--yes'], {}],
  ] as const) {
    const { output } = await runCommand([...args, '--json'], env);
    // What is said of a removal is on standard error.
    const told = JSON.parse(output.replace(/^This deletes .*\n/, '')) as object;
    if (Object.keys(expected).length > 0) t.like(told, expected, args.join(' '));
    else t.true(Object.keys(told).length > 0, args.join(' '));
  }
});

test('stats counts events, channels and bytes, and says what is oldest, newest, largest and how far was deleted', async (t) => {
  const { url, query } = await createDatabase(t);
  t.regex(
    (await runCommand(['stats'], { DATABASE_URL: url })).output,
    /^events +0\n[^]*^oldest +none\nnewest +none\n/m,
  );
  await query(`INSERT INTO outbox (channel, data, created_at) SELECT 'c' || n % 3, (SELECT jsonb_agg(md5(concat(n, i))) FROM generate_series(1, n) AS i), now() - n * interval '1 minute'
    FROM generate_series(1, 90) AS n`);
  await query('DELETE FROM outbox WHERE id <= 10');
  const { output } = await runCommand(['stats', '--json'], { DATABASE_URL: url });
  const stats = JSON.parse(output) as Record<string, unknown>;
  t.like(stats, {
    schema: 'public',
    rows: 80,
    channels: 3,
    areMoreChannels: false,
    lastMinute: 0,
    lastHour: 49,
    lastDay: 80,
    floor: { id: '10', position: '10' },
    sampled: 80,
  });
  for (const [name, id] of [
    ['oldest', '11'],
    ['newest', '90'],
    ['largest', '90'],
  ] as const) {
    t.like(stats[name], { id }, name);
  }
  t.deepEqual(stats['busiest'], [
    { channel: 'c0', events: 27 },
    { channel: 'c2', events: 27 },
    { channel: 'c1', events: 26 },
  ]);
});

test('prune --dry-run counts what a run then deletes, and deletes nothing; it takes no more than the right to read', async (t) => {
  const { url, query, name } = await createDatabase(t);
  // A long transaction placed one that is old behind one that is young: it stays.
  await query(`INSERT INTO outbox (channel, created_at) SELECT 'a', now() - age * interval '1 h'
    FROM unnest(ARRAY[9, 8, 5, 7, 1, 6]) WITH ORDINALITY AS ages(age, n) ORDER BY n`);
  await query(`CREATE ROLE "${name}_reader" LOGIN PASSWORD 'reads'; GRANT SELECT ON outbox TO "${name}_reader"`);
  t.teardown(() => query(`DROP OWNED BY "${name}_reader"; DROP ROLE "${name}_reader"`));
  const reader = new URL(url);
  reader.username = `${name}_reader`;
  reader.password = 'reads';
  for (const [keep, events] of [
    ['10h', 0],
    ['6h', 2],
    ['4h', 4],
    ['30m', 6],
  ] as const) {
    const { output } = await runCommand(['prune', '--keep', keep, '--dry-run', '--json'], {
      DATABASE_URL: reader.href,
    });
    t.is((JSON.parse(output) as { events: number }).events, events, keep);
  }
  const { output: said } = await runCommand(['prune', '--keep', '4h', '--dry-run'], { DATABASE_URL: url });
  t.regex(said, /^Would delete 4 events older than 4h: .* Nothing was deleted\.\n$/);
  t.is((await query('SELECT FROM outbox')).rowCount, 6);
  t.is(
    (await runCommand(['prune', '--keep', '4h'], { DATABASE_URL: url })).output,
    'Deleted 4 events older than 4h.\n',
  );
});

test('config shows each variable with what it comes from, and no secret', (t) => {
  const secret = 's3same-and-of-32-bytes-or-more-in-all';
  const env = {
    DATABASE_URL: `postgres://shop:${secret}@db.example:5433/app%20one?sslpassword=${secret}`,
    NATS_URL: `nats://user:${secret}@one.example:4222,two.example`,
    JWT_SECRET: secret,
    FORWARD_AUTH_URL: `https://app.example/${secret}?key=${secret}`,
    PORT: 'http',
    HOST: '',
    RETENTION: '7d',
    OUTBOX_RELAY_FROM_SETTINGS: 'JWT_SECRET,DATABASE_URL',
  };
  const settings = effectiveSettings(env);
  t.deepEqual(
    settings.map(({ name }) => name),
    VARIABLES,
  );
  t.false(JSON.stringify(settings).includes('s3same'));
  const of = (name: string) => {
    const found = settings.find((setting) => setting.name === name);
    return [found?.value, found?.from, found?.expected];
  };
  const database = 'postgres://shop:(not shown)@db.example:5433/app%20one';
  t.deepEqual(of('DATABASE_URL'), [database, 'settings', undefined]);
  t.deepEqual(of('LISTEN_DATABASE_URL'), [database, 'DATABASE_URL', undefined]);
  t.deepEqual(of('RETENTION_DATABASE_URL'), [database, 'DATABASE_URL', undefined]);
  t.deepEqual(of('NATS_URL').slice(0, 2), ['nats://(not shown)@one.example:4222,two.example', 'environment']);
  t.deepEqual(of('JWT_SECRET'), [`(not shown: ${secret.length} bytes)`, 'settings', undefined]);
  t.deepEqual(of('FORWARD_AUTH_URL'), ['https://app.example/…', 'environment', undefined]);
  t.deepEqual(of('PORT'), ['http', 'environment', 'a number from 0 to 65535']);
  t.deepEqual(of('HOST'), ['127.0.0.1', 'default', undefined]);
  t.deepEqual(of('RETENTION'), ['7d', 'environment', undefined]);
  t.deepEqual(of('LOG_LEVEL'), ['info', 'default', undefined]);
  for (const name of ['DATABASE_URL', 'NATS_URL', 'JWKS_URL']) {
    const [broken] = effectiveSettings({ [name]: `no address: ${secret}` }).filter((setting) => setting.name === name);
    t.is(broken?.value, '(not shown)');
    t.not(broken?.expected, undefined);
  }
});

test('config exits 1 for what is not valid, and prints all the rest', async (t) => {
  const { code, output } = await runCommand(['config'], { PORT: 'http', WORKERS: '2' });
  t.is(code, 1);
  t.regex(output, /^PORT +http {2}\(environment\)\n +NOT VALID: expected a number from 0 to 65535$/m);
  t.regex(output, /^WORKERS +2 {2}\(environment\)$/m);
  t.regex(output, /^RETENTION +nothing is deleted$/m);
});

test('colours are for terminals, and for none with NO_COLOR', async (t) => {
  const args = ['explain', '/events?channel=news'];
  const env = { PUBLIC_CHANNELS: 'news', TERM: 'xterm-256color' };
  const coloured = await runOnTerminal(args, env);
  t.regex(coloured.output, /\u001b\[32m/);
  t.notRegex((await runOnTerminal(args, { ...env, NO_COLOR: '1' })).output, /\u001b/);
  t.notRegex((await runCommand(args, env)).output, /\u001b/);
});

test('what is to be typed says manage.py where that has set its name', async (t) => {
  const { url } = await createDatabase(t, { template: false });
  const env = {
    DATABASE_URL: url,
    PUBLIC_CHANNELS: '*',
    OUTBOX_RELAY_COMMAND: 'python manage.py outbox_relay',
    OUTBOX_RELAY_MIGRATE: 'python manage.py migrate outbox',
  };
  t.regex((await runCommand(['start'], env)).output, /run: python manage\.py migrate outbox\n$/);
  t.regex((await runCommand(['stats'], env)).output, /run: python manage\.py migrate outbox\n$/);
  t.regex((await runCommand(['prune'], env)).output, /As in: python manage\.py outbox_relay prune --keep 7d\n$/);
  t.regex((await runCommand(['tail', '--help'], env)).output, /^Usage: python manage\.py outbox_relay tail /);
});

test('on a terminal pruning shows a bar, which is gone at the end', async (t) => {
  const { url, query } = await createDatabase(t);
  await query(
    "INSERT INTO outbox (channel, created_at) SELECT 'a', now() - interval '1 h' FROM generate_series(1, 5000)",
  );
  const { code, output } = await runOnTerminal(['prune', '--keep', '1m'], { DATABASE_URL: url });
  t.is(code, 0, output);
  t.regex(
    output,
    /\r\u001b\[KDeleting \[#+-+\] 40 % {2}2,000 of 5,000, .*\r\u001b\[KDeleted 5000 events older than 1m\.\r\n$/s,
  );
});

test('a bar says how far a work is, and how long the rest may take', (t) => {
  t.is(progressText('Deleting', 25, 100, 10), 'Deleting [######------------------] 25 %  25 of 100, 30 s left');
  t.is(progressText('Deleting', 100, 100, 10), 'Deleting [########################] 100 %  100 of 100');
  t.is(progressText('Deleting', 120, 100, 10), 'Deleting [########################] 100 %  120 of 100');
  t.is(progressText('Deleting', 1, 100_000, 1), `Deleting [${'-'.repeat(24)}] 0 %  1 of 100,000, 27.8 h left`);
  t.is(progressText('Published', 1234, undefined, 10), 'Published 1,234 …');
});
