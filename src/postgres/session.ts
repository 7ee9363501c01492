/**
 * Sessions with PostgreSQL in which every statement means what it says, whatever the database, the
 * role and other roles have made of the defaults.
 *
 * A name that is not qualified is looked up along `search_path`, and of functions and operators the
 * one that fits its arguments best is taken, from whichever schema of it: whoever may CREATE in one
 * of them could have code of their own run by our role. So the path is `pg_catalog` alone, and our
 * tables are written `here.outbox`: `here.` stands for the schema of the outbox, as in the
 * migrations.
 *
 * | connection      | how it is told                               | settings                                         |
 * |-----------------|----------------------------------------------|--------------------------------------------------|
 * | direct          | the server has the process id that we know   | once, when it is opened                          |
 * | through a pooler| the process id is the pooler's invention     | in a transaction around each statement, as the   |
 * |                 |                                              | next may run in another session of the server    |
 */
import pg from 'pg';
import { commandLine } from '../command-name.js';
import { OperatorError } from '../operator-error.js';
import type { DatabaseAddress } from './database-url.js';
import { within, type Deadline } from './deadline.js';

/** What the listening session of a relay calls itself in pg_stat_activity. */
export const LISTENER_NAME = 'outbox-relay listener';

export interface SessionOptions {
  /** Transactions can't write. */
  readonly isReadOnly: boolean;
  /** After so long the server ends a statement that its client did not. 0: never. */
  readonly statementTimeoutMs: number;
  /**
   * Where the outbox is known to be. Default: it is looked for along the role's own search_path.
   */
  readonly schema?: string | undefined;
}

/** What the role's own search_path leads to. */
export interface Surroundings {
  /**
   * The schema of the outbox; undefined where there is none, or some other role may have made the
   * first of several.
   */
  readonly schema: string | undefined;
  /** The schemas of those several. */
  readonly rivals: readonly string[];
  /** The schema of the table that the bare name `outbox` leads to. */
  readonly schemaOfTable: string | undefined;
  /** Where something new is made. */
  readonly currentSchema: string | undefined;
  readonly searchPath: string;
}

export interface Session extends Surroundings {
  readonly client: pg.ClientBase;
  readonly isDirect: boolean;
  /**
   * Runs a statement, in which `here.` stands for the schema of the outbox; through a pooler, in a
   * transaction of its own unless one is open.
   *
   * @param name that it is prepared by, on a direct connection
   * @throws OperatorError `no-outbox`, `several-outboxes` where `here.` is nowhere; else what
   * PostgreSQL throws
   */
  query<Row extends pg.QueryResultRow = pg.QueryResultRow>(
    text: string,
    values?: readonly unknown[],
    options?: { readonly name?: string; readonly deadline?: Deadline },
  ): Promise<pg.QueryResult<Row>>;
  /**
   * Begins a transaction, READ COMMITTED. What follows it in `text` is part of the same round trip.
   */
  begin(mode: 'READ ONLY' | 'READ WRITE', text?: string): Promise<pg.QueryResult[]>;
}

/**
 * What the meaning of our statements and of their answers depends on. Those of time are 0 where
 * something is to be idle for long. `row_security = off` makes a policy that would hide rows an
 * error.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  search_path: 'pg_catalog, pg_temp',
  default_transaction_isolation: 'read committed',
  default_transaction_deferrable: 'off',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '60s',
  row_security: 'off',
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  quote_all_identifiers: 'off',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  bytea_output: 'hex',
  extra_float_digits: '1',
  xmloption: 'content',
  // Compiling costs more than any statement of ours.
  jit: 'off',
};

/** Of a session and not of a transaction; transaction_timeout came with PostgreSQL 17. */
const SESSION_SETTINGS: Readonly<Record<string, string>> = { idle_session_timeout: '0', transaction_timeout: '0' };

/** Opens a connection, by TLS or not as the address has it. @throws what the connection throws */
export async function connect(address: DatabaseAddress, config: pg.ClientConfig): Promise<pg.Client> {
  for (;;) {
    const { ssl } = address;
    const client = new pg.Client({ ...config, ...address.config, ssl });
    // A connection that breaks fails the query that is running; unheard, the event would end the
    // process besides.
    client.on('error', () => undefined);
    try {
      await client.connect();
      return client;
    } catch (error) {
      if (!address.fallsBack(error, ssl)) throw error;
    }
  }
}

/** Makes a session of a connection that is new. @throws what PostgreSQL throws */
export async function openSession(
  client: pg.ClientBase,
  options: SessionOptions,
  deadline?: Deadline,
): Promise<Session> {
  const { processID } = client as unknown as { processID: number };
  const own = { ...SETTINGS, ...ownSettings(options) };
  // The role's own timeout may be too short for finding out.
  const [, around, set] = (await within(client, deadline, () =>
    client.query(
      `SET LOCAL statement_timeout = 0; ${SURROUNDINGS}; ${setWhereDirect({ ...own, ...SESSION_SETTINGS }, processID)}`,
    ),
  )) as unknown as [unknown, pg.QueryResult<Found>, pg.QueryResult];
  const surroundings = readSurroundings(around.rows, options.schema);
  const isDirect = set.rows.length > 0;
  const local = isDirect ? '' : Object.entries(own).map(([name, value]) => `SET LOCAL ${name} = ${literals(value)};`);
  const prefix = (mode: string) =>
    `BEGIN ISOLATION LEVEL READ COMMITTED, ${mode}, NOT DEFERRABLE;${local === '' ? '' : local.join('')}`;
  const here = qualifier(surroundings);

  const inTransaction = () =>
    (client as unknown as { getTransactionStatus(): string | null }).getTransactionStatus() !== 'I';

  async function query<Row extends pg.QueryResultRow>(
    text: string,
    values: readonly unknown[] = [],
    { name, deadline }: { name?: string; deadline?: Deadline } = {},
  ): Promise<pg.QueryResult<Row>> {
    const config = { text: here(text), values: [...values] };
    if (isDirect || inTransaction()) {
      return within(client, deadline, () => client.query<Row>(isDirect && name ? { ...config, name } : config));
    }
    return within(client, deadline, async (ensure) => {
      try {
        await client.query(prefix(options.isReadOnly ? 'READ ONLY' : 'READ WRITE'));
        ensure();
        const result = await client.query<Row>(config);
        await client.query('COMMIT');
        return result;
      } catch (error) {
        // Unless the connection is gone.
        if (inTransaction()) await client.query('ROLLBACK').catch(() => undefined);
        throw error;
      }
    });
  }

  return {
    ...surroundings,
    client,
    isDirect,
    query,
    async begin(mode, text = '') {
      return (await client.query(prefix(mode) + here(text))) as unknown as pg.QueryResult[];
    },
  };
}

