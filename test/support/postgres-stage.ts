/**
 * An outbox in PostgreSQL with its feed and its archive, and those who change what is in it.
 */
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { openDatabases } from '../../src/outbox/databases.js';
import { createPostgresArchive } from '../../src/outbox/postgres-archive.js';
import { createPostgresFeed } from '../../src/outbox/postgres-feed.js';
import { createUndeliverable } from '../../src/outbox/undeliverable.js';
import type { StoredEvent } from './archive-conformance.js';
import { createDatabase } from './database.js';

interface Row {
  readonly id: string;
  readonly position: string;
  readonly channel: string;
  readonly created: number;
}

export async function onPostgres(t: ExecutionContext) {
  const database = await createDatabase(t);
  const logger = pino({ level: 'silent' });
  const settings = {
    databaseUrl: database.url,
    listenDatabaseUrl: database.url,
    listenTimeoutSeconds: 10,
    queryTimeoutSeconds: 30,
    historyConnections: 2,
  };
  const databases = openDatabases(settings, logger);
  t.teardown(async () => {
    await databases.live.close();
    await databases.history.close();
  });
  const stored = async (): Promise<StoredEvent[]> => {
    const { rows } = await database.query<Row>(
      `SELECT id, position, channel, (extract(epoch FROM created_at) * 1000)::double precision AS created
       FROM outbox ORDER BY position`,
    );
    return rows.map(({ id, position, channel, created }) => ({
      id,
      position: BigInt(position),
      channel,
      createdAt: created,
    }));
  };
  return {
    database,
    databases,
    feed: createPostgresFeed(settings, { databases, undeliverable: createUndeliverable(), logger }),
    archive: createPostgresArchive(databases.history.db),
    stored,
    async insert(channels: readonly string[], bytes = 1): Promise<void> {
      await database.query(
        "INSERT INTO outbox (channel, data) SELECT channel, to_jsonb(repeat('x', $2)) FROM unnest($1::text[]) AS channel",
        [channels, bytes],
      );
    },
    async redact(position: bigint): Promise<void> {
      await database.query(`UPDATE outbox SET data = '"redacted"' WHERE position = $1`, [String(position)]);
    },
    async deleteThrough(position: bigint): Promise<void> {
      await database.query('DELETE FROM outbox WHERE position <= $1', [String(position)]);
    },
    async restore(position: bigint): Promise<void> {
      await database.withClient(async (client) => {
        await client.query('SET session_replication_role = replica');
        await client.query('DELETE FROM outbox WHERE position > $1', [String(position)]);
        await client.query("SELECT setval('outbox_position_seq', $1)", [String(position)]);
      });
    },
  };
}
