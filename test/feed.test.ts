/**
 * The two ways to have events, in PostgreSQL and in memory with all faults that are allowed, keep to what their readers rely on.
 */
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { Cursor } from '../src/event/event.js';
import { openDatabases } from '../src/outbox/databases.js';
import { createPostgresArchive } from '../src/outbox/postgres-archive.js';
import { createPostgresFeed } from '../src/outbox/postgres-feed.js';
import { createUndeliverable } from '../src/outbox/undeliverable.js';
import { declareArchiveSuite, type ArchiveStage, type StoredEvent } from './support/archive-conformance.js';
import { createDatabase } from './support/database.js';
import { declareFeedSuite, type FeedStage } from './support/feed-conformance.js';
import { hangInCommit } from './support/hanging-commit.js';
import { createMemoryArchive, createMemoryFeed, createMemoryOutbox, randomFaults } from './support/memory-outbox.js';
import { randomOf, seedFromEnvironment } from './support/random.js';

interface Row {
  readonly id: string;
  readonly position: string;
  readonly channel: string;
  readonly created: number;
}

async function onPostgres(t: ExecutionContext) {
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

declareFeedSuite('the feed from PostgreSQL', async (t): Promise<FeedStage> => {
  const { insert, stored, ...outbox } = await onPostgres(t);
  return {
    ...outbox,
    async publish(channels) {
      await insert(channels);
      return (await stored()).slice(-channels.length).map(({ id, position }): Cursor => ({ id, position }));
    },
    begin: (channels) => hangInCommit(t, outbox.database, channels),
  };
});

declareArchiveSuite('the archive in PostgreSQL', async (t): Promise<ArchiveStage> => {
  const { insert, stored, ...outbox } = await onPostgres(t);
  return {
    ...outbox,
    async publish(channels, bytes) {
      await insert(channels, bytes);
      return stored();
    },
  };
});

function inMemory(t: ExecutionContext) {
  const seed = seedFromEnvironment();
  t.log(`SEED=${seed}`);
  const faults = randomFaults(randomOf(seed, t.title).next);
  return { outbox: createMemoryOutbox(faults), faults };
}

declareFeedSuite('a feed in memory that loses, doubles, delays and fails', (t): Promise<FeedStage> => {
  const { outbox, faults } = inMemory(t);
  return Promise.resolve({
    feed: createMemoryFeed(outbox, faults),
    publish: (channels) => Promise.resolve(outbox.publish(channels).map(({ id, position }) => ({ id, position }))),
    begin(channels) {
      const commit = outbox.begin(channels);
      return Promise.resolve({
        succeed: async () => Promise.resolve(void commit.succeed()),
        fail: async () => Promise.resolve(commit.fail()),
      });
    },
    redact: async (position) => Promise.resolve(outbox.redact(position)),
    deleteThrough: async (position) => Promise.resolve(outbox.deleteThrough(position)),
    restore: async (position) => Promise.resolve(outbox.restore(position)),
  });
});

declareArchiveSuite('an archive in memory that cuts, delays and fails', (t): Promise<ArchiveStage> => {
  const { outbox, faults } = inMemory(t);
  return Promise.resolve({
    archive: createMemoryArchive(outbox, faults),
    publish(channels, size) {
      outbox.publish(channels, size);
      return Promise.resolve(outbox.events);
    },
    deleteThrough: async (position) => Promise.resolve(outbox.deleteThrough(position)),
  });
});
