/**
 * The doctor: each check is proven by breaking what it looks at, seeing that reported, running the fix as it is printed, and
 * seeing the doctor satisfied. On both ends of the range of supported servers.
 */
import net, { type AddressInfo } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { WITHOUT_INDEX, WITHOUT_TRIGGER } from '../src/admin/doctor/consequences.js';
import type { Level, Result } from '../src/admin/doctor/finding.js';
import { examine } from '../src/admin/doctor/doctor.js';
import { manifest, readManifest } from '../src/postgres/manifest.js';
import { withSession } from '../src/postgres/client.js';
import { runCommand } from './support/command.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { createPatient, paste, SCHEMA, troubles } from './support/patient.js';
import { startTestRelay } from './support/relay.js';
import { hangInCommit } from './support/hanging-commit.js';
import { openStream } from './support/stream.js';

const { functions: FUNCTIONS, indexes: INDEXES, tables: TABLES, triggers: TRIGGERS } = manifest;

interface Case {
  readonly name: string;
  /** Run by a superuser, with search_path at the outbox; OWNER and DATABASE stand for their names. */
  readonly harm: readonly string[];
  readonly check: string;
  /** Default: error. */
  readonly level?: Level;
  readonly what: RegExp;
}

const publish = `INSERT INTO outbox (channel, data) VALUES ('a', '1'), ('a', '2')`;
/** What only somebody does who goes past the triggers that refuse it. */
const loseFloor = [
  'ALTER TABLE outbox_floor DISABLE TRIGGER USER',
  'DELETE FROM outbox_floor',
  'ALTER TABLE outbox_floor ENABLE TRIGGER USER',
];
/** A role in tests that own nothing: it is there on every server, and can't log in. */
const OTHER = 'pg_monitor';

