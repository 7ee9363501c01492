/**
 * Databases that are not in UTF-8: clients may ask for names that these can't hold.
 */
import test from 'ava';
import { migrate } from '../src/postgres/migrate.js';
import { createDatabase, useDatabase } from './support/database.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';

for (const encoding of ['LATIN1', 'LATIN9', 'SQL_ASCII']) {
  test(`a name that ${encoding} lacks silences no other channel of its client, live or replayed, nor anybody else`, async (t) => {
    const home = await createDatabase(t, { template: false });
    const name = `${home.name}_${encoding.toLowerCase()}`;
    await home.query(`CREATE DATABASE ${name} ENCODING ${encoding} LOCALE 'C' TEMPLATE template0`);
    const database = useDatabase(home.url.replace(home.name, name));
    t.teardown(async () => {
      await database.pool.end();
      await home.query(`DROP DATABASE ${name} WITH (FORCE)`);
    });
    await migrate(database.url, 'up');
    // As node-postgres does: text is sent in UTF-8, whatever the database has.
    const publish = (data: string) =>
      database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text))', ['été:1', data]);
    await publish('before');
    const relay = await startTestRelay(t, database.url, { WINDOW_MEGABYTES: '0' });

    const path = ['日本', '日本:*', 'été:1'].map((channel) => `channel=${encodeURIComponent(channel)}`).join('&');
    const both = await openStream(t, `${relay.url}/events?${path}&last_event_id=earliest`);
    const prefixes = await openStream(
      t,
      `${relay.url}/events?channel=${encodeURIComponent('日本:*')}&channel=${encodeURIComponent('été:*')}&last_event_id=earliest`,
    );
    const none = await openStream(t, `${relay.url}/events/${encodeURIComponent('日本')}?last_event_id=earliest`);
    await both.untilEvents(1);
    await prefixes.untilEvents(1);
    await none.until(({ event }) => event === 'stream-open');
    await publish('after');
    for (const stream of [both, prefixes]) {
      const events = await stream.untilEvents(2);
      t.deepEqual(
        events.map(({ data }) => data),
        ['before', 'after'],
      );
    }
    t.is(none.events.length, 0);

    // In the bytes of LATIN9 the euro sign comes before letters with accents, in Unicode after them.
    const ordered = ['été:', ...(encoding === 'LATIN1' ? ['ÿ:'] : ['€:']), 'a:'].map(
      (prefix) => `channel=${encodeURIComponent(`${prefix}*`)}`,
    );
    const replayed = await openStream(t, `${relay.url}/events?${ordered.join('&')}&last_event_id=earliest`);
    t.is((await replayed.untilEvents(2)).length, 2);
  });
}
