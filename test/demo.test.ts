/**
 * The demo as any page in the same browser, or anybody on the same machine, could use it.
 */
import type { OutgoingHttpHeaders } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { startDemoRelay } from './support/demo.js';
import { openRaw, parseAnswer, request, type ErrorBody } from './support/request.js';
import { openStream } from './support/stream.js';

async function setUp(t: ExecutionContext) {
  const { database, relay } = await startDemoRelay(t, ['*', 'http://localhost:3000']);
  const { port } = new URL(relay.url);
  const post = async (path: string, body: string, headers: OutgoingHttpHeaders = {}) => {
    const lines = Object.entries({ Host: `127.0.0.1:${port}`, ...headers, 'Content-Length': body.length });
    const head = lines.map(([name, value]) => `${name}: ${String(value)}\r\n`).join('');
    const text = await openRaw(t, relay.url, `POST ${path} HTTP/1.1\r\n${head}Connection: close\r\n\r\n${body}`).ended;
    return parseAnswer(text);
  };
  const get = (path: string, headers: OutgoingHttpHeaders = {}) => request(relay.url, path, { headers });
  return { database, relay, port, post, get };
}

const PATHS = ['/', '/demo.json', '/healthz', '/events/orders', '/page/page.js', '/outbox-relay.js', '/nothing'];
const EVENT = '{"channel":"orders","data":1}';

test.serial(
  'R8: the demo answers for the names of loopback only, so that no name of a stranger leads to it',
  async (t) => {
    const { port, get, post, database } = await setUp(t);
    for (const host of ['localhost', 'LOCALHOST', '127.0.0.1', '127.8.9.1', '[::1]']) {
      for (const Host of [host, `${host}:${port}`, `${host}:9999`]) {
        t.is((await get('/demo.json', { Host })).status, 200, Host);
        t.is((await post('/publish', EVENT, { Host, Origin: `http://${Host.toLowerCase()}` })).status, 201, Host);
      }
    }
    const { rows } = await database.query<{ count: number }>('SELECT count(*)::int AS count FROM outbox');
    for (const Host of [
      'evil.example',
      `evil.example:${port}`,
      'localhost.evil.example',
      '127.0.0.1.evil.example',
      'evil.example.localhost',
      '10.0.0.1',
      '0.0.0.0',
      '[::2]',
      'localhost.',
      '',
    ]) {
      // Node's client would fill in an empty one.
      for (const path of Host === '' ? [] : PATHS) {
        const answer = await get(path, { Host });
        t.is(answer.status, 403, `${path} of ${Host}`);
        t.is((JSON.parse(answer.body) as ErrorBody).error, 'foreign_host');
      }
      const same = { Host, Origin: `http://${Host}` };
      for (const path of ['/publish', '/burst', '/forget']) t.is((await post(path, EVENT, same)).status, 403, Host);
      // In absolute form it is the target that names the host.
      if (Host !== '') t.is((await get(`http://${Host}/demo.json`, { Host: 'localhost' })).status, 403, Host);
    }
    t.deepEqual((await database.query('SELECT count(*)::int AS count FROM outbox')).rows, rows);
  },
);

test.serial('R8: the demo is for its own page: no other page reads, publishes or deletes here', async (t) => {
  const { relay, port, get, post } = await setUp(t);
  for (const Origin of [
    'https://evil.example',
    'null',
    'http://127.0.0.1',
    `http://127.0.0.1:${Number(port) + 1}`,
    `http://localhost:${port}`,
    `chrome-extension://127.0.0.1:${port}`,
  ]) {
    for (const path of PATHS) t.is((await get(path, { Origin })).status, 403, `${path} from ${Origin}`);
    for (const path of ['/publish', '/burst', '/forget'])
      t.is((await post(path, EVENT, { Origin })).status, 403, Origin);
  }
  for (const site of ['cross-site', 'same-site']) {
    const embeds = { 'Sec-Fetch-Site': site, 'Sec-Fetch-Mode': 'no-cors' };
    for (const path of PATHS) t.is((await get(path, embeds)).status, 403, path);
    t.is((await post('/forget', '', embeds)).status, 403);
    t.is((await get('/', { 'Sec-Fetch-Site': site, 'Sec-Fetch-Mode': 'navigate' })).status, 200, 'a link leads here');
  }
  // What its own page does, and a page of an origin that was named.
  t.is((await get('/demo.json', { 'Sec-Fetch-Site': 'same-origin' })).status, 200);
  t.is((await post('/publish', EVENT, { Origin: relay.url })).status, 201);
  await openStream(t, `${relay.url}/events/orders`, { Origin: 'http://localhost:3000' });
  t.is((await post('/publish', EVENT, { Origin: 'http://localhost:3000' })).status, 403);
});

