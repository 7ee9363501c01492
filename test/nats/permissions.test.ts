/**
 * The users of examples/deploy/nats/users.conf, with real servers: what setup, feeders and relays do is allowed, and no more is.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { createDatabase } from '../support/database.js';
import { runCommand } from '../support/command.js';
import { ROOT } from '../support/docs.js';
import { startExposedFeeder } from '../support/exposed-feeder.js';
import { findServer, startNats } from '../support/nats.js';
import { randomOf } from '../support/random.js';
import { startRelayProcess } from '../support/relay-process.js';
import { startShift } from '../support/shift.js';
import { openStream } from '../support/stream.js';

const FOLDER = join(ROOT, 'examples/deploy/nats');
const PASSWORDS = {
  NATS_SETUP_PASSWORD: 'of-setup',
  NATS_FEEDER_PASSWORD: 'of-feeder',
  NATS_RELAY_PASSWORD: 'of-relay',
} as const;
type User = 'setup' | 'feeder' | 'relay';

/** One server with these users; its address for each. */
async function startWithUsers(t: ExecutionContext): Promise<Readonly<Record<User, string>>> {
  let users = await readFile(join(FOLDER, 'users.conf'), 'utf8');
  for (const [name, password] of Object.entries(PASSWORDS)) users = users.replace(`$${name}`, `"${password}"`);
  const nats = await startNats(t, { config: users });
  const urlOf = (user: User) => nats.url.replace('//', `//${user}:of-${user}@`);
  return { setup: urlOf('setup'), feeder: urlOf('feeder'), relay: urlOf('relay') };
}

async function connectAs(t: ExecutionContext, url: string): Promise<NatsConnection> {
  const { username, password, host } = new URL(url);
  const connection = await connect({ servers: host, user: username, pass: password });
  t.teardown(() => connection.close());
  return connection;
}

test('nats.conf is valid as it stands, with what it takes from the environment', async (t) => {
  const env = {
    NATS_NAME: 'nats-1',
    NATS_ROUTES: '[nats://nats-1:6222, nats://nats-2:6222, nats://nats-3:6222]',
    NATS_DATA: '/data',
    ...PASSWORDS,
  };
  await t.notThrowsAsync(promisify(execFile)(findServer(), ['-t', '-c', join(FOLDER, 'nats.conf')], { env }));
});

test('with the users of the example the stream is set up, fed, read and redacted', async (t) => {
  const database = await createDatabase(t);
  const urls = await startWithUsers(t);
  const env = { DATABASE_URL: database.url, NATS_SECRET: 'x'.repeat(48) };
  const setup = await runCommand(['feed', '--setup'], { ...env, NATS_URL: urls.setup });
  t.is(setup.code, 0, setup.output);
  const lines: string[] = [];
  const feeder = await startExposedFeeder(
    t,
    'feeder',
    { ...env, NATS_URL: urls.feeder },
    {
      random: randomOf(1, 'feeder'),
      shift: startShift(),
      signal: new AbortController().signal,
      log: (line) => void lines.push(line),
    },
  );
  await feeder.works();
  const relay = await startRelayProcess(
    t,
    database.url,
    { NATS_URL: urls.relay, NATS_SECRET: env.NATS_SECRET },
    (line) => void lines.push(line),
  );
  const stream = await openStream(t, `${relay.url}/events?channel=orders`);
  const insert = (text: string) =>
    database.query<{ id: string }>(
      `INSERT INTO outbox (channel, data) VALUES ('orders', to_jsonb($1::text)) RETURNING id`,
      [text],
    );
  const { rows } = await insert('a secret');
  await stream.untilEvents(1);

  await database.query(`UPDATE outbox SET data = '"redacted"' WHERE id = $1`, [rows[0]?.id]);
  await insert('the next');
  await stream.untilEvents(2);
  const reader = await connectAs(t, urls.setup);
  const manager = await jetstreamManager(reader);
  for (let isLeft = true; isLeft;) {
    isLeft = false;
    const { state } = await manager.streams.info('outbox');
    for (let seq = state.first_seq; seq <= state.last_seq; seq += 1) {
      const message = await manager.streams.getMessage('outbox', { seq }).catch(() => null);
      if (message && Buffer.from(message.data).includes('a secret')) isLeft = true;
    }
  }
  const denied = lines.filter((line) => /permission|"level":"(?:error|fatal)"/i.test(line));
  t.deepEqual(denied, []);
  t.deepEqual(feeder.complaints, []);
});

test('a relay can neither append, nor erase, nor beat, nor answer, nor hear what others ask', async (t) => {
  const database = await createDatabase(t);
  const urls = await startWithUsers(t);
  const setup = await runCommand(['feed', '--setup'], { DATABASE_URL: database.url, NATS_URL: urls.setup });
  t.is(setup.code, 0, setup.output);
  const feeder = await connectAs(t, urls.feeder);
  await jetstream(feeder).publish('outbox.outbox.log', 'an entry');

  const relay = await connectAs(t, urls.relay);
  const manager = await jetstreamManager(relay);
  const { state } = await manager.streams.info('outbox');
  t.is(state.messages, 1, 'it can read');
  t.truthy(await manager.direct.getMessage('outbox', { seq: 1 }));
  const denied = { message: /permission/i };
  await t.throwsAsync(jetstream(relay).publish('outbox.outbox.log', 'a forged one'), denied);
  await t.throwsAsync(manager.streams.deleteMessage('outbox', 1), denied);
  await t.throwsAsync(manager.streams.purge('outbox'), denied);
  await t.throwsAsync(manager.streams.delete('outbox'), denied);
  await t.throwsAsync(manager.streams.update('outbox', { max_bytes: 1 }), denied);
  await t.throwsAsync(manager.streams.add({ name: 'another', subjects: ['another'] }), denied);
  for (const subject of ['live', 'beat', 'log']) {
    const errors = relay.status()[Symbol.asyncIterator]();
    relay.publish(`outbox.outbox.${subject}`, 'forged');
    await relay.flush();
    t.regex(JSON.stringify((await errors.next()).value), /permission/i, subject);
  }
  for (const subject of ['outbox.outbox.ask.*', '>', '$JS.>']) {
    const refused = new Promise<Error | null>((resolve) => relay.subscribe(subject, { callback: resolve }));
    t.regex(String(await refused), /permission/i, subject);
  }
  t.is((await manager.streams.info('outbox')).state.messages, 1);
});

test('a feeder can neither change the stream nor make or delete one', async (t) => {
  const database = await createDatabase(t);
  const urls = await startWithUsers(t);
  const setup = await runCommand(['feed', '--setup'], { DATABASE_URL: database.url, NATS_URL: urls.setup });
  t.is(setup.code, 0, setup.output);
  const manager = await jetstreamManager(await connectAs(t, urls.feeder));
  const denied = { message: /permission/i };
  await t.throwsAsync(manager.streams.delete('outbox'), denied);
  await t.throwsAsync(manager.streams.update('outbox', { max_bytes: 1 }), denied);
  await t.throwsAsync(manager.streams.add({ name: 'another', subjects: ['another'] }), denied);
});
