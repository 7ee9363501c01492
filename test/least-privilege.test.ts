/**
 * The command `roles`: each role that it makes can do its job and nothing else; and a relay says at its start when its own
 * role can do more. In a schema other than public, since that one is open to everybody in its own way before PostgreSQL 15.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { pino } from 'pino';
import { readConfig } from '../src/config/config.js';
import { openDatabase } from '../src/postgres/pool.js';
import { migrate } from '../src/postgres/migrate.js';
import { startRelay } from '../src/relay.js';
import { excessRights, type ExcessRights } from '../src/admin/excess-rights.js';
import { prune } from '../src/admin/prune.js';
import { PURPOSES, type Purpose } from '../src/admin/rights.js';
import { makeRoles, rolesSql, type RoleNames } from '../src/admin/roles.js';
import { runCommand } from './support/command.js';
import { createDatabase, serverUrl, type TestDatabase } from './support/database.js';
import { startRelayProcess } from './support/relay-process.js';
import { eachMigration } from './support/migrations.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';

const PERMISSION_DENIED = { code: '42501' };
const SCHEMA = 'Our Events';
const SETTLED = 'EXECUTE function outbox_settled';
const POLL_MS = 20;
const WEEK = 7 * 86_400;

const quoted = (name: string) => pg.escapeIdentifier(name);
const lines = (output: string) => output.trim().split('\n');

type Names = Readonly<Record<Purpose, string>>;

/** Names for this test alone, since roles belong to the whole server, where they are dropped after the test's databases. */
function nameRoles(t: ExecutionContext, shape = (name: string) => name): Names {
  const suffix = randomBytes(4).toString('hex');
  const name = (purpose: string) => shape(`${purpose}_${suffix}`);
  const names = { app: name('app'), relay: name('relay'), retention: name('retention'), redaction: name('redaction') };
  t.teardown(() => onServer(`DROP ROLE IF EXISTS ${Object.values(names).map(quoted).join(', ')}`));
  return names;
}

const each = ({ app, relay, retention, redaction }: Names): RoleNames => ({
  app: [app],
  relay: [relay],
  retention: [retention],
  redaction: [redaction],
});

async function onServer(sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: serverUrl(), application_name: 'test' });
  await client.connect();
  await client.query(sql).finally(() => client.end());
}

/** A database whose outbox lives in a schema of its own. */
async function createDatabaseWithSchema(t: ExecutionContext): Promise<TestDatabase> {
  const db = await createDatabase(t, { template: false });
  await db.withClient((client) =>
    client.query(`CREATE SCHEMA ${quoted(SCHEMA)}; ALTER DATABASE ${db.name} SET search_path = ${quoted(SCHEMA)}`),
  );
  await migrate(db.url, 'up');
  return db;
}

/** The address under which a role logs in, after giving it what it needs for that. */
async function urlOf(db: TestDatabase, role: string): Promise<string> {
  await db.query(`ALTER ROLE ${quoted(role)} LOGIN PASSWORD 'p'`);
  const url = new URL(db.url);
  url.username = encodeURIComponent(role);
  url.password = 'p';
  return url.href;
}

async function connectAs(t: ExecutionContext, db: TestDatabase, role: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: await urlOf(db, role), application_name: 'test' });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  return client;
}

/** All rights of a role's own on anything in the database, columns and schemas included, as PostgreSQL keeps them. */
async function rightsOf(db: TestDatabase, role: string): Promise<string[]> {
  const { rows } = await db.query<{ right: string }>(
    `SELECT privilege_type || ' ' || object AS right
     FROM (
       SELECT relname::text AS object, relacl AS list FROM pg_class
       UNION ALL SELECT relname || '.' || attname, attacl FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
       UNION ALL SELECT 'schema ' || nspname, nspacl FROM pg_namespace
       UNION ALL SELECT 'function ' || proname, proacl FROM pg_proc
       UNION ALL SELECT 'database', datacl FROM pg_database WHERE datname = current_database()
     ) AS granted, aclexplode(list)
     WHERE grantee = (SELECT oid FROM pg_roles WHERE rolname = $1)`,
    [role],
  );
  return rows.map((row) => row.right).sort();
}

