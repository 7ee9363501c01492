import test from 'ava';
import { startConsole } from './support/console.js';
import { createDatabase } from './support/database.js';
import { startTestRelay } from './support/relay.js';
import { request } from './support/request.js';

test('the metrics port says that the database is away, where it would tell who has an event', async (t) => {
  const database = await createDatabase(t);
  const log: string[] = [];
  const settings = { METRICS_PORT: '0', LISTEN_TIMEOUT_SECONDS: '4' };
  const { metricsUrl = '' } = await startTestRelay(t, database.url, settings, (line) => log.push(line));
  await database.query("INSERT INTO outbox (channel, data) VALUES ('c', '1')");
  const ask = () => request(new URL(metricsUrl).origin, '/delivered/1');
  await database.withTablesLocked(async () => {
    const { status, body } = await ask();
    t.is(status, 503);
    t.like(JSON.parse(body), { error: 'database_away' });
    t.is((await request(new URL(metricsUrl).origin, '/connections')).status, 200);
  });
  let { status } = await ask();
  while (status === 503) ({ status } = await ask());
  t.is(status, 200);
  t.false(
    log.some((line) => /"level":50/.test(line)),
    log.join(''),
  );
});

test('a relay that stops leaves no examination behind', async (t) => {
  const relay = await startConsole(t);
  const cookie = await relay.signIn();
  const asked = relay.get('/console/api/doctor', { cookie }).catch(() => undefined);
  const isExamined = async () => {
    const { rowCount } = await relay.database.query(
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'outbox-relay doctor'",
    );
    return rowCount === 1;
  };
  while (!(await isExamined()));
  await relay.stop();
  t.false(await isExamined());
  await asked;
});

test('a page that asks who has signed in, before anybody has, is no refusal', async (t) => {
  const relay = await startConsole(t);
  const { status, body } = await relay.get('/console/api/session');
  t.is(status, 401);
  t.like(JSON.parse(body), { error: 'unauthorized', signIn: { password: true, token: false } });
  await relay.get('/console/api/log');
  const { refusals } = await relay.api<{ refusals: { path: string }[] }>('refusals');
  t.deepEqual(
    refusals.map(({ path }) => path),
    ['/console/api/log'],
  );
});