const CASES: readonly Case[] = [
  {
    name: 'an account of migrations that was emptied',
    harm: ['TRUNCATE outbox_migrations'],
    check: 'migrations',
    what: /account of its migrations .* is empty or gone/,
  },
  {
    name: 'an account of migrations that was dropped',
    harm: ['DROP TABLE outbox_migrations'],
    check: 'migrations',
    what: /account of its migrations .* is empty or gone/,
  },
  {
    name: 'a role for whom triggers do not fire',
    harm: ['ALTER ROLE "OWNER" SET session_replication_role = replica'],
    check: 'settings',
    what: /^session_replication_role is replica for role Owner \w+$/,
  },
  {
    name: 'a database in which triggers do not fire',
    harm: ['ALTER DATABASE DATABASE SET session_replication_role = replica'],
    check: 'settings',
    what: /^session_replication_role is replica for database test_\w+$/,
  },
  {
    name: 'a role whose commits a crash takes back',
    harm: ['ALTER ROLE "OWNER" IN DATABASE DATABASE SET synchronous_commit = off'],
    check: 'settings',
    level: 'warning',
    what: /^synchronous_commit is off for role Owner \w+ in database test_\w+$/,
  },
  {
    name: 'row security',
    harm: ['ALTER TABLE outbox ENABLE ROW LEVEL SECURITY'],
    check: 'tables',
    what: /^row security is on for outbox$/,
  },
  {
    name: 'a table that belongs to another',
    harm: [`ALTER TABLE outbox_pending OWNER TO ${OTHER}`],
    check: 'tables',
    what: /^outbox_pending belongs to pg_monitor, and the outbox to Owner/,
  },
  {
    name: 'a sequence that belongs to another',
    harm: [`ALTER SEQUENCE outbox_position_seq OWNER TO ${OTHER}`],
    check: 'tables',
    what: /^outbox_position_seq belongs to pg_monitor/,
  },
  {
    name: 'positions that sessions keep in reserve',
    harm: ['ALTER SEQUENCE outbox_position_seq CACHE 20'],
    check: 'tables',
    what: /^outbox_position_seq does not count one by one/,
  },
  {
    name: 'a table without a replica identity',
    harm: ['ALTER TABLE outbox_floor REPLICA IDENTITY NOTHING'],
    check: 'tables',
    what: /^outbox_floor has no replica identity$/,
  },
  {
    name: 'a restore without privileges',
    harm: FUNCTIONS.map(({ name, args }) => `GRANT EXECUTE ON FUNCTION ${name}(${args}) TO PUBLIC`),
    check: 'functions',
    level: 'warning',
    what: new RegExp(
      `^everybody may execute ${FUNCTIONS.filter(({ isPublic }) => !isPublic).length} functions of the outbox$`,
    ),
  },
  {
    name: 'a function that is missing, and its trigger with it',
    harm: ['DROP FUNCTION outbox_deleted() CASCADE'],
    check: 'functions',
    what: /^outbox_deleted\(\): it is missing$/,
  },
  {
    name: 'a function that no trigger needs, that is missing',
    harm: ['DROP FUNCTION outbox_place_listed(text)'],
    check: 'functions',
    what: /^outbox_place_listed\(text\): it is missing$/,
  },
  {
    name: 'a function whose body was changed',
    harm: [
      `CREATE OR REPLACE FUNCTION outbox_redacted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
         SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'`,
    ],
    check: 'functions',
    what: /^outbox_redacted\(\): its body was changed$/,
  },
  {
    name: 'a function with the rights of the publisher',
    harm: ['ALTER FUNCTION outbox_place() SECURITY INVOKER'],
    check: 'functions',
    what: /^outbox_place\(\): it is not SECURITY DEFINER$/,
  },
  {
    name: 'a function that looks where its caller looks',
    harm: ['ALTER FUNCTION outbox_place_listed(text) RESET search_path'],
    check: 'functions',
    what: /^outbox_place_listed\(text\): its settings were changed$/,
  },
  {
    name: 'a function that everybody may execute',
    harm: ['GRANT EXECUTE ON FUNCTION outbox_refuse_move() TO PUBLIC'],
    check: 'functions',
    level: 'warning',
    what: /^everybody may execute outbox_refuse_move\(\)$/,
  },
  {
    name: 'a function that belongs to another',
    harm: [`ALTER FUNCTION outbox_place() OWNER TO ${OTHER}`],
    check: 'functions',
    what: /^outbox_place\(\) belongs to pg_monitor, and the outbox to Owner/,
  },
  {
    name: 'triggers that are disabled',
    harm: TABLES.map((table) => `ALTER TABLE ${table} DISABLE TRIGGER USER`),
    check: 'triggers',
    what: new RegExp(`^disabled: ${TRIGGERS.map(({ name }) => name).join(', ')}$`),
  },
  {
    name: 'a trigger for replicas only',
    harm: ['ALTER TABLE outbox_pending ENABLE REPLICA TRIGGER outbox_2_place'],
    check: 'triggers',
    what: /^disabled: outbox_2_place$/,
  },
  {
    name: 'a trigger for replicas, too',
    harm: ['ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_1_reach_second_round'],
    check: 'triggers',
    level: 'warning',
    what: /^enabled ALWAYS: outbox_1_reach_second_round$/,
  },
  {
    name: 'triggers that are missing',
    harm: TRIGGERS.map(({ name, table }) => `DROP TRIGGER ${name} ON ${table}`),
    check: 'triggers',
    what: new RegExp(`^missing: ${TRIGGERS.map(({ name }) => name).join(', ')}$`),
  },
  {
    name: 'a trigger that is not deferred any more',
    harm: [
      'DROP TRIGGER outbox_2_place ON outbox_pending',
      'CREATE TRIGGER outbox_2_place AFTER INSERT ON outbox_pending FOR EACH ROW EXECUTE FUNCTION outbox_place()',
    ],
    check: 'triggers',
    what: /^not as the migrations made them: outbox_2_place$/,
  },
  {
    name: 'an outbox_floor without its row',
    harm: [publish, 'DELETE FROM outbox WHERE id = 1', ...loseFloor],
    check: 'floor',
    what: /^outbox_floor has lost its one row$/,
  },
  {
    name: 'an outbox_floor with two rows',
    harm: [
      'ALTER TABLE outbox_floor DROP CONSTRAINT outbox_floor_has_one_row',
      'ALTER TABLE outbox_floor DISABLE TRIGGER outbox_keep_floor',
      'INSERT INTO outbox_floor (id, position) VALUES (7, 7)',
      'ALTER TABLE outbox_floor ENABLE TRIGGER outbox_keep_floor',
    ],
    check: 'floor',
    what: /^outbox_floor has more than one row$/,
  },
  ...INDEXES.map(({ name, table, constraint }): Case => ({
    name: `the index ${name}, missing`,
    harm: [constraint === null ? `DROP INDEX ${name}` : `ALTER TABLE ${table} DROP CONSTRAINT ${name}`],
    check: 'indexes',
    what: new RegExp(`^${name} is missing$`),
  })),
  {
    name: 'an index that is invalid, as CREATE INDEX CONCURRENTLY leaves one',
    harm: [publish, `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'outbox_channel_position'::regclass`],
    check: 'indexes',
    what: /^outbox_channel_position is invalid, so it is not used$/,
  },
  {
    name: 'an index on something else',
    harm: ['DROP INDEX outbox_position', 'CREATE INDEX outbox_position ON outbox (position)'],
    check: 'indexes',
    what: /^outbox_position is not as the migrations made it$/,
  },
  {
    name: 'ids that will be handed out again',
    harm: [publish, `SELECT setval('outbox_id_seq', 1)`],
    check: 'sequences',
    what: /^outbox_id_seq has come to 1, but 2 is in use$/,
  },
  {
    name: 'positions that will be handed out again',
    harm: [publish, 'DELETE FROM outbox', `SELECT setval('outbox_position_seq', 1, false)`],
    check: 'sequences',
    what: /^outbox_position_seq has come to 0, but 2 is in use$/,
  },
  {
    name: 'rows that were inserted while the triggers were disabled',
    harm: ['ALTER TABLE outbox DISABLE TRIGGER USER', publish, 'ALTER TABLE outbox ENABLE TRIGGER USER'],
    check: 'positions',
    what: /^2 committed rows have no position \(ids from 1 to 2\)$/,
  },
  {
    name: 'rows that were inserted while half of the triggers fired',
    harm: [
      'ALTER TABLE outbox_pending DISABLE TRIGGER outbox_2_place',
      publish,
      publish,
      'ALTER TABLE outbox_pending ENABLE TRIGGER outbox_2_place',
    ],
    check: 'positions',
    what: /^outbox_pending has rows/,
  },
  {
    name: 'rows of the future',
    harm: [
      'ALTER TABLE outbox DISABLE TRIGGER outbox_refuse_change',
      publish,
      `UPDATE outbox SET created_at = now() + interval '1 day' WHERE id = 1`,
      'ALTER TABLE outbox ENABLE TRIGGER outbox_refuse_change',
    ],
    check: 'times',
    level: 'warning',
    what: /^1 rows have a created_at in the future$/,
  },
  {
    name: 'autovacuum that is off for a table',
    harm: ['ALTER TABLE outbox_pending SET (autovacuum_enabled = off)'],
    check: 'vacuum',
    level: 'warning',
    what: /^autovacuum is off for outbox_pending$/,
  },
];

