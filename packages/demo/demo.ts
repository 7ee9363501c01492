/**
 * The demo: what `npm start` shows without a database of one's own. A page on which one publishes,
 * watches, cuts and resumes, and the routes it needs. They write to the database, so they exist in
 * this mode alone, on loopback.
 *
 * What listens on loopback is within reach of every page in the same browser. So it answers for the
 * names of loopback only, as a stranger's name may be made to lead here, and to its own page only;
 * and the role that it hands out may publish, and nothing else.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import type Koa from 'koa';
import type Router from 'koa-router';
import pg from 'pg';
import { isOwnOrigin } from '../../src/access/access.js';
import { withClient } from '../../src/postgres/client.js';
import type { Extension } from '../../src/http/routes.js';
import { RequestError } from '../../src/http/request-error.js';
import { makeRoles } from '../../src/admin/roles.js';

const PAGE = new URL('../../../packages/demo/page/', import.meta.url);
const { insertOne, insertMany, textOf } = (await import(new URL('sql.js', PAGE).href)) as Sql;
const TYPES: Readonly<Record<string, string>> = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript' };
const SECURITY_HEADERS = {
  'Content-Security-Policy': "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-cache',
};
const MAX_BODY_BYTES = 1024 * 1024;
const MAX_BURST = 1000;

/** The role whose address is on the page. */
const PUBLISHER = 'outbox_demo';

const OWN_HOST = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;

/** A statement, in pieces with what each is for the eye. */
type Pieces = readonly (readonly [kind: string, text: string])[];

/** What page/sql.js exports. */
interface Sql {
  insertOne(row: { channel: string; event: string | undefined; data: string | undefined }): Pieces;
  insertMany(rows: { channel: string; count: number }): Pieces;
  textOf(statement: Pieces): string;
}

export interface Demo extends Extension {
  stop(): Promise<void>;
}

export interface DemoOptions {
  /** The owner's. */
  readonly databaseUrl: string;
  readonly version: string;
  /** Origins whose pages may read streams here, too; `*` does not stand for any. */
  readonly allowedOrigins: readonly string[];
}

/** @throws what the database throws. */
export async function createDemo({ databaseUrl, version, allowedOrigins }: DemoOptions): Promise<Demo> {
  const publisherUrl = await makePublisher(databaseUrl);
  const pool = openPool(databaseUrl);
  // What the page publishes is written out in its statement: whatever that says, it may no more
  // than publish.
  const publishers = openPool(publisherUrl);

  async function query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]> {
    try {
      return (await publishers.query<Row>(text, values)).rows;
    } catch (error) {
      // What is wrong with the row, and not with us.
      if (error instanceof pg.DatabaseError && error.code?.startsWith('2')) {
        throw new RequestError(400, 'refused', inWords(error));
      }
      throw error;
    }
  }

  /** Runs the statement to the letter. @returns the ids of its rows, and the statement, to be shown */
  async function publish(statement: Pieces): Promise<{ ids: string[]; statement: Pieces }> {
    const rows = await query<{ id: string }>(textOf(statement));
    return { ids: rows.map(({ id }) => id), statement };
  }

  return {
    guard: guardFor(allowedOrigins),
    routes(router: Router) {
      for (const file of readdirSync(PAGE)) {
        router.get(file === 'index.html' ? '/' : `/page/${file}`, async (context) => {
          context.set(SECURITY_HEADERS);
          context.type = TYPES[extname(file)] ?? 'text/plain';
          context.body = await readFile(new URL(file, PAGE));
        });
      }
      router.get('/favicon.ico', (context) => {
        context.status = 204;
      });
      router.get('/demo.json', async (context) => {
        const { rows } = await pool.query<{ version: string }>("SELECT current_setting('server_version') AS version");
        context.body = { databaseUrl: publisherUrl, version, postgres: rows[0]?.version };
      });
      router.post('/publish', async (context) => {
        // PostgreSQL takes the JSON apart: a trip through JavaScript would round large numbers.
        const [row] = await query<Record<'channel' | 'event' | 'data', string | null>>(
          `SELECT body ->> 'channel' AS channel, nullif(body ->> 'event', '') AS event, (body -> 'data')::text AS data
            FROM (SELECT $1::json AS body) AS request`,
          [await readBody(context)],
        );
        const { ids, statement } = await publish(
          insertOne({
            channel: text(row?.channel, 'channel'),
            event: row?.event ?? undefined,
            data: row?.data ?? undefined,
          }),
        );
        context.status = 201;
        context.body = { id: ids[0], statement };
      });
      router.post('/burst', async (context) => {
        const { channel, count } = await readJson(context);
        if (!Number.isInteger(count) || Number(count) < 1 || Number(count) > MAX_BURST) {
          throw new RequestError(400, 'bad_count', `count is a whole number from 1 to ${MAX_BURST}.`);
        }
        context.status = 201;
        context.body = await publish(insertMany({ channel: text(channel, 'channel'), count: Number(count) }));
      });
      router.post('/forget', async (context) => {
        const { rowCount } = await pool.query('DELETE FROM outbox');
        context.body = { deleted: rowCount };
      });
    },
    async stop() {
      await Promise.all([pool.end(), publishers.end()]);
    },
  };
}

