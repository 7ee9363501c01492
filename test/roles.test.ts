/**
 * Roles: an application that may only INSERT can publish, a relay that may only SELECT can do all that relays do, and
 * neither can get at what is not its own. On both ends of the range of supported servers, since PostgreSQL 15 took from
 * PUBLIC the right to create in schema public.
 */
import { randomBytes } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { migrationStatus } from '../src/postgres/migrate.js';
import { createDatabase, serverUrl, type TestDatabase } from './support/database.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';

const PERMISSION_DENIED = { code: '42501' };

interface Roles {
  readonly db: TestDatabase;
  /** INSERT on outbox and nothing else. */
  readonly app: { readonly name: string; readonly url: string };
  /** SELECT on outbox and nothing else. */
  readonly relay: { readonly name: string; readonly url: string };
}

/** Roles belong to the whole server: they have names of their own, and are dropped after the database, with their rights. */
async function createRoles(t: ExecutionContext): Promise<Roles> {
  const suffix = randomBytes(4).toString('hex');
  const [app, relay] = [`test_app_${suffix}`, `test_relay_${suffix}`];
  const administer = async (sql: string) => {
    const client = new pg.Client({ connectionString: serverUrl(), application_name: 'test' });
    await client.connect();
    await client.query(sql).finally(() => client.end());
  };
  await administer(`CREATE ROLE ${app} LOGIN PASSWORD 'p'; CREATE ROLE ${relay} LOGIN PASSWORD 'p'`);
  t.teardown(() => administer(`DROP ROLE ${app}, ${relay}`));

  const db = await createDatabase(t);
  await db.query(`GRANT INSERT ON outbox TO ${app}; GRANT SELECT ON outbox TO ${relay}`);
  const urlOf = (role: string) => {
    const url = new URL(db.url);
    url.username = role;
    url.password = 'p';
    return url.href;
  };
  return { db, app: { name: app, url: urlOf(app) }, relay: { name: relay, url: urlOf(relay) } };
}

async function connect(t: ExecutionContext, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  return client;
}

/** COPY FROM STDIN, which node-postgres leaves to others: answers the server's request with the lines. */
async function copyIn(client: pg.Client, sql: string, lines: string): Promise<void> {
  const query = new pg.Query(sql);
  const answer = {
    handleCopyInResponse(connection: { sendCopyFromChunk(chunk: Buffer): void; endCopyFrom(): void }) {
      connection.sendCopyFromChunk(Buffer.from(lines));
      connection.endCopyFrom();
    },
  };
  await new Promise<void>((resolve, reject) => {
    query.once('end', () => resolve());
    query.once('error', reject);
    client.query(Object.assign(query, answer));
  });
}

async function channels(db: TestDatabase): Promise<string[]> {
  const { rows } = await db.query<{ channel: string }>(
    'SELECT channel FROM outbox WHERE position IS NOT NULL ORDER BY position',
  );
  return rows.map((row) => row.channel);
}

test('a role that has INSERT on outbox publishes one row, several and by COPY', async (t) => {
  const { db, app } = await createRoles(t);
  const client = await connect(t, app.url);
  await client.query(`INSERT INTO outbox (channel, data) VALUES ('a', '1')`);
  await client.query(`INSERT INTO outbox (channel) VALUES ('b'), ('c')`);
  await copyIn(client, 'COPY outbox (channel, data) FROM STDIN (FORMAT csv)', 'd,1\ne,2\n');
  t.deepEqual(await channels(db), ['a', 'b', 'c', 'd', 'e']);
});

test('a role that has INSERT on outbox can neither read nor change anything of ours', async (t) => {
  const { db, app } = await createRoles(t);
  const client = await connect(t, app.url);
  await client.query(`INSERT INTO outbox (channel, data) VALUES ('a', '1')`);
  for (const statement of [
    'SELECT FROM outbox',
    `INSERT INTO outbox (channel) VALUES ('a') RETURNING id`,
    `UPDATE outbox SET data = '2'`,
    'UPDATE outbox SET position = 7',
    'DELETE FROM outbox',
    'TRUNCATE outbox',
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
  ]) {
    await t.throwsAsync(client.query(statement), PERMISSION_DENIED, statement);
  }
  t.deepEqual(await channels(db), ['a']);

  // What Django does: it asks for the id of what it has inserted.
  await db.query(`GRANT SELECT (id) ON outbox TO ${app.name}`);
  await client.query(`INSERT INTO outbox (channel) VALUES ('b') RETURNING id`);
  await t.throwsAsync(client.query('SELECT data FROM outbox'), PERMISSION_DENIED);
});