for (const { name, harm, check, level = 'error', what } of CASES) {
  // One by one: each takes several connections, and the server has 300 for all.
  test.serial(`it finds ${name}, and its fix works`, async (t) => {
    const patient = await createPatient(t);
    const { db, owner } = patient;
    const named = (sql: string) =>
      sql.replaceAll('"OWNER"', `"${owner.name}"`).replaceAll('DATABASE DATABASE', `DATABASE ${db.name}`);
    await paste(db.url, harm.map(named));

    const found = troubles(await patient.examine());
    const trouble = found.find((finding) => finding.check === check);
    t.is(trouble?.level, level, JSON.stringify(found));
    t.regex(trouble?.what ?? '', what);
    t.truthy(trouble?.why);

    for (const { fix } of found) await patient.apply(fix);
    // What was behind a trouble shows only now: of an account that begins anew, the migrations after the first.
    for (const { fix } of troubles(await patient.examine())) await patient.apply(fix);
    t.deepEqual(troubles(await patient.examine()), []);
    // What publishes and prunes works as before.
    await paste(owner.url, [publish, `UPDATE outbox SET data = '3'`, 'DELETE FROM outbox WHERE id = 1', publish]);
    const { rows } = await db.query('SELECT id FROM outbox WHERE position IS NULL');
    t.deepEqual(rows, []);
  });
}

test('migrations/manifest.json is what the migrations make; npm run manifest writes it', async (t) => {
  const { url } = await createDatabase(t);
  const made = await withSession(url, 'test', (session) =>
    readManifest(async <Row extends pg.QueryResultRow>(sql: string) => (await session.query<Row>(sql)).rows, 'public'),
  );
  t.deepEqual(made, manifest);
});