const EXPECTED: Readonly<Record<Purpose, readonly string[]>> = {
  app: [
    'EXECUTE function outbox_cursor',
    'EXECUTE function outbox_cursor',
    'INSERT outbox.channel',
    'INSERT outbox.data',
    'INSERT outbox.event',
    'INSERT outbox.traceparent',
    'SELECT outbox',
    'SELECT outbox_floor',
    `USAGE schema ${SCHEMA}`,
  ],
  relay: [
    SETTLED,
    'SELECT outbox',
    'SELECT outbox_floor',
    'SELECT outbox_migrations',
    'SELECT outbox_redaction',
    `USAGE schema ${SCHEMA}`,
  ],
  retention: ['DELETE outbox', SETTLED, 'SELECT outbox', 'SELECT outbox_floor', `USAGE schema ${SCHEMA}`],
  redaction: ['SELECT outbox', 'UPDATE outbox.data', `USAGE schema ${SCHEMA}`],
};

/** What none of the roles may do, whatever it is for. */
const FORBIDDEN = [
  'UPDATE outbox SET position = 7',
  `UPDATE outbox SET channel = 'b'`,
  'TRUNCATE outbox',
  `INSERT INTO outbox (channel, position) VALUES ('a', 7)`,
  `INSERT INTO outbox (channel, created_at) VALUES ('a', now())`,
  `INSERT INTO outbox (id, channel) OVERRIDING SYSTEM VALUE VALUES (4711, 'a')`,
  'INSERT INTO outbox_floor VALUES (9, 9)',
  'UPDATE outbox_floor SET position = 9',
  'DELETE FROM outbox_floor',
  'SELECT FROM outbox_pending',
  `INSERT INTO outbox_pending VALUES (1)`,
  'DELETE FROM outbox_pending',
  `SELECT nextval('outbox_position_seq')`,
  `SELECT setval('outbox_position_seq', 1)`,
  `SELECT setval('outbox_id_seq', 1)`,
  'DELETE FROM outbox_migrations',
  'ALTER TABLE outbox DISABLE TRIGGER USER',
  'DROP TABLE outbox',
  'CREATE TABLE mine ()',
  'CREATE ROLE mine',
  'CREATE DATABASE mine',
];
const PUBLISH = `INSERT INTO outbox (channel) VALUES ('a')`;
const DELETE = 'DELETE FROM outbox';
const REDACT = `UPDATE outbox SET data = '0'`;

async function refuses(t: ExecutionContext, client: pg.Client, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await t.throwsAsync(client.query(statement), PERMISSION_DENIED, statement);
}

/** A relay's warnings and the relay; what it logs below that level is not kept. */
async function startLoggingRelay(t: ExecutionContext, env: Record<string, string>, ownDatabase = false) {
  const entries: { msg: string; role?: string; rights?: string[] }[] = [];
  let heard = () => {};
  const logger = pino(
    { level: 'warn', base: null, timestamp: false },
    {
      write(line: string) {
        entries.push(JSON.parse(line) as (typeof entries)[number]);
        heard();
      },
    },
  );
  const config = readConfig({ PORT: '0', PUBLIC_CHANNELS: '*', SHUTDOWN_SECONDS: '2', ...env });
  const relay = await startRelay({ config, logger, ownDatabase });
  t.teardown(() => relay.stop());
  const untilWarnings = (count: number) =>
    new Promise<typeof entries>((resolve) => {
      heard = () => {
        if (entries.length >= count) resolve(entries);
      };
      heard();
    });
  return { relay, entries, untilWarnings };
}

async function excessOf(url: string): Promise<ExcessRights> {
  const database = openDatabase({
    url,
    applicationName: 'test',
    connections: 1,
    timeoutSeconds: 10,
    log: pino({ level: 'silent' }),
  });
  return excessRights(database.db).finally(() => database.close());
}

