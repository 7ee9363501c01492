import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import { createDatabase } from './support/database.js';
import { startTestRelay } from './support/relay.js';
import { request } from './support/request.js';

/** What a page has to load, in bytes: as it is served, and as a proxy that compresses would send it. */
const MOST_BYTES = 3600;
const MOST_COMPRESSED = 1850;

for (const path of ['/outbox-relay.js', '/outbox-relay-htmx.js'])
  test(`pages of allowed origins may import ${path}, keep it, and ask whether it has changed`, async (t) => {
    const database = await createDatabase(t);
    const relay = await startTestRelay(t, database.url, { ALLOWED_ORIGINS: 'https://app.example' });
    const get = (headers = {}, method = 'GET') => request(relay.url, path, { headers, method });
    const answer = await get();
    t.is(answer.status, 200);
    const { date, connection, etag, ...headers } = answer.headers;
    t.truthy(date);
    t.truthy(connection);
    t.regex(etag ?? '', /^"[\w-]{22}"$/);
    t.deepEqual(headers, {
      'cache-control': 'public, max-age=3600',
      'content-length': String(Buffer.byteLength(answer.body)),
      'content-type': 'text/javascript; charset=utf-8',
      vary: 'Origin',
      'x-content-type-options': 'nosniff',
    });
    t.like((await get({ Origin: 'https://app.example' })).headers, {
      'access-control-allow-origin': 'https://app.example',
      'access-control-allow-credentials': 'true',
      vary: 'Origin',
    });
    t.is((await get({ Origin: 'https://evil.example' })).headers['access-control-allow-origin'], undefined);

    const unchanged = await get({ 'If-None-Match': etag, Origin: 'https://app.example' });
    t.is(unchanged.status, 304);
    t.is(unchanged.body, '');
    t.like(unchanged.headers, { etag, 'access-control-allow-origin': 'https://app.example' });
    t.is((await get({ 'If-None-Match': '"another"' })).status, 200);
    const head = await get({}, 'HEAD');
    t.is(head.status, 200);
    t.is(head.body, '');
    t.is(head.headers.etag, etag);
    t.is((await get({}, 'POST')).status, 405);
  });

test('the module is small, needs no other, and exports the same as the one that the package exports', async (t) => {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url);
  const { body } = await request(relay.url, '/outbox-relay.js');
  t.true(body.length <= MOST_BYTES, `${body.length} bytes`);
  const compressed = gzipSync(body).length;
  t.true(compressed <= MOST_COMPRESSED, `${compressed} bytes, compressed`);
  t.notRegex(body, /\bimport\b|\brequire\b/);
  const served = (await import(`data:text/javascript,${encodeURIComponent(body)}`)) as Record<string, unknown>;
  const packaged: Record<string, unknown> = await import('outbox-relay/browser');
  for (const exported of [served, packaged]) {
    t.deepEqual(Object.keys(exported), ['connect', 'reloadOnce']);
    t.is(typeof exported['connect'], 'function');
  }
  const types = readFileSync(new URL('../../packages/client/outbox-relay.d.ts', import.meta.url), 'utf8');
  t.regex(types, /export function connect\(/);
});
