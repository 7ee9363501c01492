/**
 * The two ways to have events, in PostgreSQL and in memory with all faults that are allowed, keep to what their readers rely on.
 */
import test, { type ExecutionContext } from 'ava';
import type { Cursor } from '../src/event/event.js';
import { declareArchiveSuite, type ArchiveStage } from './support/archive-conformance.js';
import { declareFeedSuite, type FeedStage } from './support/feed-conformance.js';
import { hangInCommit } from './support/hanging-commit.js';
import { createMemoryArchive, createMemoryFeed, createMemoryOutbox, randomFaults } from './support/memory-outbox.js';
import { onPostgres } from './support/postgres-stage.js';
import { randomOf, seedFromEnvironment } from './support/random.js';

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

test('the feed from PostgreSQL says of each event what its frame has of the JSON that was published', async (t) => {
  const { database, feed } = await onPostgres(t);
  const large = 'x'.repeat(100_000);
  for (const padding of ['', large]) {
    const values = [7, '7', null, { a: 1 }, ['\r'], 'one\ntwo', 'one\r\ntwo', `text ${padding}`, { padding }];
    const { rows } = await database.query<{ low: string }>('SELECT coalesce(max(position), 0) AS low FROM outbox');
    await database.query('INSERT INTO outbox (channel, data) SELECT $1, value FROM jsonb_array_elements($2::jsonb)', [
      'a',
      JSON.stringify(values),
    ]);
    const { events } = await feed.readNew(BigInt(rows[0]?.low ?? 0));
    t.deepEqual(
      events.map(({ kind }) => kind),
      ['json', 'text', 'json', 'json', 'json', 'text', 'other', 'text', 'json'],
    );
  }
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