test('it knows what breaks without each trigger and index', (t) => {
  t.deepEqual(Object.keys(WITHOUT_TRIGGER).sort(), TRIGGERS.map(({ name }) => name).sort());
  t.deepEqual(Object.keys(WITHOUT_INDEX).sort(), INDEXES.map(({ name }) => name).sort());
});

test('it finds columns that were altered, each by name', async (t) => {
  const patient = await createPatient(t);
  for (const { harm, what } of [
    {
      harm: 'ALTER TABLE outbox ALTER channel DROP NOT NULL',
      what: /^column outbox\.channel is text COLLATE "C", not /,
    },
    { harm: 'ALTER TABLE outbox ALTER event DROP DEFAULT', what: /^column outbox\.event is / },
    { harm: 'ALTER TABLE outbox ALTER data TYPE text', what: /^column outbox\.data is text, not jsonb$/ },
    { harm: 'ALTER TABLE outbox ALTER id SET GENERATED BY DEFAULT', what: /^column outbox\.id is .* BY DEFAULT/ },
    { harm: 'ALTER TABLE outbox_pending RENAME listed TO list', what: /^column outbox_pending\.listed is missing/ },
  ]) {
    await paste(patient.owner.url, [
      ...(harm.includes('data TYPE')
        ? ['DROP TRIGGER outbox_redacted ON outbox', 'DROP TRIGGER outbox_check ON outbox']
        : []),
      harm,
    ]);
    const found = troubles(await patient.examine()).filter(({ check }) => check === 'tables');
    t.true(
      found.some((finding) => finding.level === 'error' && what.test(finding.what)),
      `${harm}: ${JSON.stringify(found)}`,
    );
  }
});

test('settings that change how definitions are written are no trouble', async (t) => {
  const patient = await createPatient(t);
  await patient.db.query(`ALTER DATABASE ${patient.db.name} SET quote_all_identifiers = on`);
  t.deepEqual(troubles(await patient.examine()), []);
});

test(`a healthy database gets a clean bill from its relay's role, and what that one may not see is said`, async (t) => {
  const patient = await createPatient(t);
  await paste(patient.owner.url, [publish, 'DELETE FROM outbox WHERE id = 1']);
  // A statement that wrote would fail.
  await patient.db.query(`ALTER ROLE ${patient.relay.name} SET default_transaction_read_only = on`);
  const { code, output } = await runCommand(['doctor'], { DATABASE_URL: patient.relay.url });
  t.is(code, 0, output);
  const lines = output.trim().split('\n');
  t.is(lines.at(-1), '0 errors, 0 warnings, 2 not checked, 17 fine');
  t.true(output.includes(`run doctor once more as the owner of the outbox (${patient.owner.name})`), output);
  t.true(output.includes('as a superuser or a member of pg_monitor'), output);
  t.regex(output, new RegExp(`^ok +rights +role ${patient.relay.name} can read, and no more$`, 'm'));
});

test('it changes nothing, neither in a healthy database nor in an ill one', async (t) => {
  const patient = await createPatient(t);
  await paste(patient.db.url, [publish, 'ALTER TABLE outbox DISABLE TRIGGER USER', publish, ...loseFloor]);
  const before = await contents(patient.db);
  t.true(troubles(await patient.examine()).length > 2);
  t.deepEqual(await contents(patient.db), before);
});

test('rows that it has placed are delivered, as new events in the order of their ids, and once', async (t) => {
  const patient = await createPatient(t);
  const { db, owner } = patient;
  const relay = await startTestRelay(t, patient.relay.url, { SWEEP_SECONDS: '3600' });
  const stream = await openStream(t, `${relay.url}/events/a`);
  const insert = (value: string) => `INSERT INTO outbox (channel, data) VALUES ('a', '"${value}"')`;
  await paste(owner.url, [
    insert('before'),
    'ALTER TABLE outbox DISABLE TRIGGER USER',
    insert('first lost'),
    insert('second lost'),
    'ALTER TABLE outbox ENABLE TRIGGER USER',
    insert('after'),
  ]);
  await stream.untilEvents(2);

  const [trouble] = troubles(await patient.examine());
  // Two at a time: both have found the rows when they come to wait for them.
  await db.withClient(async (other) => {
    await other.query('BEGIN');
    await other.query('SELECT FROM outbox WHERE position IS NULL FOR UPDATE');
    const both = [patient.apply(trouble?.fix), patient.apply(trouble?.fix)];
    for (;;) {
      const { rowCount } = await db.query(
        `SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'`,
        [db.name],
      );
      if (rowCount === 2) break;
    }
    await other.query('COMMIT');
    await Promise.all(both);
  });
  await db.query(insert('last'));
  await stream.untilEvents(5);
  t.deepEqual(
    stream.events.map((event) => event.data),
    ['before', 'after', 'first lost', 'second lost', 'last'],
  );
  const resumed = await openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': '4' });
  t.deepEqual(
    (await resumed.untilEvents(3)).map((event) => event.data),
    ['first lost', 'second lost', 'last'],
  );
});