test('R7: a relay whose role has SELECT on outbox alone delivers, replays and resets', async (t) => {
  const { db, relay: role } = await createRoles(t);
  // Not even what PUBLIC may write: every statement that writes fails.
  await db.query(`ALTER ROLE ${role.name} SET default_transaction_read_only = on`);
  await db.query(`INSERT INTO outbox (channel, data) VALUES ('a', '"expired"'), ('a', '"before"')`);
  await db.query('DELETE FROM outbox WHERE id = 1');
  // The cursor at the floor itself can be honoured: for 1 to be expired the floor has to be above it.
  await db.query(`INSERT INTO outbox (channel, data) VALUES ('a', '"gone"'), ('a', '"replayed"')`);
  await db.query('DELETE FROM outbox WHERE id = 3');

  const relay = await startTestRelay(t, role.url, { WINDOW_MEGABYTES: '0', SWEEP_SECONDS: '3600' });
  t.deepEqual(relay.readiness().reasons, []);
  t.deepEqual((await migrationStatus(role.url)).pending, []);

  const live = await openStream(t, `${relay.url}/events/a`);
  await db.query(`INSERT INTO outbox (channel, data) VALUES ('a', '"live"')`);
  t.is((await live.untilEvents(1))[0]?.data, 'live');

  for (const url of [`${relay.url}/events/a`, `${relay.url}/events?channel=*`]) {
    const resumed = await openStream(t, url, { 'Last-Event-ID': '3' });
    t.deepEqual(
      (await resumed.untilEvents(2)).map((event) => event.data),
      ['replayed', 'live'],
    );
    const expired = await openStream(t, url, { 'Last-Event-ID': '1' });
    t.deepEqual(JSON.parse((await expired.until((frame) => frame.event === 'stream-reset')).data ?? ''), {
      reason: 'expired',
      lastEventId: '1',
    });
    const unknown = await openStream(t, url, { 'Last-Event-ID': '4711' });
    t.deepEqual(JSON.parse((await unknown.until((frame) => frame.event === 'stream-reset')).data ?? ''), {
      reason: 'unknown',
      lastEventId: '4711',
    });
    const earliest = await openStream(t, `${url}${url.includes('?') ? '&' : '?'}last_event_id=earliest`);
    t.deepEqual(
      (await earliest.untilEvents(2)).map((event) => event.data),
      ['replayed', 'live'],
    );
    const since = await openStream(t, `${url}${url.includes('?') ? '&' : '?'}since=0`);
    await since.untilEvents(2);
  }

  const { rows } = await db.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class
     WHERE relname LIKE 'outbox%' AND relkind IN ('r', 'S') AND CASE relkind
       WHEN 'r' THEN has_table_privilege($1, oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       ELSE has_sequence_privilege($1, oid, 'USAGE, UPDATE') END`,
    [role.name],
  );
  t.deepEqual(rows, [], 'the role could write');
  t.deepEqual(relay.readiness().reasons, []);
});

/** What a publisher makes that carries the names of what our functions use. Each reports who ran it. */
const disguises = (schema: string) => `
  CREATE TABLE ${schema}.caught (who name);
  GRANT INSERT ON ${schema}.caught TO PUBLIC;
  CREATE FUNCTION ${schema}.caught() RETURNS void LANGUAGE sql AS 'INSERT INTO ${schema}.caught VALUES (current_user)';
  CREATE FUNCTION ${schema}.cardinality(bigint[]) RETURNS integer LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT 1';
  CREATE FUNCTION ${schema}.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT ${schema}.caught(); SELECT 1::bigint';
  CREATE FUNCTION ${schema}.nextval(regclass) RETURNS bigint LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT 1::bigint';
  CREATE FUNCTION ${schema}.setval(text, bigint) RETURNS bigint LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT 1::bigint';
  CREATE FUNCTION ${schema}.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT 1::bigint';
  CREATE FUNCTION ${schema}.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT ${schema}.caught()';
  CREATE FUNCTION ${schema}.pg_advisory_xact_lock(integer, integer) RETURNS void LANGUAGE sql
    AS 'SELECT ${schema}.caught()';
  CREATE FUNCTION ${schema}.pg_notification_queue_usage() RETURNS double precision LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT 1::double precision';
  CREATE FUNCTION ${schema}.less(double precision, numeric) RETURNS boolean LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT true';
  CREATE OPERATOR ${schema}.< (LEFTARG = double precision, RIGHTARG = numeric, FUNCTION = ${schema}.less);
  CREATE FUNCTION ${schema}.minus(bigint, integer) RETURNS bigint LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT 0::bigint';
  CREATE OPERATOR ${schema}.- (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = ${schema}.minus);
  CREATE FUNCTION ${schema}.concat(text, bigint) RETURNS text LANGUAGE sql AS $$SELECT ${schema}.caught(); SELECT ''$$;
  CREATE OPERATOR ${schema}.|| (LEFTARG = text, RIGHTARG = bigint, FUNCTION = ${schema}.concat);
  CREATE FUNCTION ${schema}.same(bigint, bigint) RETURNS boolean LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT true';
  CREATE OPERATOR ${schema}.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = ${schema}.same);
  CREATE FUNCTION ${schema}.append(bigint[], bigint) RETURNS bigint[] LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT $1';
  CREATE AGGREGATE ${schema}.array_agg(bigint) (SFUNC = ${schema}.append, STYPE = bigint[], INITCOND = '{}');
  CREATE FUNCTION ${schema}.current_setting(text, boolean) RETURNS text LANGUAGE sql
    AS $$SELECT ${schema}.caught(); SELECT ''$$;
  CREATE FUNCTION ${schema}.set_config(text, text, boolean) RETURNS text LANGUAGE sql
    AS $$SELECT ${schema}.caught(); SELECT ''$$;
  CREATE FUNCTION ${schema}.concat(text, bigint, text, tid) RETURNS text LANGUAGE sql
    AS $$SELECT ${schema}.caught(); SELECT ''$$;
  CREATE FUNCTION ${schema}.octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT ${schema}.caught(); SELECT 1';
  CREATE FUNCTION ${schema}.substr(text, integer) RETURNS text LANGUAGE sql
    AS $$SELECT ${schema}.caught(); SELECT ''$$;
  CREATE FUNCTION ${schema}.same(text, text) RETURNS boolean LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT true';
  CREATE OPERATOR ${schema}.= (LEFTARG = text, RIGHTARG = text, FUNCTION = ${schema}.same);
  CREATE FUNCTION ${schema}.same(tid, tid) RETURNS boolean LANGUAGE sql AS 'SELECT ${schema}.caught(); SELECT true';
  CREATE OPERATOR ${schema}.= (LEFTARG = tid, RIGHTARG = tid, FUNCTION = ${schema}.same);
  CREATE FUNCTION ${schema}.less(integer, integer) RETURNS boolean LANGUAGE sql
    AS 'SELECT ${schema}.caught(); SELECT true';
  CREATE OPERATOR ${schema}.< (LEFTARG = integer, RIGHTARG = integer, FUNCTION = ${schema}.less);
  CREATE FUNCTION ${schema}.seen(text) RETURNS boolean LANGUAGE sql AS 'SELECT ${schema}.caught(); SELECT true';
  ${['tid', 'int4', 'int8', 'float8', 'regclass', 'bool', 'text']
    .map(
      (type) => `CREATE DOMAIN ${schema}.${type} AS pg_catalog.${type} CHECK (${schema}.seen(VALUE::pg_catalog.text));`,
    )
    .join('\n')}`;

/** Runs every trigger function of ours, and asserts that all was as without the disguises. */
async function publishAndPrune(t: ExecutionContext, { db }: Roles, client: pg.Client, caught: string): Promise<void> {
  const clean = async () =>
    t.deepEqual((await db.query(`SELECT DISTINCT who FROM ${caught}`)).rows, [], 'a disguise was run');
  await client.query(`INSERT INTO public.outbox (channel, data) VALUES ('a', '1')`);
  await client.query(`INSERT INTO public.outbox (channel, data) VALUES ('b', '1'), ('c', '1')`);
  await clean();
  t.deepEqual(await channels(db), ['a', 'b', 'c']);
  await client.query(`UPDATE public.outbox SET data = '2' WHERE channel OPERATOR(pg_catalog.=) 'b'`);
  await client.query(`DELETE FROM public.outbox WHERE channel OPERATOR(pg_catalog.=) 'a'`);
  const floor = async () => (await db.query('SELECT id, position FROM public.outbox_floor')).rows as unknown[];
  t.deepEqual(await floor(), [{ id: '1', position: '1' }]);
  await client.query('TRUNCATE public.outbox');
  t.deepEqual(await floor(), [{ id: '3', position: '3' }]);
  // More than are placed at a time, one of them elsewhere by then.
  await client.query('BEGIN');
  await client.query(`INSERT INTO public.outbox (channel) SELECT 'many' FROM pg_catalog.generate_series(1, 200)`);
  await client.query(`UPDATE public.outbox SET data = '1' WHERE id OPERATOR(pg_catalog.=) 100`);
  await client.query('COMMIT');
  const { rows } = await db.query('SELECT min(position), max(position), count(position) FROM public.outbox');
  t.deepEqual(rows, [{ min: '4', max: '203', count: '200' }]);
  await clean();
}

test(`a publisher's schema, search_path and temporary objects do not reach our functions`, async (t) => {
  const roles = await createRoles(t);
  const { db, app } = roles;
  await db.query(`GRANT ALL ON outbox TO ${app.name}; CREATE SCHEMA evil AUTHORIZATION ${app.name}`);
  const client = await connect(t, app.url);
  await client.query(disguises('evil'));
  for (const schema of ['evil', 'pg_temp']) {
    await client.query(`
      CREATE TABLE ${schema}.outbox (LIKE public.outbox);
      CREATE TABLE ${schema}.outbox_pending (id bigint, tuple tid, listed text);
      CREATE TABLE ${schema}.outbox_floor (id bigint, position bigint);
      INSERT INTO ${schema}.outbox_floor VALUES (0, 0);
      CREATE SEQUENCE ${schema}.outbox_position_seq START 1000;
      CREATE SEQUENCE ${schema}.outbox_id_seq START 1000`);
  }
  await client.query('SET search_path = pg_temp, evil, public, pg_catalog');
  await publishAndPrune(t, roles, client, 'evil.caught');
  for (const table of ['evil.outbox', 'pg_temp.outbox', 'evil.outbox_pending', 'pg_temp.outbox_pending']) {
    t.is((await client.query(`SELECT FROM ${table}`)).rowCount, 0, table);
  }
});

