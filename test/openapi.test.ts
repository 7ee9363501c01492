/**
 * /openapi.json: a valid document, which names all paths, codes and bounds that the code has, and no others. What it says of answers
 * is held against a relay by test/clients/openapi.test.ts.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Validator } from '@seriousme/openapi-schema-validator';
import test, { type ExecutionContext } from 'ava';
import { createDatabase } from './support/database.js';
import { startTestRelay, type Environment } from './support/relay.js';
import { request, type ErrorBody } from './support/request.js';

const SOURCES = fileURLToPath(new URL('../../src/', import.meta.url));

interface Schema {
  readonly maximum?: number;
  readonly maxItems?: number;
  readonly items?: { readonly maxLength: number; readonly pattern: string };
  readonly enum?: readonly string[];
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly responses: Record<string, unknown> }>>>>;
  readonly components: { readonly parameters: Readonly<Record<string, { readonly schema: Schema }>> };
}

async function setUp(t: ExecutionContext, env: Environment = {}) {
  const database = await createDatabase(t);
  const { url } = await startTestRelay(t, database.url, env);
  const get = (path: string, headers = {}) => request(url, path, { headers });
  const answer = await get('/openapi.json');
  t.is(answer.status, 200);
  return { url, get, etag: answer.headers.etag, text: answer.body, document: JSON.parse(answer.body) as Document };
}

test('the description is a valid OpenAPI document, whatever is configured, and is asked for once', async (t) => {
  for (const env of [{}, { PUBLIC_METRICS: 'true', MAX_CHANNELS: '1', AUTH_COOKIE: 'mine' }]) {
    const { document, get, etag = '' } = await setUp(t, env);
    const validator = new Validator();
    const { valid, errors } = await validator.validate(structuredClone(document) as unknown as Record<string, unknown>);
    t.true(valid, JSON.stringify(errors));
    t.is(validator.version, '3.1');
    t.is((await get('/openapi.json', { 'If-None-Match': etag })).status, 304);
  }
});

test('each path that is described is there, and others are not', async (t) => {
  const { document, get } = await setUp(t, { PUBLIC_METRICS: 'true' });
  const paths = Object.keys(document.paths).sort();
  t.deepEqual(paths, [
    ...['/events', '/events/{channel}', '/healthz', '/history', '/history/{channel}', '/metrics', '/openapi.json'],
    ...['/outbox-relay-htmx.js', '/outbox-relay.js', '/readyz'],
  ]);
  for (const path of paths) {
    const { status } = await get(path.replace('/events/{channel}', '/events').replace('{channel}', 'a'));
    t.is(status, path.startsWith('/events') || path === '/history' ? 400 : 200, path);
  }
  t.false(Object.keys((await setUp(t)).document.paths).includes('/metrics'));
  const routes = readFileSync(join(SOURCES, 'http/routes.ts'), 'utf8');
  const literal = [...routes.matchAll(/router\.get\('([^']+)'/g)].map(([, path = '']) => path);
  t.true(literal.length >= 2);
  for (const path of literal) t.true(paths.includes(path), path);
});

test('each code of an error that the relay has is described with its status, and no other', async (t) => {
  const { document } = await setUp(t);
  const described = new Set<string>();
  for (const operation of Object.values(document.paths).flatMap((path) => Object.values(path))) {
    for (const [status, response] of Object.entries(operation.responses)) {
      const [, codes = ''] = /"error":\{"enum":\[([^\]]*)\]/.exec(JSON.stringify(response)) ?? [];
      for (const [, code] of codes.matchAll(/"([^"]+)"/g)) described.add(`${status} ${code}`);
    }
  }
  const source = ['http', 'stream', 'access']
    .flatMap((room) => readdirSync(join(SOURCES, room)).map((name) => join(SOURCES, room, name)))
    .map((path) => readFileSync(path, 'utf8'))
    .join('\n');
  const known = new Set([
    ...[...source.matchAll(/new RequestError\(\s*(\d{3}),\s*'(\w+)'/g)].map(([, status, code]) => `${status} ${code}`),
    ...[...source.matchAll(/refuseRaw\(socket, '(\d{3}) [^']*', '(\w+)'/g)].map(
      ([, status, code]) => `${status} ${code}`,
    ),
    ...[...source.matchAll(/code: '(bad_\w+)'/g)].map(([, code]) => `400 ${code}`),
    ...[...source.matchAll(/^ {2}(\w+): \{ status: (\d{3})(?:, error: '(\w+)')?/gm)].map(
      ([, denial, status, code = denial]) => `${status} ${code}`,
    ),
  ]);
  t.true(known.size > 20);
  t.deepEqual([...described].sort(), [...known].sort());
});

test('bounds that are described are those that are kept', async (t) => {
  const { document, get } = await setUp(t, { MAX_CHANNELS: '3' });
  const schemaOf = (name: string) => document.components.parameters[name]?.schema;
  const codeOf = async (query: string) =>
    (JSON.parse((await get(`/history${query}`)).body) as Partial<ErrorBody>).error;
  const many = (name: string, count = 0) => Array.from({ length: count }, (_, n) => `${name}=${n}`).join('&');
  const long = (count = 0) => 'x'.repeat(count);
  const { Channels, Events, Limit, Wait } = {
    Channels: schemaOf('Channels'),
    Events: schemaOf('Events'),
    Limit: schemaOf('Limit'),
    Wait: schemaOf('Wait'),
  };
  for (const [most, query, code] of [
    [Channels?.maxItems, (n: number) => `?${many('channel', n)}`, 'too_many_channels'],
    [Channels?.items?.maxLength, (n: number) => `/${long(n)}`, 'bad_channel'],
    [Events?.maxItems, (n: number) => `/a?${many('event', n)}`, 'too_many_events'],
    [Events?.items?.maxLength, (n: number) => `/a?event=${long(n)}`, 'bad_event'],
    [Limit?.maximum, (n: number) => `/a?limit=${n}`, 'bad_limit'],
    [Wait?.maximum, (n: number) => `/a?wait=${n}&after=unknown`, 'bad_wait'],
  ] as const) {
    t.is(await codeOf(query(most ?? 0)), undefined, code);
    t.is(await codeOf(query((most ?? 0) + 1)), code);
  }
  for (const name of ['a', 'user:*', '*', ':*', 'a b', '日本', 'a*', '*a', 'a*b', 'user*', '', 'a\n', '\u0085', ':']) {
    const fits = new RegExp(Channels?.items?.pattern ?? '', 'u').test(name);
    t.is((await codeOf(`?channel=${encodeURIComponent(name)}`)) === undefined, fits, JSON.stringify(name));
  }
});