test('a row of a transaction that is still open is not taken for one without a position', async (t) => {
  const patient = await createPatient(t);
  await patient.db.withClient(async (open) => {
    await open.query('BEGIN');
    await open.query(publish);
    t.deepEqual(troubles(await patient.examine()), []);
    await open.query('COMMIT');
  });
});

test('it finds a transaction that is open for long, and who has it, and its fix ends it', async (t) => {
  const patient = await createPatient(t);
  const open = new pg.Client({ connectionString: patient.owner.url, application_name: 'forgotten' });
  open.on('error', () => {});
  await open.connect();
  await open.query('BEGIN; SELECT 1');
  t.deepEqual(troubles(await patient.examine()), [], 'not one of this moment');
  const [trouble, ...others] = troubles(await patient.examine({ oldSeconds: 0 }));
  t.deepEqual(others, []);
  t.is(trouble?.check, 'transactions');
  t.regex(trouble?.what ?? '', /^a transaction is open for .*, idle in transaction, .* application "forgotten"$/);
  const ended = new Promise((resolve) => open.once('end', resolve));
  await patient.apply(trouble?.fix);
  await ended;
  await untilTroubles(() => patient.examine({ oldSeconds: 0 }), 0);
});

test('it finds a commit that hangs, what that waits for, and whom to end, and nothing once it is over', async (t) => {
  const patient = await createPatient(t);
  const { db } = patient;
  const hanging = await hangInCommit(t, db, ['a']);
  const [trouble, ...others] = troubles(await patient.examine());
  t.deepEqual(others, []);
  t.like(trouble, { check: 'commits', level: 'error' });
  t.regex(
    trouble?.what ?? '',
    new RegExp(`^a commit hangs: process ${hanging.process}, active, .*, which waits for Lock: advisory$`),
  );
  t.regex(trouble?.why ?? '', /not delivered until it ends: all after position 0\./);
  // It waits for a superuser's session, which the owner may not end.
  if (trouble?.fix === undefined || !('sql' in trouble.fix)) throw new Error('There is nothing to run.');
  await paste(db.url, trouble.fix.sql);
  await untilTroubles(patient.examine, 0);
  t.is((await db.query('SELECT FROM outbox WHERE position = 1')).rowCount, 1, 'it was committed');
});

test('it finds a transaction that was placed before its commit, and its fix ends it', async (t) => {
  const patient = await createPatient(t);
  const open = new pg.Client({ connectionString: patient.owner.url, application_name: 'early' });
  open.on('error', () => {});
  await open.connect();
  t.teardown(() => open.end());
  await open.query('BEGIN');
  await open.query(`DO $$ BEGIN
    INSERT INTO outbox (channel) VALUES ('a'); SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL IMMEDIATE;
  END $$`);
  const [trouble, ...others] = troubles(await patient.examine());
  t.deepEqual(others, []);
  t.regex(
    trouble?.what ?? '',
    /^a transaction was placed before its commit, and is still open: .* application "early"$/,
  );
  await patient.apply(trouble?.fix);
  await untilTroubles(patient.examine, 0);
});