test('the roles together publish, deliver, redact and delete, each its part', async (t) => {
  const names = nameRoles(t);
  const db = await createDatabaseWithSchema(t);
  await makeRoles(db.url, each(names));
  const app = await connectAs(t, db, names.app);
  const redaction = await connectAs(t, db, names.redaction);

  const { rows } = await app.query<{ id: string }>(
    `INSERT INTO outbox (channel, event, data) VALUES ('a', 'e', '"one"') RETURNING id`,
  );
  t.deepEqual(rows, [{ id: '1' }]);
  const relay = await startTestRelay(t, await urlOf(db, names.relay), {
    WINDOW_MEGABYTES: '0',
    SWEEP_SECONDS: '3600',
  });
  const live = await openStream(t, `${relay.url}/events/a?last_event_id=earliest`);
  t.is((await live.untilEvents(1))[0]?.data, 'one');
  await app.query(`INSERT INTO outbox (channel, data) VALUES ('a', '"two"'), ('a', '"three"')`);
  await live.untilEvents(3);
  // The cursor for a page, as docs/browser.md has it.
  const cursor = await app.query<{ id: string }>(
    `(SELECT id, position FROM outbox WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1)
     UNION ALL SELECT id, position FROM outbox_floor ORDER BY position DESC LIMIT 1`,
  );
  t.is(cursor.rows[0]?.id, '3');

  t.is((await redaction.query(`UPDATE outbox SET data = '"redacted"' WHERE id = 3`)).rowCount, 1);
  // Its triggers are for what a publisher may not set.
  await db.query('ALTER TABLE outbox DISABLE TRIGGER outbox_refuse_change');
  await db.query(`UPDATE outbox SET created_at = now() - interval '8 days' WHERE id <= 2`);
  let deleted = 0;
  const onBatch = (rows: number) => (deleted += rows);
  t.is(await prune({ url: await urlOf(db, names.retention), keepSeconds: WEEK, onBatch }), 'done');
  t.is(deleted, 2);
  t.deepEqual((await db.query('SELECT id, position FROM outbox_floor')).rows, [{ id: '2', position: '2' }]);

  const resumed = await openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': '2' });
  t.is((await resumed.untilEvents(1))[0]?.data, 'redacted');
  const expired = await openStream(t, `${relay.url}/events/a`, { 'Last-Event-ID': '1' });
  t.regex((await expired.until((frame) => frame.event === 'stream-reset')).data ?? '', /"expired"/);
  t.deepEqual(relay.readiness().reasons, []);
});

test('R7: each role has the rights that its job needs, and no other', async (t) => {
  const names = nameRoles(t);
  const db = await createDatabaseWithSchema(t);
  await makeRoles(db.url, each(names));
  await db.query(PUBLISH);
  for (const purpose of PURPOSES) {
    t.deepEqual(await rightsOf(db, names[purpose]), EXPECTED[purpose], purpose);
  }
  const { rows: members } = await db.query('SELECT FROM pg_auth_members WHERE member = ANY ($1::regrole[])', [
    Object.values(names),
  ]);
  t.is(members.length, 0);

  await refuses(t, await connectAs(t, db, names.app), [...FORBIDDEN, DELETE, REDACT]);
  await refuses(t, await connectAs(t, db, names.relay), [...FORBIDDEN, PUBLISH, DELETE, REDACT]);
  await refuses(t, await connectAs(t, db, names.retention), [...FORBIDDEN, PUBLISH, REDACT]);
  await refuses(t, await connectAs(t, db, names.redaction), [...FORBIDDEN, PUBLISH, DELETE]);
  t.is((await db.query('SELECT FROM outbox')).rowCount, 1);
});

test('the roles need nothing that PUBLIC has on our tables', async (t) => {
  const names = nameRoles(t);
  const db = await createDatabaseWithSchema(t);
  await makeRoles(db.url, each(names));
  await db.query('REVOKE ALL ON outbox_floor, outbox_migrations FROM PUBLIC');
  const app = await connectAs(t, db, names.app);
  await app.query('SELECT id FROM outbox UNION ALL SELECT id FROM outbox_floor');
  const { code, output } = await runCommand(['migrate', 'status'], { DATABASE_URL: await urlOf(db, names.relay) });
  t.deepEqual([code, output], [0, eachMigration('applied  ')]);
  const relay = await startTestRelay(t, await urlOf(db, names.relay));
  t.deepEqual(relay.readiness().reasons, []);
  t.is(await prune({ url: await urlOf(db, names.retention), keepSeconds: WEEK }), 'done');
});