test.serial('R8: the role whose address is on the page may publish and read, and nothing else', async (t) => {
  const { database, get } = await setUp(t);
  const { databaseUrl } = JSON.parse((await get('/demo.json')).body) as { databaseUrl: string };
  t.not(new URL(databaseUrl).username, new URL(database.url).username);
  t.is(new URL(databaseUrl).pathname, new URL(database.url).pathname);
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  t.teardown(() => client.end());
  await client.query("INSERT INTO outbox (channel, data) VALUES ('orders', '1')");
  t.is((await client.query('SELECT FROM outbox')).rowCount, 1);
  const { rows } = await client.query(
    'SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user',
  );
  t.deepEqual(Object.values(rows[0] as object), [false, false, false, false, false]);
  for (const statement of [
    'DELETE FROM outbox',
    'UPDATE outbox SET data = NULL',
    'TRUNCATE outbox',
    'DROP TABLE outbox',
    'CREATE TABLE t ()',
    'CREATE ROLE r',
    'SELECT * FROM pg_authid',
    "SELECT pg_read_file('postgresql.conf')",
    "COPY outbox TO PROGRAM 'cat'",
    'ALTER SYSTEM SET work_mem = 1',
  ]) {
    await t.throwsAsync(client.query(statement), { message: /permission denied|must be owner/ }, statement);
  }
});

test.serial(
  'a row that the table refuses is answered with its rule in words, and without names of constraints',
  async (t) => {
    const { post } = await setUp(t);
    for (const [body, expected] of [
      [
        { channel: 'a*b' },
        'The channel has a "*", by which subscribers name all channels with a prefix. Choose another name.',
      ],
      [{ channel: '' }, 'The channel has 0 characters; 1 to 255 are allowed. Choose another name.'],
      [{ channel: 'x'.repeat(256) }, 'The channel has 256 characters; 1 to 255 are allowed. Choose another name.'],
      [{ channel: 'a\tb' }, 'The channel has a control character, U+0009. Choose another name.'],
      [
        { channel: 'a', event: 'stream-x' },
        'The event name starts with "stream-", and such names are the relay\'s own. Choose another name.',
      ],
      [
        { channel: 'a', event: 'error' },
        'The event name is "error", which browsers\' EventSource has for itself. Choose another name.',
      ],
      [{ channel: 'a', data: 'a\0b' }, 'unsupported Unicode escape sequence. \\u0000 cannot be converted to text.'],
      [{ event: 'a' }, 'channel is a string.'],
      [[], 'channel is a string.'],
    ] as const) {
      const { status, body: answer } = await post('/publish', JSON.stringify(body));
      t.is(status, 400);
      t.is((JSON.parse(answer) as ErrorBody).message, expected);
    }
    const burst = await post('/burst', JSON.stringify({ channel: 'a*b', count: 10 }));
    t.regex(
      (JSON.parse(burst.body) as ErrorBody).message,
      /^The channel has a "\*", by which .* Choose another name\.$/,
    );
  },
);

test.serial('what is published is what was given: no quote, backslash or number comes out changed', async (t) => {
  const { post, database } = await setUp(t);
  for (const data of ['"\'); DROP TABLE outbox; --"', '"\\\\\'"', '12345678901234567890.10', 'null', '{"a" : [1,2]}']) {
    const { status, body } = await post('/publish', `{"channel":"it's \\\\","event":"'","data":${data}}`);
    t.is(status, 201, body);
    const { id, statement } = JSON.parse(body) as { id: string; statement: [string, string][] };
    t.true(
      statement
        .map(([, text]) => text)
        .join('')
        .includes(data.replaceAll("'", "''")),
    );
    const { rows } = await database.query('SELECT channel, event, data = $2::jsonb AS same FROM outbox WHERE id = $1', [
      id,
      data,
    ]);
    t.deepEqual(rows, [{ channel: "it's \\", event: "'", same: true }]);
  }
  const { body } = await post('/publish', '{"channel":"bare"}');
  const { id } = JSON.parse(body) as { id: string };
  const { rows } = await database.query('SELECT event, data FROM outbox WHERE id = $1', [id]);
  t.deepEqual(rows, [{ event: 'message', data: null }]);
});