const NO_RELAY = /no relay holds the lock of the relay that is awake: .* application "jealous"$/;
const NOT_COMMITTING = /not committing holds the lock of the publisher that rings: .* application "jealous"$/;
for (const [lock, key, what, why] of [
  ['pg_advisory_lock', 2, NO_RELAY, /^publishers do not ring/],
  ['pg_advisory_lock_shared', 2, NO_RELAY, /^no relay can become awake/],
  ['pg_advisory_lock', 3, NOT_COMMITTING, /^publishers leave ringing to whoever holds it/],
  ['pg_advisory_lock_shared', 3, NOT_COMMITTING, /^publishers leave ringing to whoever holds it/],
] as const) {
  test(`it finds who keeps publishers from ringing by ${lock} of key ${key}, and its fix ends it`, async (t) => {
    const patient = await createPatient(t);
    const client = new pg.Client({ connectionString: patient.owner.url, application_name: 'jealous' });
    client.on('error', () => {});
    await client.connect();
    t.teardown(() => client.end());
    await client.query(`SELECT ${lock}('outbox'::regclass::oid::integer, ${key})`);
    const [trouble, ...others] = troubles(await patient.examine());
    t.deepEqual(others, []);
    t.like(trouble, { check: 'awake', level: 'warning' });
    t.regex(trouble?.what ?? '', what);
    t.regex(trouble?.why ?? '', why);
    if (key === 2) {
      await client.query(`SET application_name = 'outbox-relay listener'`);
      t.deepEqual(troubles(await patient.examine()), [], 'a relay may');
      await client.query(`SET application_name = 'jealous'`);
    }
    await patient.apply(trouble?.fix);
    await untilTroubles(patient.examine, 0);
  });
}

test('a role for whom outbox_settled() was taken away is found, and gets it back with its rights', async (t) => {
  const patient = await createPatient(t);
  await patient.db.query(`REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA "${SCHEMA}" FROM PUBLIC, ${patient.relay.name}`);
  const found = troubles(
    await examine({ databaseUrl: patient.relay.url, listenDatabaseUrl: patient.relay.url }),
  ).filter(({ level }) => level === 'error');
  t.deepEqual(
    found.map(({ what }) => what),
    [`role ${patient.relay.name} may not execute outbox_settled`],
  );
  await patient.apply(found[0]?.fix);
  await startTestRelay(t, patient.relay.url);
  const after = troubles(await examine({ databaseUrl: patient.relay.url, listenDatabaseUrl: patient.relay.url }));
  t.false(after.some(({ level }) => level === 'error'));
});

test('it finds dead rows that are many times the live ones, and its fix removes them', async (t) => {
  const patient = await createPatient(t);
  await paste(patient.db.url, [
    'ALTER TABLE outbox_pending SET (autovacuum_enabled = off)',
    'SET session_replication_role = replica',
    `INSERT INTO outbox_pending SELECT 0 FROM generate_series(1, 1000001)`,
    'DELETE FROM outbox_pending',
  ]);
  const found = await untilTroubles(patient.examine, 2);
  t.regex(found[1]?.what ?? '', /^outbox_pending has 1000001 dead rows beside 0 that live$/);
  for (const { fix } of found) await patient.apply(fix);
  t.deepEqual(await untilTroubles(patient.examine, 0), []);
});

test('an empty database is told to migrate, and one whose role looks elsewhere where to look', async (t) => {
  const patient = await createPatient(t);
  const { db, owner } = patient;
  await db.query(`ALTER ROLE "${owner.name}" IN DATABASE ${db.name} SET search_path = nowhere`);
  const [elsewhere, ...more] = troubles(await patient.examine());
  t.deepEqual(more, []);
  t.is(elsewhere?.what, `the outbox is in schema "${SCHEMA}", and the search_path of role ${owner.name} is nowhere`);
  await patient.apply(elsewhere?.fix);
  t.deepEqual(troubles(await patient.examine()), []);

  // A table of another, which comes first.
  await db.query(`CREATE SCHEMA first; CREATE TABLE first.outbox (theirs text); GRANT USAGE ON SCHEMA first TO PUBLIC`);
  await db.query(`ALTER ROLE "${owner.name}" IN DATABASE ${db.name} SET search_path = first, "${SCHEMA}"`);
  const [shadowed] = troubles(await patient.examine());
  t.is(shadowed?.what, `the search_path leads to another table than that of the outbox in schema ${SCHEMA}`);
  await patient.apply(shadowed?.fix);
  t.deepEqual(troubles(await patient.examine()), []);

  const empty = await createDatabase(t, { template: false });
  const [none] = troubles(await examine({ databaseUrl: empty.url, listenDatabaseUrl: empty.url }));
  t.is(none?.what, `database ${empty.name} has no outbox`);
  t.deepEqual(none?.fix, { as: 'a role that may create tables', command: 'npx outbox-relay migrate' });
  t.is((await runCommand(['migrate'], { DATABASE_URL: empty.url })).code, 0);
  t.deepEqual(troubles(await examine({ databaseUrl: empty.url, listenDatabaseUrl: empty.url })), []);
});

