/** The command `feed` on PostgreSQL and NATS: what it sets up, feeds and erases, and what it refuses. */
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { makeRoles } from '../../src/admin/roles.js';
import { startCommand } from '../support/cli.js';
import { runCommand } from '../support/command.js';
import { createDatabase } from '../support/database.js';
import { eventsIn, openStream, readWhole, startFeederProcess } from '../support/feeder-process.js';
import { startNats, type NatsServers } from '../support/nats.js';
import { findInFiles } from '../support/stream-check.js';

const DEADLINE_MS = 30_000;
const POLL_MS = 20;

const ends: (() => unknown)[] = [];
let started: Promise<NatsServers> | undefined;
/** One server for all, with a stream of its own for each. */
const server = () => (started ??= startNats({ teardown: (end) => void ends.push(end) }));
test.after.always(async () => {
  for (const end of ends.reverse()) await end();
});

async function until(isDone: () => Promise<boolean>, what: string): Promise<void> {
  for (const late = performance.now() + DEADLINE_MS; !(await isDone()); await delay(POLL_MS)) {
    if (performance.now() > late) throw new Error(`it takes too long until ${what}`);
  }
}

/** Room for a stream of each test. */
const LEAST_BYTES = String(64 * 1024 ** 2);

const nameOf = () => `s${randomBytes(4).toString('hex')}`;

const linesOf = (output: string) =>
  output
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

async function setUp(t: ExecutionContext, options: readonly string[] = []) {
  const nats = await server();
  const stream = nameOf();
  const nowhere = { NATS_URL: nats.url, NATS_STREAM: stream };
  const { code, output } = await runCommand(['feed', '--setup', '--max-bytes', LEAST_BYTES, ...options], nowhere);
  t.is(code, 0, output);
  const database = await createDatabase(t);
  const log = await openStream(t, { url: nats.url, stream });
  const env = { ...nowhere, DATABASE_URL: database.url };
  const publish = (count: number, data = 'x') =>
    database.query(
      `INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb($2::text) FROM generate_series(1, $1::integer)`,
      [count, data],
    );
  const isFed = async () => {
    const { rows } = await database.query<{ id: string }>('SELECT id FROM outbox ORDER BY position DESC LIMIT 1');
    return eventsIn(await readWhole(log)).at(-1)?.id === rows[0]?.id;
  };
  return { nats, stream, database, log, env, publish, isFed, output };
}

test.serial('--setup makes the stream as it is asked for, says what it is, and finds it again', async (t) => {
  const { env, log, output } = await setUp(t, ['--max-age', '2h', '--max-bytes', '100000000']);
  t.regex(output, /^made the stream s\w+: 1 copy on file, kept for 7200 seconds, up to 100000000 bytes/);
  t.true(output.includes(`"${log.subjects.anyQuestion}"`) && output.includes('allow_responses: true'));
  const { config } = await log.manager.streams.info(log.stream);
  t.like(config, { max_age: 7200e9, max_bytes: 100_000_000, subjects: [log.subjects.log], allow_direct: true });
  const again = await runCommand(['feed', '--setup', '--replicas', '3', '--max-age', '3h'], env);
  t.is(again.code, 0, again.output);
  t.regex(again.output, /^found the stream/);
  t.regex(again.output, /It has 1 copies, and not 3; to change it: nats stream edit s\w+ --replicas 3/);
  t.regex(again.output, /--max-age 10800s/);
});

test.serial('feed --json prints a line for each step: of --setup, and of feeding with its figures', async (t) => {
  const { env, publish, isFed, stream } = await setUp(t);
  const { code, output } = await runCommand(['feed', '--setup', '--max-age', '3h', '--json'], env);
  t.is(code, 0, output);
  const steps = linesOf(output);
  t.deepEqual(
    steps.map(({ step, user }) => [step, user]),
    [
      ['stream', undefined],
      ['differs', undefined],
      ['permissions', 'feeder'],
      ['permissions', 'relay'],
    ],
  );
  t.like(steps[0], { stream, made: false, replicas: 1, storage: 'file', maxBytes: Number(LEAST_BYTES), messages: 0 });
  const todo = `nats stream edit ${stream} --max-age 10800s`;
  t.like(steps[1], { option: '--max-age', has: 3600, wanted: 10_800, todo });

  const feeder = startCommand(t, ['feed', '--json'], env);
  // A new stream begins after what is there by then.
  await feeder.until('"ready":true');
  await publish(3);
  await until(isFed, 'it is fed');
  await feeder.until(/"step":"figures"[^\n]*"position":"3"[^\n]*"events":3,/);
  feeder.signal('SIGTERM');
  t.is(await feeder.ended, 0, feeder.err);
  const lines = linesOf(feeder.out);
  t.like(lines[0], { step: 'started', stream });
  t.like(lines.at(-1), { step: 'stopped', position: '3', events: 3, erased: 0 });
  t.regex(feeder.err, /"msg":"stopping"/, 'the log is elsewhere');
});