test('a relay that may only read prunes by a role that may delete, and refuses to start without one', async (t) => {
  const names = nameRoles(t);
  const db = await createDatabaseWithSchema(t);
  await makeRoles(db.url, each(names));
  await db.query(PUBLISH);
  const env = { DATABASE_URL: await urlOf(db, names.relay), RETENTION: '1s' };
  for (const refused of [
    await runCommand([], { ...env, PUBLIC_CHANNELS: '*', PORT: '0' }),
    await runCommand(['prune', '--keep', '1s'], env),
  ]) {
    t.is(refused.code, 1);
    for (const part of [names.relay, 'outbox-relay roles --retention', 'RETENTION_DATABASE_URL=']) {
      t.true(refused.output.includes(part), refused.output);
    }
  }
  t.is((await db.query('SELECT FROM outbox')).rowCount, 1);

  const relay = await startRelayProcess(t, env.DATABASE_URL, {
    ...env,
    RETENTION_DATABASE_URL: await urlOf(db, names.retention),
  });
  while ((await db.query('SELECT FROM outbox')).rowCount !== 0) await delay(POLL_MS);
  t.is(await relay.end('SIGTERM'), 0);
});

test('the printed SQL gives the same roles and rights, and is harmless to repeat', async (t) => {
  const names = nameRoles(t);
  const db = await createDatabaseWithSchema(t);
  const other = await createDatabaseWithSchema(t);
  const printed = await rolesSql(db.url, each(names));
  t.is((await db.query('SELECT FROM pg_roles WHERE rolname = $1', [names.relay])).rowCount, 0, 'printing runs nothing');
  t.notRegex(printed, /PASSWORD/);

  for (const repeat of [1, 2]) {
    await db.withClient((client) => client.query(printed));
    for (const purpose of PURPOSES) {
      t.deepEqual(await rightsOf(db, names[purpose]), EXPECTED[purpose], `${purpose}, ${repeat}`);
    }
  }
  // Where the roles were is another database; their rights there are its own.
  for (const repeat of [1, 2]) {
    t.deepEqual(
      (await makeRoles(other.url, each(names))).map((role) => role.created),
      [false, false, false, false],
    );
    for (const name of Object.values(names)) {
      t.deepEqual(await rightsOf(other, name), await rightsOf(db, name), `${name}, ${repeat}`);
    }
  }
  const { rows } = await db.query<object>(
    `SELECT DISTINCT rolcanlogin, rolpassword IS NULL AS without_password, rolsuper, rolcreaterole, rolcreatedb,
       rolreplication, rolbypassrls
     FROM pg_authid WHERE rolname = ANY ($1)`,
    [Object.values(names)],
  );
  t.deepEqual(rows, [
    {
      rolcanlogin: true,
      without_password: true,
      rolsuper: false,
      rolcreaterole: false,
      rolcreatedb: false,
      rolreplication: false,
      rolbypassrls: false,
    },
  ]);
});

test('names are taken as they are, printed or run', async (t) => {
  const db = await createDatabaseWithSchema(t);
  for (const shape of [
    (name: string) => `Ü ${name}`,
    (name: string) => `${name}"; DROP TABLE outbox; --`,
    (name: string) => `it's ${name}`,
    (name: string) => `$role$ $role_$ ${name}`,
    (name: string) => `\\${name}`,
  ]) {
    const [run, printed] = [nameRoles(t, shape), nameRoles(t, shape)];
    t.deepEqual(await makeRoles(db.url, { app: [run.app], relay: [run.relay] }), [
      { name: run.app, created: true },
      { name: run.relay, created: true },
    ]);
    const text = await rolesSql(db.url, { app: [printed.app], relay: [printed.relay] });
    await db.withClient((client) => client.query(text));
    for (const names of [run, printed]) {
      t.deepEqual(await rightsOf(db, names.app), EXPECTED.app);
      t.deepEqual(await rightsOf(db, names.relay), EXPECTED.relay);
      // They go before the roles do, which are dropped first here.
      await db.query(`DROP OWNED BY ${quoted(names.app)}, ${quoted(names.relay)}`);
    }
  }
});

test('one role may serve two purposes, and several roles one', async (t) => {
  const names = nameRoles(t);
  const db = await createDatabaseWithSchema(t);
  await onServer(`CREATE ROLE ${names.app} NOLOGIN`);
  t.deepEqual(await makeRoles(db.url, { app: [names.app, names.relay], retention: [names.app] }), [
    { name: names.app, created: false },
    { name: names.relay, created: true },
  ]);
  t.deepEqual(await rightsOf(db, names.app), ['DELETE outbox', ...EXPECTED.app, SETTLED].sort());
  t.deepEqual(await rightsOf(db, names.relay), EXPECTED.app);
  const { rows } = await db.query('SELECT rolcanlogin FROM pg_roles WHERE rolname = $1', [names.app]);
  t.deepEqual(rows, [{ rolcanlogin: false }], 'a role that was there stays as it was');
});

