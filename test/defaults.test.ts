/**
 * Defaults of a database that change what statements mean: the relay and its commands go by settings of their own.
 */
import test from 'ava';
import pg from 'pg';
import { runCommand } from './support/command.js';
import { createDatabase, type ServerName } from './support/database.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';

const DEFAULTS = {
  default_transaction_isolation: "'serializable'",
  default_transaction_deferrable: 'on',
  default_transaction_read_only: 'on',
  statement_timeout: "'1ms'",
  lock_timeout: "'1ms'",
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

for (const server of ['newest', 'oldest'] as const satisfies readonly ServerName[]) {
  test(`whatever a database's defaults are, relay and commands do what they do (${server})`, async (t) => {
    const database = await createDatabase(t, { server });
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
    await relay.stop();
    const env = { DATABASE_URL: database.url };
    const doctor = await runCommand(['doctor'], env);
    t.notRegex(doctor.output, /cannot be looked at|not as the migrations made|is not the one/, doctor.output);
    for (const args of [
      ['migrate'],
      ['migrate', 'status'],
      ['advance-ids'],
      ['prune', '--keep', '1s'],
      ['migrate', 'down'],
      ['migrate'],
    ]) {
      const { code, output } = await runCommand(args, env);
      t.is(code, 0, `${args.join(' ')}: ${output}`);
    }
  });

  test(`R9: SERIALIZABLE publishers fail for nothing that a relay reads, serializable by default or not (${server})`, async (t) => {
    const database = await createDatabase(t, { server });
    await database.query(`ALTER DATABASE ${database.name} SET default_transaction_isolation = 'serializable'`);
    const relay = await startTestRelay(t, database.url, { WINDOW_MEGABYTES: '0', SWEEP_SECONDS: '0.05' });
    const stream = await openStream(t, `${relay.url}/events?channel=a`);
    const failures: string[] = [];
    // One after the other, so that nobody but the relay could be in their way.
    const publisher = new pg.Client({ connectionString: database.url, application_name: 'test' });
    await publisher.connect();
    try {
      for (let n = 1; n <= 15; n += 1) {
        try {
          await publisher.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
          await publisher.query('SELECT count(*) FROM outbox');
          await publisher.query(`INSERT INTO outbox (channel, data) VALUES ('a', '1')`);
          // While it is open a replay reads what it may conflict with.
          const replay = await openStream(t, `${relay.url}/events?channel=a&last_event_id=earliest&n=${n}`);
          await replay.untilEvents(n - 1 - failures.length);
          await publisher.query(`INSERT INTO outbox (channel, data) VALUES ('b', '1')`);
          await publisher.query('COMMIT');
        } catch (error) {
          failures.push(String(error));
          await publisher.query('ROLLBACK');
        }
      }
    } finally {
      await publisher.end();
    }
    t.deepEqual(failures, []);
    t.is((await stream.untilEvents(15)).length, 15);
    const { rows } = await database.query(
      `SELECT DISTINCT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
       WHERE mode = 'SIReadLock' AND application_name LIKE 'outbox-relay%'`,
    );
    t.deepEqual(rows, [], 'no read of the relay takes part in what serializable transactions watch');
  });
}
