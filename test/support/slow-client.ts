/** What makes a client slow: more than all that lies between it and the relay can hold. */
import type { TestDatabase } from './database.js';

/**
 * Publishes 2,000 events of 9.6 kB to the channel `long`. A relay for it has WINDOW_MEGABYTES=1.
 */
export async function publishLong(query: TestDatabase['query']): Promise<void> {
  await query(
    "INSERT INTO outbox (channel, data) SELECT 'long', to_jsonb(repeat(md5(n::text), 300)) FROM generate_series(1, 2000) AS n",
  );
}
