/**
 * `publish`: what it inserts, in which order, and what it says of what is refused.
 */
import { randomBytes } from 'node:crypto';
import test from 'ava';
import { startCommand } from './support/cli.js';
import { runCommand } from './support/command.js';
import { createDatabase, type TestDatabase } from './support/database.js';

async function rows({ query }: TestDatabase): Promise<unknown[]> {
  const found = await query<{ channel: string; event: string; data: unknown }>(
    'SELECT channel, event, data FROM outbox ORDER BY position',
  );
  return found.rows.map(({ channel, event, data }) => [channel, event, data]);
}

async function publishLines(
  t: Parameters<typeof startCommand>[0],
  url: string,
  args: string[],
  input: string | Buffer,
) {
  const command = startCommand(t, ['publish', ...args], { DATABASE_URL: url });
  command.type(input);
  const code = await command.ended;
  return { code, out: command.out, err: command.err };
}

test('publish inserts one event, JSON as JSON and all else as text, and says its id', async (t) => {
  const database = await createDatabase(t);
  const env = { DATABASE_URL: database.url };
  t.deepEqual(await runCommand(['publish', 'orders', '{"n": 12345678901234567890}', '--event', 'status'], env), {
    code: 0,
    output: 'Published 1 to orders.\n',
  });
  await runCommand(['publish', 'orders', 'hello there'], env);
  await runCommand(['publish', 'orders', '7', '--text'], env);
  const { output } = await runCommand(['publish', 'orders', '[]', '--json'], env);
  t.deepEqual(JSON.parse(output), { line: 1, id: '4', channel: 'orders', event: 'message' });
  const { rows: found } = await database.query(`SELECT event, data::text FROM outbox ORDER BY position`);
  t.deepEqual(found, [
    { event: 'status', data: '{"n": 12345678901234567890}' },
    { event: 'message', data: '"hello there"' },
    { event: 'message', data: '"7"' },
    { event: 'message', data: '[]' },
  ]);
});

test('publish takes NDJSON from standard input, each line as it stands, and passes blank lines by', async (t) => {
  const database = await createDatabase(t);
  const input = '{"a":1}\r\n\n  \nplain text\n"a string"\nnull\n[1,2]';
  const { code, out } = await publishLines(t, database.url, ['a', '--event', 'x'], input);
  t.deepEqual([code, out], [0, 'Published 5 events to a, ids 1 to 5.\n']);
  const data = [{ a: 1 }, 'plain text', 'a string', null, [1, 2]];
  t.deepEqual(
    await rows(database),
    data.map((value) => ['a', 'x', value]),
  );
});

test('publish names the line that is refused, publishes none after it, and keeps those before', async (t) => {
  const database = await createDatabase(t);
  for (const [args, input, expected] of [
    [['a'], '1\n2\n{"x":\n4\n', /^Line 3: This begins like JSON, and is none: .*publish --text …\n$/],
    [['a'], '1\n\n"\\u0000"\n4\n', /^Line 3: PostgreSQL refused the event: .*\\u0000/],
    [['a'], `1\n"${'x'.repeat(17 * 2 ** 20)}"\n`, /^Line 2: .*outbox_data_at_most_16_mib/],
    [['a'], Buffer.from('1\n\xff\n', 'latin1'), /^Line 2 is not UTF-8\.\n$/],
    [['a*'], '1\n', /^Line 1: .*outbox_channel_no_asterisk/],
    [['a', '--event', 'stream-x'], '1\n', /^Line 1: .*outbox_event_prefix_stream_is_reserved/],
  ] as const) {
    await database.query('DELETE FROM outbox');
    const { code, out, err } = await publishLines(t, database.url, [...args], input);
    t.is(code, 1);
    t.regex(err, expected);
    const published = (await rows(database)).length;
    t.true(out.startsWith(`Published ${published} event`), out);
    t.is(published, Math.max(0, Number(/^Line (\d)/.exec(err)?.[1]) - 1 - (String(input).includes('\n\n') ? 1 : 0)));
  }
  const { code, output } = await runCommand(['publish', 'a', '{'], { DATABASE_URL: database.url });
  t.is(code, 1);
  t.true(output.startsWith('This begins like JSON'), output);
});