test('a role with less than a relay needs is told what to grant, and one with more what it has', async (t) => {
  const patient = await createPatient(t);
  const { db, relay } = patient;
  const asRelay = async () =>
    troubles(await examine({ databaseUrl: relay.url, listenDatabaseUrl: relay.url })).filter(
      ({ level }) => level !== 'unchecked',
    );
  await db.query(`REVOKE USAGE ON SCHEMA "${SCHEMA}" FROM ${relay.name}`);
  const [hidden] = await asRelay();
  t.is(hidden?.what, `the outbox is in schema "${SCHEMA}", which role ${relay.name} may not use`);
  await patient.apply(hidden?.fix && { ...hidden.fix, as: patient.owner.name });
  t.deepEqual(await asRelay(), []);

  await db.query(`REVOKE SELECT ON outbox FROM ${relay.name}`);
  const [lacking] = await asRelay();
  t.is(lacking?.what, `role ${relay.name} may not read outbox`);
  await patient.apply(lacking?.fix);
  t.deepEqual(await asRelay(), []);

  await db.query(`GRANT INSERT ON outbox TO ${relay.name}`);
  const results = await examine({ databaseUrl: relay.url, listenDatabaseUrl: patient.owner.url });
  const rights = results.find(({ check }) => check === 'rights')?.findings ?? [];
  t.deepEqual(
    rights.map(({ level, what }) => [level, what.split(':')[0]]),
    [
      ['warning', `role ${relay.name} can do more than read`],
      ['warning', `role ${patient.owner.name} can do more than read`],
    ],
    'both addresses are looked at',
  );
});

test('it finds a database that is newer than itself, and one that is older', async (t) => {
  const db = await createDatabase(t);
  await db.query(`INSERT INTO outbox_migrations (name, run_on) VALUES ('99_future', now())`);
  await db.query(`UPDATE outbox_migrations SET name = '0_of_old' WHERE name = '1_outbox'`);
  const found = troubles(await examine({ databaseUrl: db.url, listenDatabaseUrl: db.url }));
  t.deepEqual(
    found.map(({ check, what }) => [check, what]),
    [
      ['migrations', 'the database lacks 1_outbox'],
      ['migrations', 'the database is newer than this outbox-relay: 0_of_old, 99_future'],
    ],
  );
});

test('it finds a clock that is off by more than a second, and says by how much', async (t) => {
  const patient = await createPatient(t);
  const off = async (ms: number) => troubles(await patient.examine({ now: () => Date.now() + ms }));
  t.deepEqual(await off(900), []);
  t.deepEqual(await off(-900), []);
  const [ahead] = await off(-90_000);
  t.regex(ahead?.what ?? '', /^the database's clock is (89\.9|90|90\.1) seconds ahead of this machine's$/);
  const [behind] = await off(3 * 3600 * 1000 + 60_000);
  t.is(behind?.what, "the database's clock is 3 hours behind this machine's");
});

test('it finds that notifications do not arrive, as through a pooler', async (t) => {
  const patient = await createPatient(t);
  const listenDatabaseUrl = await startDeafProxy(t, patient.owner.url);
  const [deaf, ...others] = troubles(await patient.examine({ listenDatabaseUrl }));
  t.deepEqual(others, []);
  t.is(deaf?.level, 'warning');
  t.is(deaf?.what, 'LISTEN works at LISTEN_DATABASE_URL, but no notification arrived within 2 seconds');
});

test('it finds a LISTEN_DATABASE_URL that does not work, or leads elsewhere', async (t) => {
  const patient = await createPatient(t);
  const refused = new URL(patient.owner.url);
  refused.port = '1';
  refused.password = 'sesame';
  const [away] = troubles(await patient.examine({ listenDatabaseUrl: refused.href }));
  t.regex(away?.what ?? '', /ECONNREFUSED/);
  t.false(JSON.stringify(away).includes('sesame'));

  const { url } = await createDatabase(t);
  const results = await patient.examine({ listenDatabaseUrl: url });
  const elsewhere = troubles(results).find(({ check }) => check === 'notifications');
  t.is(elsewhere?.what, 'LISTEN_DATABASE_URL and DATABASE_URL lead to different databases');
});