function ownSettings({ isReadOnly, statementTimeoutMs }: SessionOptions): Record<string, string> {
  return {
    default_transaction_read_only: isReadOnly ? 'on' : 'off',
    statement_timeout: String(Math.ceil(statementTimeoutMs)),
  };
}

/** `search_path` is a list, of which each part is quoted by itself. */
function literals(value: string): string {
  return value.split(', ').map(pg.escapeLiteral).join(', ');
}

/**
 * Sets all that this server knows, and returns rows, unless a pooler stands between: it would hand
 * the session with our settings to others. All names are qualified, as the role's own search_path
 * is still in force.
 */
function setWhereDirect(settings: Readonly<Record<string, string>>, processId: number): string {
  const rows = Object.entries(settings).map(
    ([name, value]) => `(${pg.escapeLiteral(name)}, ${pg.escapeLiteral(value)})`,
  );
  return `SELECT pg_catalog.set_config(wanted.name, wanted.value, false)
    FROM (VALUES ${rows.join(', ')}) AS wanted (name, value)
    JOIN pg_catalog.pg_settings AS known ON known.name OPERATOR(pg_catalog.=) wanted.name
    WHERE pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) ${String(processId)}`;
}

interface Found {
  readonly path: string;
  readonly current: string | null;
  readonly schema: string | null;
  readonly name: string | null;
  readonly isOwners: boolean | null;
}

/** Tables with our names in the schemas of the role's own search_path, in its order. */
const SURROUNDINGS = `
  SELECT pg_catalog.current_setting('search_path') AS path, pg_catalog.current_schema() AS current,
    found.schema, found.name, found.owners AS "isOwners"
  FROM (VALUES (true)) AS always (present) LEFT JOIN (
    SELECT n.nspname AS schema, c.relname AS name, n.nspowner OPERATOR(pg_catalog.=) c.relowner AS owners, path.place
    FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS path (name, place)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname OPERATOR(pg_catalog.=) path.name
    JOIN pg_catalog.pg_class AS c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
    WHERE (c.relname OPERATOR(pg_catalog.=) 'outbox_floor' AND c.relkind OPERATOR(pg_catalog.=) 'r')
      OR c.relname OPERATOR(pg_catalog.=) 'outbox'
  ) AS found ON true ORDER BY found.place`;

/** By the floor, since others too may call a table outbox. */
function readSurroundings(rows: readonly Found[], known: string | undefined): Surroundings {
  const homes = rows.filter(({ name }) => name === 'outbox_floor');
  const [first] = homes;
  // Whoever may CREATE in an early schema could lead us to a table of their own; of one that is the
  // schema owner's that is known.
  const isDoubtful = known === undefined && homes.length > 1 && first?.isOwners === false;
  return {
    schema: known ?? (isDoubtful ? undefined : (first?.schema ?? undefined)),
    rivals: isDoubtful ? homes.map(({ schema }) => schema ?? '') : [],
    schemaOfTable: rows.find(({ name }) => name === 'outbox')?.schema ?? undefined,
    currentSchema: rows[0]?.current ?? undefined,
    searchPath: rows[0]?.path ?? '',
  };
}

/** Why there is no schema of the outbox. */
export function outboxNotFound({ rivals }: Surroundings): OperatorError {
  if (rivals.length === 0) {
    return new OperatorError(
      'no-outbox',
      `There is no outbox where the search_path of this role leads. As its owner, run: ${commandLine('migrate')}`,
    );
  }
  return new OperatorError(
    'several-outboxes',
    `The search_path leads to several outboxes, in the schemas ${rivals.map(pg.escapeIdentifier).join(', ')}, of which the first was ` +
      'not made by the owner of its schema. Say which is meant: ALTER ROLE … SET search_path = …',
  );
}

/** Puts the schema in place of `here.`, within a literal too. */
function qualifier(surroundings: Surroundings): (text: string) => string {
  const { schema } = surroundings;
  const known = new Map<string, string>();
  const quoted = schema === undefined ? undefined : pg.escapeIdentifier(schema);
  return (text) => {
    const before = known.get(text);
    if (before !== undefined) return before;
    const result = text.replace(/('?)\bhere\./g, (_, quote: string) => {
      if (quoted === undefined) throw outboxNotFound(surroundings);
      return quote === '' ? `${quoted}.` : `'${quoted.replaceAll("'", "''")}.`;
    });
    // The few statements that there are, and not those that are put together of names.
    if (known.size < 100) known.set(text, result);
    return result;
  };
}