test(`a publisher who may create in our schema does not get our owner's rights`, async (t) => {
  const roles = await createRoles(t);
  const { db, app } = roles;
  // As in every database that was made before PostgreSQL 15, whatever it runs on now.
  await db.query(`GRANT ALL ON outbox TO ${app.name}; GRANT CREATE ON SCHEMA public TO PUBLIC`);
  const client = await connect(t, app.url);
  await client.query(disguises('public'));
  await publishAndPrune(t, roles, client, 'public.caught');
});

test('a publisher cannot use our functions for tables of its own', async (t) => {
  const { db, app } = await createRoles(t);
  await db.query(`CREATE SCHEMA own AUTHORIZATION ${app.name}`);
  const client = await connect(t, app.url);
  await client.query('CREATE TABLE own.pending (ids bigint[])');
  const { rows } = await db.query<{ name: string }>(
    `SELECT oid::regproc AS name FROM pg_proc WHERE proname LIKE 'outbox%' AND prorettype = 'trigger'::regtype`,
  );
  t.true(rows.length > 0);
  for (const { name } of rows) {
    const trigger = `CREATE TRIGGER mine AFTER DELETE ON own.pending FOR EACH ROW EXECUTE FUNCTION public.${name}()`;
    await t.throwsAsync(client.query(trigger), PERMISSION_DENIED, name);
  }
});
