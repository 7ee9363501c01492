/**
 * What a role that may CREATE in schema `public` can make to have its own code run by others: functions, operators and types that
 * fit the arguments of their statements better than PostgreSQL's. Each says so, by a warning, when it is called.
 */
import net, { type AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';
import type { TestDatabase } from './database.js';

const MARK = 'SHADOWED';

/** Types of our columns and of what our statements make of them; those that do not exist yet are left out. */
const TYPES = `ARRAY(SELECT pg_catalog.format_type(t.oid, NULL) FROM pg_catalog.pg_type t
  WHERE t.oid::pg_catalog.regtype::pg_catalog.text = ANY (ARRAY['text', 'name', 'character varying', '"char"', 'smallint',
    'integer', 'bigint', 'numeric', 'double precision', 'boolean', 'oid', 'regclass', 'jsonb', 'tid', 'interval',
    'timestamp with time zone', 'text[]', 'name[]', 'bigint[]', 'anyelement', 'anyarray', 'public.outbox_channel',
    'public.outbox_event', 'public.outbox_data', 'information_schema.sql_identifier']))`;

const OPERATORS = [
  '=',
  '<>',
  '<',
  '<=',
  '>',
  '>=',
  '+',
  '-',
  '*',
  '/',
  '||',
  '~',
  '!~',
  '~~',
  '!~~',
  '#>',
  '#>>',
  '->',
  '@>',
  '&&',
];

const CREATE = `DO $do$
DECLARE
  types text[] := ${TYPES};
  tokens text[] := string_to_array(current_setting('test.tokens'), ' ');
  f record; l text; r text; symbol text; args text; result text;
BEGIN
  -- Each with the arguments that it has, and with another type in the place of one.
  FOR f IN
    SELECT DISTINCT p.proname, v.args, min(CASE WHEN t.typtype = 'p' THEN 'text' ELSE format_type(t.oid, NULL) END) AS result
    FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype, LATERAL (
      SELECT ARRAY(SELECT format_type(a, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a(a, n) ORDER BY n) AS own
    ) o, LATERAL (
      SELECT array_to_string(own, ', ') AS args
      UNION SELECT array_to_string(own[:n - 1] || kind || own[n + 1:], ', ')
      FROM generate_series(1, p.pronargs) AS n, unnest(types) AS kind
    ) v
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind <> 'p' AND p.proname = ANY (tokens) AND p.pronargs <= 3
    GROUP BY 1, 2
  LOOP
    BEGIN
      EXECUTE format($f$CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS
        $$ BEGIN RAISE WARNING '${MARK} %s(%s)'; RETURN NULL; END $$ $f$, f.proname, f.args, f.result, f.proname, f.args);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  FOREACH l IN ARRAY types LOOP
    FOREACH r IN ARRAY types LOOP
      args := format('%s, %s', l, r);
      FOREACH result IN ARRAY ARRAY['boolean', 'numeric', 'text'] LOOP
        BEGIN
          EXECUTE format($f$CREATE FUNCTION public.shadow_%s(%s) RETURNS %s LANGUAGE plpgsql AS
            $$ BEGIN RAISE WARNING '${MARK} operator (%s)'; RETURN NULL; END $$ $f$, result, args, result, args);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
      END LOOP;
      FOREACH symbol IN ARRAY string_to_array('${OPERATORS.join(' ')}', ' ') LOOP
        result := CASE WHEN symbol IN ('+', '-', '*', '/') THEN 'numeric' WHEN symbol IN ('||', '#>>') THEN 'text' ELSE 'boolean' END;
        BEGIN
          EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.shadow_%s)', symbol, l, r, result);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
      END LOOP;
    END LOOP;
  END LOOP;
  FOREACH l IN ARRAY ARRAY['text', 'jsonb', 'oid', 'regclass', 'regnamespace', 'regprocedure', 'tid', 'name', 'timestamptz', 'int8'] LOOP
    BEGIN
      EXECUTE format($f$CREATE FUNCTION public.shadow_type(value pg_catalog.%I) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN RAISE WARNING '${MARK} type %s'; RETURN true; END $$ $f$, l, l);
      EXECUTE format('CREATE DOMAIN public.%I AS pg_catalog.%I CHECK (public.shadow_type(VALUE))', l, l);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
END $do$`;

/**
 * Makes them, again where there are types that were not there before.
 *
 * @param words in which names of functions are looked for
 * @returns how many functions and operators there are
 */
export async function makeShadows(database: TestDatabase, words: ReadonlySet<string>): Promise<number> {
  return database.withClient(async (client) => {
    await client.query('SET search_path = pg_catalog');
    await client.query(`SELECT set_config('test.tokens', $1, false)`, [[...words].join(' ')]);
    // Neither their bodies are of interest, nor that their commit lasts.
    await client.query('SET check_function_bodies = off; SET synchronous_commit = off');
    await client.query(CREATE);
    const { rows } = await client.query<{ count: number }>(
      `SELECT ((SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%${MARK}%')
         + (SELECT count(*) FROM pg_operator WHERE oprnamespace = 'public'::regnamespace))::integer AS count`,
    );
    return rows[0]?.count ?? 0;
  });
}

export interface Wire {
  /** The database's URL, over it. */
  readonly url: string;
  /** All words that were sent to the server. */
  readonly words: ReadonlySet<string>;
  /** What shadows said when they were called. */
  readonly called: ReadonlySet<string>;
}

/** A way to the server on which all is overheard. */
export async function overhear(t: Pick<ExecutionContext, 'teardown'>, url: string): Promise<Wire> {
  const target = new URL(url);
  const words = new Set<string>();
  const called = new Set<string>();
  const sockets = new Set<net.Socket>();
  const server = net.createServer((near) => {
    const far = net.connect(Number(target.port), target.hostname);
    let rest = '';
    near.on('data', (chunk: Buffer) => {
      far.write(chunk);
      for (const [word] of chunk.toString('latin1').matchAll(/[a-z_][a-z0-9_]*/g)) words.add(word);
    });
    far.on('data', (chunk: Buffer) => {
      near.write(chunk);
      // A message may be cut anywhere.
      const text = rest + chunk.toString('latin1');
      for (const [, what = ''] of text.matchAll(new RegExp(`${MARK} ([^\\0]*)\\0`, 'g'))) called.add(what);
      rest = text.slice(-200);
    });
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const near = new URL(url);
  near.port = String((server.address() as AddressInfo).port);
  return { url: near.href, words, called };
}
