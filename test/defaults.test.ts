/**
 * Defaults of a database that change what statements mean: the relay and its commands go by settings of their own.
 */
import test from 'ava';
import pg from 'pg';
import { runCommand } from './support/command.js';
import { createDatabase } from './support/database.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';

const DEFAULTS = {
  default_transaction_isolation: "'serializable'",
  default_transaction_deferrable: 'on',
  default_transaction_read_only: 'on',
  statement_timeout: "'250ms'",
  lock_timeout: "'250ms'",
  idle_session_timeout: "'300ms'",
  search_path: 'information_schema, public',
  client_encoding: "'LATIN1'",
  DateStyle: "'SQL, DMY'",
  IntervalStyle: "'sql_standard'",
  TimeZone: "'Pacific/Chatham'",
  bytea_output: "'escape'",
  extra_float_digits: '-15',
  quote_all_identifiers: 'on',
  standard_conforming_strings: 'off',
} as const;

test(`whatever a database's defaults are, relay and commands do what they do`, async (t) => {
  const database = await createDatabase(t);
  for (const [name, value] of Object.entries(DEFAULTS)) {
    await database.query(`ALTER DATABASE ${database.name} SET ${name} = ${value}`);
  }
  // Pool and publisher are connected since before.
  await database.query(`INSERT INTO outbox (channel, data) VALUES ('ä', '"ö€"')`);
  const relay = await startTestRelay(t, database.url, { SWEEP_SECONDS: '3600' });
  for (const query of ['channel=%C3%A4&last_event_id=earliest', 'channel=%C3%A4&since=2020-01-01T00:00:00Z']) {
    const stream = await openStream(t, `${relay.url}/events?${query}`);
    t.is((await stream.untilEvents(1))[0]?.data, 'ö€');
  }
  // Who connects now has all of them.
  const fresh = await openStream(t, `${relay.url}/events?channel=new`);
  await database.withClient(async (client) => {
    await client.query('BEGIN READ WRITE');
    await client.query(`INSERT INTO outbox (channel, data) VALUES ('new', '"ö€"'), ('new', '2')`);
    await client.query('COMMIT');
  });
  t.deepEqual(
    (await fresh.untilEvents(2)).map(({ data }) => data),
    ['ö€', '2'],
  );
  await relay.stop();
  const env = { DATABASE_URL: database.url };
  const doctor = await runCommand(['doctor'], env);
  t.notRegex(doctor.output, /cannot be looked at|not as the migrations made|is not the one/, doctor.output);
  for (const args of [
    ['migrate'],
    ['migrate', 'status'],
    ['advance-ids'],
    ['prune', '--keep', '1s'],
    ['migrate', 'down', '--yes'],
    ['migrate'],
  ]) {
    const { code, output } = await runCommand(args, env);
    t.is(code, 0, `${args.join(' ')}: ${output}`);
  }
});

test('R9: SERIALIZABLE publishers fail for nothing that a relay reads, serializable by default or not', async (t) => {
  const database = await createDatabase(t);
  await database.query(`ALTER DATABASE ${database.name} SET default_transaction_isolation = 'serializable'`);
  const relay = await startTestRelay(t, database.url, { WINDOW_MEGABYTES: '0', SWEEP_SECONDS: '0.05' });
  const stream = await openStream(t, `${relay.url}/events?channel=a`);
  const failures: string[] = [];
  const open = async () => {
    const client = new pg.Client({ connectionString: database.url, application_name: 'test' });
    await client.connect();
    return client;
  };
  const [slow, quick] = await Promise.all([open(), open()]);
  try {
    for (let n = 1; n <= 15; n += 1) {
      await slow.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
      try {
        await slow.query('SELECT count(*) FROM outbox');
        await quick.query(`INSERT INTO outbox (channel, data) VALUES ('a', '1')`);
        // A reader that has seen this one and not yet the other: the anomaly for which the other would have to fail.
        await stream.untilEvents(n);
        await (await openStream(t, `${relay.url}/events?channel=a&last_event_id=earliest`)).untilEvents(n);
        await slow.query(`INSERT INTO outbox (channel, data) VALUES ('b', '1')`);
        await slow.query('COMMIT');
      } catch (error) {
        failures.push(String(error));
        await slow.query('ROLLBACK');
      }
    }
  } finally {
    await Promise.all([slow.end(), quick.end()]);
  }
  t.deepEqual(failures, []);
});