test('publish says of a role that may not insert which one it takes', async (t) => {
  const { url, query, name } = await createDatabase(t);
  await query(`CREATE ROLE "${name}_reader" LOGIN PASSWORD 'reads'; GRANT SELECT ON outbox TO "${name}_reader"`);
  t.teardown(() => query(`DROP OWNED BY "${name}_reader"; DROP ROLE "${name}_reader"`));
  const reader = new URL(url);
  reader.username = `${name}_reader`;
  reader.password = 'reads';
  const { code, output } = await runCommand(['publish', 'a', '1'], { DATABASE_URL: reader.href });
  t.is(code, 1);
  t.regex(output, /^The role ".*_reader" in DATABASE_URL may not publish.* roles --app shop\n$/);
  t.is((await query('SELECT FROM outbox')).rowCount, 0);
});

test('publish --rate keeps the rate, and Ctrl-C ends it with what was published', async (t) => {
  const { url, query } = await createDatabase(t);
  const began = performance.now();
  const { out } = await publishLines(t, url, ['a', '--rate', '20'], '1\n'.repeat(21));
  t.true(performance.now() - began >= 1000);
  t.regex(out, /^Published 21 events/);
  const slow = startCommand(t, ['publish', 'b', '--rate', '0.001', '--json'], { DATABASE_URL: url });
  slow.type('1\n2\n');
  await slow.untilLines(1);
  slow.signal('SIGINT');
  t.is(await slow.ended, 130);
  t.is((await query("SELECT FROM outbox WHERE channel = 'b'")).rowCount, 1);
});

test('publish stops when nobody reads what it says any more, without an error', async (t) => {
  const { url, query } = await createDatabase(t);
  const command = startCommand(t, ['publish', 'a', '--json'], { DATABASE_URL: url });
  command.type('1\n'.repeat(20_000));
  await command.untilLines(1);
  command.stopReading();
  t.deepEqual([await command.ended, command.err], [0, '']);
  t.true(((await query('SELECT FROM outbox')).rowCount ?? 0) < 20_000);
});

test('publish names the span of --traceparent, or of the environment where that has one', async (t) => {
  const { url, query } = await createDatabase(t);
  const trace = (n: number) => `00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333${n}-01`;
  const env = { DATABASE_URL: url, TRACEPARENT: trace(1) };
  await runCommand(['publish', 'a', '1'], env);
  await runCommand(['publish', 'a', '2', '--traceparent', trace(2)], env);
  await runCommand(['publish', 'a', '3'], { ...env, TRACEPARENT: 'anything' });
  const { rows: found } = await query<{ traceparent: string | null }>('SELECT traceparent FROM outbox ORDER BY id');
  t.deepEqual(
    found.map(({ traceparent }) => traceparent),
    [trace(1), trace(2), null],
  );
  const { code, output } = await runCommand(['publish', 'a', '4', '--traceparent', `${trace(2)} `], env);
  t.is(code, 1);
  t.regex(output, /Expected W3C's form, as in 00-/);
});

test('a role that may not name a span publishes without, and is told where one is asked for', async (t) => {
  const { url, query } = await createDatabase(t);
  const role = `app_${randomBytes(4).toString('hex')}`;
  await query(
    `CREATE ROLE ${role} LOGIN PASSWORD 'p'; GRANT INSERT (channel, event, data), SELECT ON outbox TO ${role}`,
  );
  t.teardown(() => query(`DROP OWNED BY ${role}; DROP ROLE ${role}`));
  const address = new URL(url);
  address.username = role;
  address.password = 'p';
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const env = { DATABASE_URL: address.href, TRACEPARENT: traceparent };
  t.deepEqual(await runCommand(['publish', 'a', '1'], env), { code: 0, output: 'Published 1 to a.\n' });
  const { code, output } = await runCommand(['publish', 'a', '2', '--traceparent', traceparent], env);
  t.is(code, 1);
  t.regex(output, /lacks INSERT on the column traceparent\. As the owner of the outbox, run: .*roles --app shop/);
});