test('the command exits with 1 on errors and 0 on warnings, and shows no password', async (t) => {
  const patient = await createPatient(t);
  const url = new URL(patient.owner.url);
  await patient.db.query(`ALTER ROLE "${patient.owner.name}" PASSWORD 'sesame'`);
  url.password = 'sesame';
  const env = { DATABASE_URL: url.href, LISTEN_DATABASE_URL: url.href };
  const warned = await runCommand(['doctor'], env);
  t.is(warned.code, 0, warned.output);
  t.regex(warned.output, /^WARNING +rights/m);
  t.is(warned.output.trim().split('\n').at(-1), '0 errors, 1 warning, 0 not checked, 18 fine');

  await patient.db.query('ALTER TABLE outbox DISABLE TRIGGER outbox_deleted');
  const ill = await runCommand(['doctor'], env);
  t.is(ill.code, 1);
  t.regex(ill.output, /^ERROR +triggers +disabled: outbox_deleted$/m);
  t.true(ill.output.includes('  ALTER TABLE outbox ENABLE TRIGGER outbox_deleted;'), ill.output);
  const json = await runCommand(['doctor', '--json'], env);
  t.is(json.code, 1);
  const results = JSON.parse(json.output) as Result[];
  t.deepEqual(
    troubles(results).map(({ check, level }) => [check, level]),
    [['triggers', 'error']],
  );
  for (const { output } of [warned, ill, json]) t.false(output.includes('sesame'));
});

test('without a database, or with one that is away, the command says so in one line', async (t) => {
  const none = await runCommand(['doctor']);
  t.deepEqual([none.code, none.output.trim().split('\n').length], [1, 1]);
  t.true(none.output.includes('DATABASE_URL is not set'));
  const away = await runCommand(['doctor'], { DATABASE_URL: 'postgres://app:sesame@127.0.0.1:1/app' });
  t.deepEqual([away.code, away.output.trim().split('\n').length], [1, 1]);
  t.true(away.output.startsWith('The database is not reachable: '));
  t.false(away.output.includes('sesame'));
});

async function contents(db: TestDatabase): Promise<unknown[]> {
  const statements = [
    'SELECT * FROM outbox ORDER BY id',
    'SELECT * FROM outbox_pending',
    'SELECT * FROM outbox_floor',
    'SELECT last_value, is_called FROM outbox_id_seq',
    'SELECT last_value, is_called FROM outbox_position_seq',
    'SELECT tgname, tgenabled FROM pg_trigger ORDER BY oid',
    'SELECT oid, relname, relacl, relowner FROM pg_class ORDER BY oid',
  ];
  return Promise.all(statements.map(async (sql) => (await db.query(sql)).rows as unknown[]));
}

/** PostgreSQL counts dead rows, and takes an ended session off its list, a moment later. */
async function untilTroubles(look: () => Promise<readonly Result[]>, count: number) {
  for (;;) {
    const found = troubles(await look());
    if (found.length === count) return found;
  }
}

/** A stand-in for a pooler in transaction mode: all goes through, but what PostgreSQL sends unasked. */
async function startDeafProxy(t: ExecutionContext, url: string): Promise<string> {
  const target = new URL(url);
  const { port, hostname } = target;
  const server = net.createServer((near) => {
    const far = net.connect(Number(port), hostname);
    near.pipe(far);
    let buffered = Buffer.alloc(0);
    far.on('data', (chunk: Buffer) => {
      buffered = Buffer.concat([buffered, chunk]);
      // A message is a letter, and a length that counts itself. A: NotificationResponse.
      while (buffered.length >= 5 && buffered.length > buffered.readUInt32BE(1)) {
        const end = buffered.readUInt32BE(1) + 1;
        if (buffered.toString('latin1', 0, 1) !== 'A') near.write(buffered.subarray(0, end));
        buffered = buffered.subarray(end);
      }
    });
    for (const socket of [near, far]) socket.on('error', () => undefined);
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  t.teardown(() => server.close());
  target.port = String((server.address() as AddressInfo).port);
  return target.href;
}