test('an owner that is no superuser makes the roles, if it may create some', async (t) => {
  const { app: owner, relay, retention: existing } = nameRoles(t);
  await onServer(`CREATE ROLE ${owner} LOGIN; CREATE ROLE ${existing}`);
  const db = await createDatabase(t, { template: false });
  await db.query(`CREATE SCHEMA ${owner} AUTHORIZATION ${owner}`);
  const url = await urlOf(db, owner);
  await migrate(url, 'up');

  await t.throwsAsync(makeRoles(url, { retention: [existing], relay: [relay] }), {
    name: 'OperatorError',
    code: 'may-not-create-roles',
    message: /--print/,
  });
  t.deepEqual(await rightsOf(db, existing), [], 'all or nothing');
  t.deepEqual(await makeRoles(url, { retention: [existing] }), [{ name: existing, created: false }]);
  await onServer(`ALTER ROLE ${owner} CREATEROLE`);
  t.deepEqual(await makeRoles(url, { relay: [relay] }), [{ name: relay, created: true }]);
  await (await connectAs(t, db, relay)).query(`SELECT FROM ${owner}.outbox`);
  await onServer(`DROP OWNED BY ${relay}`);
});

test('who does not own the outbox is told so, whatever rights it has itself', async (t) => {
  const { app: stranger, relay, retention } = nameRoles(t);
  const db = await createDatabase(t);
  await onServer(`CREATE ROLE ${stranger} LOGIN CREATEROLE`);
  const url = await urlOf(db, stranger);
  const told = { name: 'OperatorError', code: 'may-not-grant', message: /owner.*--print/ };
  await t.throwsAsync(makeRoles(url, { relay: [relay] }), told);
  // Now PostgreSQL has but a warning for it.
  await db.query(`GRANT SELECT, DELETE ON outbox TO ${stranger}`);
  await t.throwsAsync(makeRoles(url, { retention: [retention] }), told);
  t.is((await db.query('SELECT FROM pg_roles WHERE rolname IN ($1, $2)', [relay, retention])).rowCount, 0);
});

test('a relay warns once when its role can do more, and says what', async (t) => {
  const names = nameRoles(t);
  const db = await createDatabaseWithSchema(t);
  await makeRoles(db.url, { relay: [names.relay] });
  const advice =
    'the role of this relay can do more than read; give it one that cannot: npx outbox-relay roles --relay outbox_relay';
  const superuser = decodeURIComponent(new URL(db.url).username);
  const warning = { level: 40, role: superuser, rights: ['superuser'], msg: advice };

  t.deepEqual((await startLoggingRelay(t, { DATABASE_URL: db.url })).entries, [warning] as unknown[]);
  const url = await urlOf(db, names.relay);
  t.deepEqual((await startLoggingRelay(t, { DATABASE_URL: url })).entries, []);
  t.deepEqual((await startLoggingRelay(t, { DATABASE_URL: db.url }, true)).entries, [], 'as in the demo');

  const mixed = await startLoggingRelay(t, { DATABASE_URL: db.url, LISTEN_DATABASE_URL: url });
  t.deepEqual(await mixed.untilWarnings(1), [warning] as unknown[]);
  const same = await startLoggingRelay(t, {
    DATABASE_URL: db.url,
    LISTEN_DATABASE_URL: `${db.url}?a=b`,
    HISTORY_CONNECTIONS: '1',
  });
  // Its first frame is read on the connection that was asked about the role before.
  await (await openStream(t, `${same.relay.url}/events/a?last_event_id=earliest`)).until(() => true);
  t.is(same.entries.length, 1);
});

test('a relay that cannot find out what its role can do runs all the same', async (t) => {
  const names = nameRoles(t);
  const db = await createDatabaseWithSchema(t);
  await makeRoles(db.url, { relay: [names.relay] });
  await db.query('REVOKE SELECT ON pg_catalog.pg_roles FROM PUBLIC');
  const url = await urlOf(db, names.relay);
  await t.throwsAsync(excessOf(url), PERMISSION_DENIED);
  const { relay, entries } = await startLoggingRelay(t, { DATABASE_URL: url });
  const stream = await openStream(t, `${relay.url}/events/a`);
  await db.query(PUBLISH);
  await stream.untilEvents(1);
  t.deepEqual(entries, []);
});