test.serial('feed --json whose reader is gone stops, without a failure, and says why', async (t) => {
  const { env } = await setUp(t);
  const feeder = startCommand(t, ['feed', '--json'], env);
  await feeder.until('"ready":true');
  feeder.stopReading();
  t.is(await feeder.ended, 0, feeder.err);
  t.regex(feeder.err, /nobody reads the figures any more[^]*"msg":"stopped"/);
});

test.serial('two feeders with the role of a relay feed each event once, in order, and either may die', async (t) => {
  const { env, database, log, publish, isFed } = await setUp(t);
  const role = `relay_${randomBytes(4).toString('hex')}`;
  const [made] = await makeRoles(database.url, { relay: [role] });
  t.true(made?.created);
  await database.query(`ALTER ROLE ${role} PASSWORD 'secret'`);
  t.teardown(() => database.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`));
  const url = new URL(database.url);
  [url.username, url.password] = [role, 'secret'];
  const settings = { ...env, DATABASE_URL: url.href };
  const [first, second] = [await startFeederProcess(t, settings), await startFeederProcess(t, settings)];
  await publish(3);
  await until(isFed, 'it is fed');
  await first.end('SIGKILL');
  await publish(2000);
  await until(isFed, 'it is fed by the other');
  await startFeederProcess(t, settings);
  t.is(await second.end('SIGTERM'), 0, second.output());
  await publish(1);
  await until(isFed, 'it is fed by the next');
  const { rows } = await database.query<{ id: string }>('SELECT id FROM outbox ORDER BY position');
  t.deepEqual(
    eventsIn(await readWhole(log)).map(({ id }) => id),
    rows.map(({ id }) => id),
  );
});

test.serial('a feeder has health and metrics on METRICS_PORT, and beats while it feeds', async (t) => {
  const { env, log, publish, isFed } = await setUp(t);
  const beats: unknown[] = [];
  log.beats((beat) => beats.push(beat));
  const feeder = await startFeederProcess(t, env);
  await publish(5);
  await until(isFed, 'it is fed');
  await until(() => Promise.resolve(beats.length > 0), 'it beats');
  t.like(beats.at(-1), { isListening: true });
  const metrics = await (await fetch(`${feeder.url}/metrics`)).text();
  t.regex(metrics, /^outbox_relay_feeder_events_total 5$/m);
  t.regex(metrics, /^outbox_relay_feeder_fenced 0$/m);
  t.is((await fetch(`${feeder.url}/healthz`)).status, 200);
  t.is((await fetch(`${feeder.url}/events`)).status, 404);
});

test.serial('what is redacted and deleted is on no disk of NATS any more', async (t) => {
  const { env, nats, database, publish, isFed } = await setUp(t);
  await startFeederProcess(t, env);
  const [redacted, deleted, kept] = ['0.redacted', '0.deleted0', '0.keptkept'];
  await publish(1, deleted);
  await until(isFed, 'it is fed');
  await publish(1, redacted);
  await until(isFed, 'it is fed');
  await publish(1, kept);
  await until(isFed, 'it is fed');
  const folders = nats.servers.map(({ store }) => store);
  const found = async (token: string) => (await findInFiles(folders, new Set([token]), 0)).length > 0;
  t.true(await found(redacted));
  await database.query(`UPDATE outbox SET data = '"gone"' WHERE data = to_jsonb($1::text)`, [redacted]);
  await until(async () => !(await found(redacted)), 'what was redacted is erased');
  await database.query('DELETE FROM outbox WHERE data = to_jsonb($1::text)', [deleted]);
  await until(async () => !(await found(deleted)), 'what was deleted is erased');
});

test.serial('a stream of another outbox is refused, and not touched', async (t) => {
  const { env, log, publish, isFed } = await setUp(t);
  const feeder = await startFeederProcess(t, env);
  await publish(3);
  await until(isFed, 'it is fed');
  await feeder.end('SIGTERM');
  const before = await log.tip();
  // Another system: as nobody else has PostgreSQL here, the stream's entries are made to be of one.
  const { entry } = before;
  if (entry?.kind !== 'run') throw new TypeError('the last entry is no run');
  const events = entry.events.map((event) => ({ ...event, id: `${event.id}9` }));
  const last = { ...entry.last, id: events.at(-1)?.id ?? '' };
  await log.append({ ...entry, system: '1', prev: entry.prev, last, events }, before.sequence);
  const { code, output } = await runCommand(['feed'], env);
  t.is(code, 1);
  t.regex(output, /is that of another outbox.*NATS_STREAM/s);
  t.is((await log.tip()).sequence, before.sequence + 1n);
});

test.serial(
  'a stream that is missing, or keeps too little, or is not republished, is refused with what to do',
  async (t) => {
    const { env, log } = await setUp(t);
    const missing = await runCommand(['feed'], { ...env, NATS_STREAM: nameOf() });
    t.is(missing.code, 1);
    t.regex(missing.output, /NATS has no stream \w+\. Make it once.*feed --setup/);
    const info = await log.manager.streams.info(log.stream);
    await log.manager.streams.delete(log.stream);
    const { republish, ...config } = info.config;
    t.truthy(republish);
    await log.manager.streams.add({
      ...config,
      max_bytes: 1000,
      max_age: 5e9,
      duplicate_window: 1e9,
      allow_direct: false,
      deny_delete: true,
    });
    for (const args of [['feed'], ['feed', '--setup']]) {
      const { code, output } = await runCommand(args, env);
      t.is(code, 1);
      t.regex(output, /keeps 1000 bytes.*nats stream edit s\w+ --max-bytes/s);
      t.regex(output, /keeps messages for 5 seconds/);
      t.regex(output, /does not allow direct gets/);
      t.regex(output, /does not send each message once more/);
      t.regex(output, /denies deletion.*has to be made anew: nats stream rm/s);
    }
  },
);

test.serial('permissions that are missing are named, and those that --setup prints are enough', async (t) => {
  const stream = 'guarded';
  const admin = await startNats(t);
  const open = { NATS_URL: admin.url, NATS_STREAM: stream };
  const { output: printed } = await runCommand(['feed', '--setup'], open);
  const [, feeder = '', relay = ''] = /of feeders:\n(.*)\n\nand for that of relays:\n(.*)/s.exec(printed) ?? [];
  const users = `authorization { users: [
    { user: admin, password: pass }, { user: feeder, password: pass, ${feeder} }, { user: relay, password: pass, ${relay} },
    { user: nobody, password: pass, permissions: { publish: { deny: ["$JS.API.STREAM.PURGE.>", "outbox.*.log"] } } },
    { user: deaf, password: pass, permissions: { subscribe: { deny: ["outbox.*.live"] } } } ] }`;
  const nats = await startNats(t, { config: users });
  const as = (user: string) => ({ NATS_STREAM: stream, NATS_URL: nats.url.replace('//', `//${user}:pass@`) });
  const made = await runCommand(['feed', '--setup'], as('admin'));
  t.is(made.code, 0, made.output);
  const database = await createDatabase(t);
  const settings = (user: string) => ({ DATABASE_URL: database.url, ...as(user) });
  const refused = await runCommand(['feed'], settings('nobody'));
  t.is(refused.code, 1);
  t.regex(refused.output, /NATS refuses this feeder what it needs:\n.*publish to \$JS\.API\.STREAM\.PURGE\.guarded/s);
  t.regex(refused.output, /publish to outbox\.guarded\.log/);
  t.notRegex(refused.output, /publish to outbox\.guarded\.beat/);
  const deaf = await runCommand([], { ...settings('deaf'), PUBLIC_CHANNELS: '*', PORT: '0' });
  t.is(deaf.code, 1);
  t.regex(deaf.output, /NATS refuses this relay what it needs:\n.*subscribe to outbox\.guarded\.live/s);
  const feeding = await startFeederProcess(t, settings('feeder'));
  const log = await openStream(t, { url: settings('relay').NATS_URL, stream });
  await database.query(`INSERT INTO outbox (channel, data) VALUES ('a', '"0.permits0"')`);
  await until(async () => eventsIn(await readWhole(log)).length === 1, 'it is fed');
  t.true((await log.feeders.isSameHistory({ position: 0n, id: '0', createdAt: undefined })).isSame);
  await database.query(`UPDATE outbox SET data = '"gone"'`);
  await until(async () => eventsIn(await readWhole(log)).length === 0, 'it is erased');
  await t.throwsAsync(() =>
    log.append(
      {
        kind: 'begin',
        at: { position: 9n, id: '9' },
        epoch: 'forged',
        system: '1',
        timeline: 1,
        wal: 1n,
        state: undefined,
      },
      0n,
    ),
  );
  await feeding.end('SIGTERM');
  const wrong = await runCommand(['feed'], {
    ...settings('feeder'),
    NATS_URL: nats.url.replace('//', '//feeder:wrong@'),
  });
  t.is(wrong.code, 1);
  t.regex(wrong.output, /refused.*Check the user and the password in NATS_URL/);
  t.notRegex(wrong.output, /wrong@/);
});

test.serial('servers that are too old, without JetStream or not there are told of', async (t) => {
  const { env } = await setUp(t);
  const old = net.createServer((socket) => {
    socket.write(
      `INFO ${JSON.stringify({ server_id: 'x', version: '2.9.10', proto: 1, headers: true, max_payload: 1048576, jetstream: true })}\r\n`,
    );
    socket.on('data', (data) => String(data).includes('PING') && socket.write('PONG\r\n'));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((listening) => old.listen(0, '127.0.0.1', listening));
  t.teardown(() => old.close());
  const port = (old.address() as net.AddressInfo).port;
  const told = async (NATS_URL: string) => {
    const { code, output } = await runCommand(['feed'], { ...env, NATS_URL });
    t.is(code, 1, output);
    return output;
  };
  t.regex(await told(`nats://127.0.0.1:${port}`), /nats-server 2\.9\.10 is too old: 2\.12 or newer is needed/);
  t.regex(await told('nats://127.0.0.1:1'), /NATS at 127\.0\.0\.1:1 is not reachable.*Check NATS_URL/);
  const without = await runCommand(['feed'], { DATABASE_URL: env.DATABASE_URL });
  t.regex(without.output, /NATS_URL is not set/);
  t.regex((await runCommand(['feed'], { NATS_URL: env.NATS_URL })).output, /DATABASE_URL is not set/);
  t.regex((await runCommand(['feed', '--replicas', '3'], env)).output, /made by --setup/);
});

test.serial(
  'a message that is forged or cut is counted and passed by, and with NATS_SECRET nobody else can make one',
  async (t) => {
    const { env, log, database, publish } = await setUp(t);
    const feeder = await startFeederProcess(t, { ...env, NATS_SECRET: 'a secret of more than thirty-two bytes' });
    await until(async () => (await log.tip()).unreadable === 1, 'it begins, sealed');
    const { sequence } = await log.tip();
    await log.append(
      {
        kind: 'begin',
        at: { position: 999n, id: '999' },
        epoch: 'forged',
        system: '1',
        timeline: 1,
        wal: 1n,
        state: undefined,
      },
      sequence,
    );
    await publish(2);
    await until(async () => (await log.tip()).sequence > sequence + 1n, 'it goes on after what was forged');
    const metrics = await (await fetch(`${feeder.url}/metrics`)).text();
    t.regex(metrics, /^outbox_relay_feeder_unreadable_total 1$/m);
    t.regex(metrics, /^outbox_relay_feeder_events_total 2$/m);
    t.regex(feeder.output(), /cut, forged, of another version, or sealed with another/);
    t.is((await database.query('SELECT FROM outbox')).rowCount, 2);
  },
);

test.serial('publishers notice nothing while NATS is away, and all is fed once it is back', async (t) => {
  const nats = await startNats(t);
  const [only] = nats.servers;
  const stream = 'away';
  const nowhere = { NATS_URL: nats.url, NATS_STREAM: stream };
  t.is((await runCommand(['feed', '--setup'], nowhere)).code, 0);
  const database = await createDatabase(t);
  const feeder = await startFeederProcess(t, { ...nowhere, DATABASE_URL: database.url });
  const insert = () => database.query(`INSERT INTO outbox (channel, data) SELECT 'a', '1' FROM generate_series(1, 10)`);
  await insert();
  await only.end('SIGKILL');
  await until(async () => (await fetch(`${feeder.url}/readyz`)).status === 503, 'it says so');
  t.regex(await (await fetch(`${feeder.url}/readyz`)).text(), /not_connected/);
  for (let count = 0; count < 20; count += 1) await insert();
  await only.start();
  const log = await openStream(t, { url: nats.url, stream });
  await until(async () => eventsIn(await readWhole(log)).length === 210, 'all is fed');
  await until(async () => (await fetch(`${feeder.url}/readyz`)).ok, 'it is ready again');
});

test.serial('doctor says what a relay with NATS_URL would find there', async (t) => {
  const { env, log } = await setUp(t);
  const told = async () => (await runCommand(['doctor'], env)).output;
  t.regex(await told(), /ERROR +stream +no feeder is there\n.*\n.*outbox-relay feed/);
  await startFeederProcess(t, env);
  const fine = await told();
  t.regex(fine, /ok +stream +s\w+: 1 copy on file/);
  t.regex(fine, /ok +stream +a feeder feeds it/);
  await log.manager.jetstream().publish(log.subjects.log, 'forged');
  t.regex(await told(), /ERROR +stream +the last 1 entries of the stream cannot be read/);
  await log.manager.streams.delete(log.stream);
  t.regex(await told(), /ERROR +stream +NATS has no stream[^]*npx outbox-relay feed --setup/);
});
