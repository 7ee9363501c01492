/**
 * `tail`: what it prints of a relay's stream, through the ends of relays, and of whatever somebody has published.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { eventText, readEvent } from '../src/cli/commands/event-text.js';
import { startCommand } from './support/cli.js';
import { runCommand } from './support/command.js';
import { createDatabase } from './support/database.js';
import { startRelayProcess } from './support/relay-process.js';
import { startTestRelay } from './support/relay.js';
import { SECRET, tokenFor } from './support/token.js';

const NO_COLOURS = { bold: same, dim: same, red: same, green: same, yellow: same, cyan: same };
function same(text: string): string {
  return text;
}

interface Printed {
  readonly id: string;
  readonly channel: string;
  readonly event: string;
  readonly data: unknown;
}
const isAborted = ({ aborted }: AbortSignal) => aborted;
const parsed = (lines: readonly string[]) => lines.map((line) => JSON.parse(line) as Printed);

test('R6: tail misses nothing and prints nothing twice while its relay is killed and started again, five times', async (t) => {
  const { url, query } = await createDatabase(t);
  const relay = await startRelayProcess(t, url);
  const tail = startCommand(t, ['tail', 'a', 'b:*', '--url', relay.url, '--from', 'earliest', '--json']);
  await query("INSERT INTO outbox (channel, data) VALUES ('a', '0')");
  await tail.untilLines(1);
  let published = 1;
  const done = new AbortController();
  const publishing = (async () => {
    while (!isAborted(done.signal)) {
      await query("INSERT INTO outbox (channel, data) VALUES ('a', $1), ('other', '0'), ('b:1', $2)", [
        published,
        published + 1,
      ]);
      published += 2;
      await delay(5);
    }
  })();
  for (let n = 0; n < 5; n += 1) {
    await delay(300);
    await relay.end('SIGKILL');
    await delay(200);
    await relay.start();
  }
  done.abort();
  await publishing;
  const lines = parsed(await tail.untilLines(published));
  t.deepEqual(
    lines.map(({ data }) => data),
    Array.from({ length: published }, (_, n) => n),
  );
  t.true(tail.err.includes('Going on when it is back'), tail.err);
  tail.signal('SIGINT');
  t.is(await tail.ended, 0);
});

test('tail starts where --from says, filters by event, and ends after --limit events', async (t) => {
  const { url, query } = await createDatabase(t);
  await query(`INSERT INTO outbox (channel, event, data, created_at) VALUES
    ('a', 'x', '1', now() - interval '1 h'), ('a', 'y', '2', now()), ('a', 'x', '{"n": 12345678901234567890}', now()), ('b', 'x', '4', now())`);
  const relay = await startTestRelay(t, url);
  const tail = async (...args: string[]) => {
    const { code, output } = await runCommand(['tail', ...args, '--json', '--url', relay.url]);
    t.is(code, 0, output);
    return output.trim().split('\n');
  };
  const ids = async (...args: string[]) => parsed(await tail(...args)).map(({ id }) => id);
  t.deepEqual(await ids('a', '--from', 'earliest', '--limit', '3'), ['1', '2', '3']);
  t.deepEqual(await ids('a', '--from', '1', '--limit', '2'), ['2', '3']);
  t.deepEqual(await ids('a', '--from', '10m', '--limit', '1'), ['2']);
  t.deepEqual(await ids('a', '--from', '2020-01-31T12:00:00Z', '--limit', '1'), ['1']);
  t.deepEqual(await ids('*', '--from', 'earliest', '--event', 'x', '--limit', '3'), ['1', '3', '4']);
  const [line = ''] = await tail('a', '--from', '2', '--limit', '1');
  t.regex(line, /^\{"id":"3","channel":"a","created_at":"[^"]+","event":"x","data":\{"n": 12345678901234567890\}\}$/);
  const { output } = await runCommand(['tail', 'a', '--from', '1', '--limit', '1', '--url', relay.url]);
  t.regex(output, /^\d\d:\d\d:\d\d\.\d{3} {2}a {2}y {2}#2 {2}2\n$/);
});

test('tail says that a cursor cannot be honoured, and goes on', async (t) => {
  const { url, query } = await createDatabase(t);
  await query("INSERT INTO outbox (channel) VALUES ('a')");
  const relay = await startTestRelay(t, url);
  const people = startCommand(t, ['tail', 'a', '--from', '99', '--url', relay.url, '--limit', '1']);
  const programs = startCommand(t, ['tail', 'a', '--from', '99', '--url', relay.url, '--limit', '1', '--json']);
  await people.until('warning: no event here ever had the id 99. Going on after 1', 'err');
  const [reset = ''] = await programs.untilLines(1);
  t.deepEqual(JSON.parse(reset), { reset: { reason: 'unknown', lastEventId: '99', cursor: '1' } });
  await query("INSERT INTO outbox (channel) VALUES ('a')");
  t.deepEqual([await people.ended, await programs.ended], [0, 0]);
});

test('tail reads with the token of --token or OUTBOX_TOKEN, or with one that JWT_SECRET signs, and says a refusal', async (t) => {
  const { url, query } = await createDatabase(t);
  await query("INSERT INTO outbox (channel) VALUES ('a')");
  const relay = await startTestRelay(t, url, { PUBLIC_CHANNELS: '', JWT_SECRET: SECRET });
  const args = ['tail', 'a', '--from', 'earliest', '--limit', '1', '--url', relay.url];
  const token = await tokenFor(['a']);
  for (const [more, env] of [
    [['--token', token], {}],
    [[], { OUTBOX_TOKEN: token }],
    [[], { JWT_SECRET: SECRET }],
  ] as const) {
    const { code, output } = await runCommand([...args, ...more], env);
    t.is(code, 0, output);
  }
  const refused = await runCommand(args);
  t.is(refused.code, 1);
  t.regex(refused.output, /refused \(401\): unauthorized\. Not public: a\. /);
  const forbidden = await runCommand([...args, '--token', await tokenFor(['b'])]);
  t.regex(forbidden.output, /refused \(403\): forbidden\. /);
});

test('tail fails at once where no relay is, and where something else is', async (t) => {
  const { url } = await createDatabase(t);
  const relay = await startTestRelay(t, url, { METRICS_PORT: '0' });
  const nobody = await runCommand(['tail', 'a', '--url', 'http://127.0.0.1:9']);
  t.deepEqual([nobody.code, nobody.output.startsWith('No relay answers at http://127.0.0.1:9: ')], [1, true]);
  const other = await runCommand(['tail', 'a', '--url', new URL('/', relay.metricsUrl).href]);
  t.is(other.code, 1);
  t.regex(other.output, /refused \(404\)/);
  for (const args of [['a', '--url', 'ftp://x'], ['a*'], ['a', '--from', 'soon']]) {
    const { code } = await runCommand(['tail', ...args]);
    t.is(code, 1, args.join(' '));
  }
});

test('tail ends without an error when its reader has gone, also while it has nothing to print', async (t) => {
  const { url, query } = await createDatabase(t);
  await query(
    "INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(repeat('x', 10000)) FROM generate_series(1, 100)",
  );
  const relay = await startTestRelay(t, url);
  const tail = startCommand(t, ['tail', 'a', '--from', 'earliest', '--url', relay.url]);
  await tail.untilLines(1);
  tail.stopReading();
  await query("INSERT INTO outbox (channel) VALUES ('a')");
  t.deepEqual([await tail.ended, tail.err], [0, '']);
});

const HOSTILE =
  '\u001b]0;title\u0007\u001b[2J\u001b[31mred\u009b2J\u202ereversed\u0000\r12:00:00.000  a  message  #9  forged\u2028\udc00';

test('nothing that was published moves the cursor of a terminal, or passes for another event', (t) => {
  for (const data of [HOSTILE, `one\n${HOSTILE}\r\n\ttwo`]) {
    const envelope = JSON.stringify({
      id: '1',
      channel: HOSTILE,
      created_at: '2026-11-29T06:00:00Z',
      event: HOSTILE,
      data,
    });
    const shown = eventText(readEvent('1', 'message', envelope), NO_COLOURS);
    t.notRegex(shown, /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
    const [, ...others] = shown.trimEnd().split('\n');
    for (const line of others) t.true(line.startsWith('    | '), line);
  }
});

test('an event of 16 MiB is shown in part, or whole on demand, and is whole in JSON', async (t) => {
  const { url, query } = await createDatabase(t);
  const size = 16 * 2 ** 20;
  await query("INSERT INTO outbox (channel, data) VALUES ('a', to_jsonb(repeat('x', $1)))", [size]);
  await query("INSERT INTO outbox (channel, data) VALUES ('a', to_jsonb(repeat(E'\\n', $1)))", [2_000_000]);
  const relay = await startTestRelay(t, url);
  const tail = (...args: string[]) => runCommand(['tail', 'a', '--from', 'earliest', '--url', relay.url, ...args]);
  const { output } = await tail('--limit', '2');
  t.true(output.length < 3000, `${output.length} characters`);
  t.regex(output, /… 16,777,216 bytes; --full shows all\n/);
  t.true((await tail('--limit', '1', '--full')).output.length > size);
  const { data } = JSON.parse((await tail('--limit', '1', '--json')).output) as Printed;
  t.is(data, 'x'.repeat(size));
});