test('every right beyond reading is named', async (t) => {
  const { relay, app: owner, retention: group } = nameRoles(t);
  const db = await createDatabaseWithSchema(t);
  await makeRoles(db.url, { relay: [relay] });
  await onServer(`CREATE ROLE ${owner}; CREATE ROLE ${group}`);
  const url = await urlOf(db, relay);
  t.deepEqual(await excessOf(url), { role: relay, rights: [] });

  const schema = quoted(SCHEMA);
  for (const [give, take, rights] of [
    [`ALTER ROLE ${relay} CREATEROLE`, `ALTER ROLE ${relay} NOCREATEROLE`, ['CREATEROLE']],
    [`ALTER ROLE ${relay} CREATEDB`, `ALTER ROLE ${relay} NOCREATEDB`, ['CREATEDB']],
    [`ALTER ROLE ${relay} REPLICATION`, `ALTER ROLE ${relay} NOREPLICATION`, ['REPLICATION']],
    [
      `GRANT ALL ON outbox TO ${relay}`,
      `REVOKE ALL ON outbox FROM ${relay}; GRANT SELECT ON outbox TO ${relay}`,
      ['INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER on outbox'],
    ],
    [`GRANT UPDATE (data) ON outbox TO ${relay}`, `REVOKE UPDATE (data) ON outbox FROM ${relay}`, ['UPDATE on outbox']],
    [
      `GRANT DELETE ON outbox_pending, outbox_floor TO ${relay}`,
      `REVOKE DELETE ON outbox_pending, outbox_floor FROM ${relay}`,
      ['DELETE on outbox_floor', 'DELETE on outbox_pending'],
    ],
    [
      `GRANT INSERT ON outbox_migrations TO ${relay}`,
      `REVOKE INSERT ON outbox_migrations FROM ${relay}`,
      ['INSERT on outbox_migrations'],
    ],
    [
      `GRANT ALL ON SEQUENCE outbox_position_seq TO ${relay}`,
      `REVOKE ALL ON SEQUENCE outbox_position_seq FROM ${relay}`,
      ['UPDATE, USAGE on outbox_position_seq'],
    ],
    [
      `GRANT CREATE ON SCHEMA ${schema} TO ${relay}`,
      `REVOKE CREATE ON SCHEMA ${schema} FROM ${relay}`,
      [`CREATE in schema ${schema}`],
    ],
    [
      `GRANT CREATE ON SCHEMA ${schema} TO PUBLIC`,
      `REVOKE CREATE ON SCHEMA ${schema} FROM PUBLIC`,
      [`CREATE in schema ${schema}, as everybody has (REVOKE CREATE ON SCHEMA ${schema} FROM PUBLIC)`],
    ],
    [
      `ALTER SCHEMA ${schema} OWNER TO ${relay}`,
      `ALTER SCHEMA ${schema} OWNER TO CURRENT_USER; GRANT USAGE ON SCHEMA ${schema} TO ${relay}`,
      [`owner of schema ${schema}`],
    ],
    // By way of a membership, inherited or not.
    [
      `GRANT DELETE ON outbox TO ${group}; GRANT ${group} TO ${relay}`,
      `REVOKE ${group} FROM ${relay}`,
      ['DELETE on outbox'],
    ],
    [
      `ALTER ROLE ${relay} NOINHERIT; GRANT ${group} TO ${relay}`,
      `REVOKE ${group} FROM ${relay}; ALTER ROLE ${relay} INHERIT`,
      ['DELETE on outbox'],
    ],
    [
      `ALTER ROLE ${group} CREATEDB; GRANT ${group} TO ${relay}`,
      `REVOKE ${group} FROM ${relay}`,
      ['CREATEDB', 'DELETE on outbox'],
    ],
    [
      `ALTER TABLE outbox OWNER TO ${owner}; GRANT ${owner} TO ${relay}`,
      `REVOKE ${owner} FROM ${relay}`,
      ['owner of outbox, outbox_id_seq'],
    ],
    [
      `ALTER ROLE ${owner} SUPERUSER; GRANT ${owner} TO ${relay}`,
      `REVOKE ${owner} FROM ${relay}; ALTER ROLE ${owner} NOSUPERUSER`,
      ['superuser'],
    ],
    [`ALTER ROLE ${relay} SUPERUSER`, `ALTER ROLE ${relay} NOSUPERUSER`, ['superuser']],
  ] as const) {
    await db.query(give);
    t.deepEqual((await excessOf(url)).rights, [...rights], give);
    await db.query(take);
    t.deepEqual((await excessOf(url)).rights, [], take);
  }
});

