/**
 * Sessions of publishers, as tests of commit order have them: one statement after the other, in transactions that stay open.
 */
import type { ExecutionContext } from 'ava';
import pg from 'pg';
import type { TestDatabase } from './database.js';

/** A connection for a transaction that stays open, up to the end of the test. */
export async function connect(t: ExecutionContext, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'test' });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  return client;
}

export interface Queryable {
  query<Row extends pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<pg.QueryResult<Row>>;
}

export async function single<Row extends pg.QueryResultRow>(
  on: Queryable,
  sql: string,
  values?: unknown[],
): Promise<Row> {
  const { rows } = await on.query<Row>(sql, values);
  if (rows[0] === undefined) throw new Error(`no row: ${sql}`);
  return rows[0];
}

/** Publishes an event whose channel and data are its name. */
export async function publish(on: Queryable, ...names: string[]): Promise<void> {
  await on.query('INSERT INTO outbox (channel, data) SELECT name, to_jsonb(name) FROM unnest($1::text[]) AS name', [
    names,
  ]);
}

export async function outcome(query: Promise<unknown>): Promise<string> {
  try {
    await query;
    return 'done';
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code !== undefined) return error.code;
    throw error;
  }
}

/** The table as if our triggers had never been made. */
export function withoutTriggers(db: TestDatabase): Promise<unknown> {
  return db.query('ALTER TABLE outbox DISABLE TRIGGER USER');
}

/** What a session that LISTENs has heard: ids of events, in the order of commits. */
export async function startListening(t: ExecutionContext, db: Pick<TestDatabase, 'url'>) {
  const listener = await connect(t, db.url);
  const heard: string[] = [];
  let onHeard = (): void => undefined;
  listener.on('notification', ({ payload = '' }) => {
    heard.push(payload);
    onHeard();
  });
  await listener.query('LISTEN outbox');
  return {
    heard,
    /** Resolves once it is heard. */
    until: (id: string) =>
      new Promise<void>((resolve) => {
        onHeard = () => {
          if (heard.includes(id)) resolve();
        };
        onHeard();
      }),
  };
}