function openPool(connectionString: string): pg.Pool {
  // In its literals a backslash is a backslash.
  const options = '-c standard_conforming_strings=on';
  const pool = new pg.Pool({ connectionString, options, application_name: 'outbox-relay demo', max: 4 });
  // A connection that breaks, idle or in use, is replaced; unheard, its event would end the
  // process.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}

const FIELDS: Readonly<Record<string, string>> = { channel: 'The channel', event: 'The event name', data: 'The data' };

/** The table's rule that a row broke, for people: without the names of column and constraint. */
function inWords({ message, detail, hint }: pg.DatabaseError): string {
  const sentence = message
    .replace(/^outbox\.(channel|event|data)\b/, (_, name: string) => FIELDS[name] ?? name)
    .replace(/ \(outbox_\w+\)$/, '');
  return [sentence, detail, hint]
    .filter((part) => part !== undefined && part !== '')
    .map((part) => `${part?.replace(/\.$/, '') ?? ''}.`)
    .join(' ');
}

function text(value: unknown, name: string): string {
  // A statement ends at a NUL.
  if (typeof value === 'string' && !value.includes('\0')) return value;
  throw new RequestError(400, 'bad_json', `${name} is a string.`);
}

async function readJson(context: Koa.Context): Promise<Record<string, unknown>> {
  const body = await readBody(context);
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // The answer below says it.
  }
  throw new RequestError(400, 'bad_json', 'The body is a JSON object.');
}

/**
 * The address of a role that may publish and read, and nothing else, with a password that is new
 * each time.
 */
async function makePublisher(databaseUrl: string): Promise<string> {
  await makeRoles(databaseUrl, { app: [PUBLISHER] });
  const password = randomBytes(18).toString('hex');
  await withClient(databaseUrl, 'outbox-relay demo', (client) =>
    client.query(`ALTER ROLE ${PUBLISHER} PASSWORD '${password}'`),
  );
  const url = new URL(databaseUrl);
  url.username = PUBLISHER;
  url.password = password;
  return url.href;
}

function guardFor(allowedOrigins: readonly string[]): Koa.Middleware {
  return async ({ headers, method }, next) => {
    const { host = '', origin } = headers;
    if (!OWN_HOST.test(host)) {
      throw new RequestError(403, 'foreign_host', 'The demo answers for localhost, 127.0.0.1 and [::1] only.');
    }
    const isReading = method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
    // A page that only embeds something has no Origin; a browser then says from where in another
    // way (Fetch Metadata).
    const isForeign =
      origin === undefined
        ? /^(cross|same)-site$/.test(headerOf(headers['sec-fetch-site'])) && headers['sec-fetch-mode'] !== 'navigate'
        : !isOwnOrigin(origin, host) && !(isReading && allowedOrigins.includes(origin));
    if (isForeign) {
      throw new RequestError(403, 'foreign_origin', 'The demo is for its own page, and for ALLOWED_ORIGINS to read.');
    }
    await next();
  };
}

function headerOf(value: string | string[] | undefined): string {
  return String(value ?? '');
}

async function readBody(context: Koa.Context): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of context.req as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES)
      throw new RequestError(413, 'too_large', `A body has at most ${MAX_BODY_BYTES} bytes here.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