test('in schema public the least rights are no excess, but for what everybody has there', async (t) => {
  const { relay } = nameRoles(t);
  const db = await createDatabase(t);
  await makeRoles(db.url, { relay: [relay] });
  const url = await urlOf(db, relay);
  await db.query('GRANT CREATE ON SCHEMA public TO PUBLIC');
  t.deepEqual((await excessOf(url)).rights, [
    'CREATE in schema public, as everybody has (REVOKE CREATE ON SCHEMA public FROM PUBLIC)',
  ]);
  await db.query('REVOKE CREATE ON SCHEMA public FROM PUBLIC');
  t.deepEqual((await excessOf(url)).rights, []);
});

test('the command says what it did, and how to set a password where one is missing', async (t) => {
  const names = nameRoles(t);
  const db = await createDatabase(t);
  await onServer(`CREATE ROLE ${names.app}`);
  const args = ['roles', '--app', names.app, '--relay', names.relay, `--retention=${names.retention}`];
  const env = { DATABASE_URL: db.url };
  const first = await runCommand(args, env);
  t.is(first.code, 0, first.output);
  t.deepEqual(lines(first.output), [
    `existed, and has its rights: ${names.app}`,
    `created, and has its rights: ${names.relay}`,
    `created, and has its rights: ${names.retention}`,
    '',
    'A new role has no password. In psql, as the same user:',
    `  \\password "${names.relay}"`,
    `  \\password "${names.retention}"`,
  ]);
  t.deepEqual(await runCommand(args, env), {
    code: 0,
    output: [names.app, names.relay, names.retention].map((name) => `existed, and has its rights: ${name}\n`).join(''),
  });
  t.deepEqual(await runCommand([...args, '--print'], env), {
    code: 0,
    output: `${await rolesSql(db.url, { app: [names.app], relay: [names.relay], retention: [names.retention] })}\n`,
  });
});

test('a name that PostgreSQL would refuse, cut or take for everybody is refused', async (t) => {
  const { relay } = nameRoles(t);
  const db = await createDatabase(t);
  for (const [name, reason] of [
    ['', /^--retention "": a role needs a name/],
    ['x'.repeat(64), /63 bytes/],
    ['ü'.repeat(32), /63 bytes/],
    ['two\nlines', /^--retention "two\\nlines": control characters/],
    ['public', /keeps that name/],
    ['none', /keeps that name/],
    ['pg_monitor', /keeps that name/],
  ] as const) {
    const refused = { name: 'OperatorError', code: 'bad-role', message: reason };
    await t.throwsAsync(makeRoles(db.url, { relay: [relay], retention: [name] }), refused);
    await t.throwsAsync(rolesSql(db.url, { relay: [relay], retention: [name] }), refused);
  }
  t.is((await db.query('SELECT FROM pg_roles WHERE rolname = $1', [relay])).rowCount, 0);
});

test('a request for roles that cannot be met says what to do', async (t) => {
  const { url } = await createDatabase(t);
  const empty = await createDatabase(t, { template: false });
  for (const [args, env, expected] of [
    [['--relay', 'r', '--print'], {}, 'DATABASE_URL is not set'],
    [['--relay', 'r', '--print'], { DATABASE_URL: empty.url }, 'npx outbox-relay migrate'],
    [['--print'], { DATABASE_URL: url }, '--app, --relay, --retention, --redaction'],
    [['--relay'], { DATABASE_URL: url }, 'argument missing'],
    [['--owner', 'r'], { DATABASE_URL: url }, "unknown option '--owner'"],
    [['r'], { DATABASE_URL: url }, 'too many arguments'],
  ] as const) {
    const { code, output } = await runCommand(['roles', ...args], env);
    t.is(code, 1, args.join(' '));
    t.true(output.includes(expected), output);
    t.notRegex(output, /\n\s+at /, 'no stack');
  }
  await t.throwsAsync(makeRoles(empty.url, { relay: ['r'] }), { name: 'OperatorError', code: 'no-outbox' });
});
