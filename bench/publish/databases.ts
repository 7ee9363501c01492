/** Databases with the same table whose triggers differ. */
import pg from 'pg';
import { migrate } from '../../src/postgres/migrate.js';

/** What there is without us. */
const NOTIFY_TRIGGER = `
  CREATE FUNCTION notify_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM pg_notify('outbox', NEW.id::text);
    RETURN NULL;
  END $$;
  CREATE TRIGGER notify_inserted AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION notify_inserted()`;

/**
 * Makes a database with the table as the migrations make it.
 *
 * @param triggers `none`; `notify`: one that notifies, and nothing else; `outbox`: ours.
 * @returns its URL.
 */
export async function createDatabase(
  serverUrl: string,
  name: string,
  triggers: 'none' | 'notify' | 'outbox',
): Promise<string> {
  await withClient(serverUrl, (client) => client.query(`CREATE DATABASE ${name}`));
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  await migrate(url.href, 'up');
  if (triggers !== 'outbox') {
    await withClient(url.href, async (client) => {
      const { rows } = await client.query<{ drop: string }>(
        `SELECT format('DROP TRIGGER %I ON outbox', tgname) AS drop FROM pg_trigger
         WHERE tgrelid = 'outbox'::regclass AND NOT tgisinternal`,
      );
      for (const { drop } of rows) await client.query(drop);
      if (triggers === 'notify') await client.query(NOTIFY_TRIGGER);
    });
  }
  return url.href;
}

export async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await connect(url);
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

export async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}
