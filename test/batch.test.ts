import assert from 'node:assert/strict';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { pino } from 'pino';
import { batchOfText, NO_EVENTS } from '../src/outbox/frame-batch.js';
import { channelFilter } from '../src/event/channel-filter.js';
import { openDatabase } from '../src/postgres/pool.js';
import type { Archive } from '../src/outbox/archive.js';
import type { FeedReader } from '../src/outbox/feed.js';
import { createPostgresArchive } from '../src/outbox/postgres-archive.js';
import { createPostgresReader } from '../src/outbox/postgres-feed.js';
import { encodeEvent } from '../src/event/sse.js';
import { unchunked } from './support/chunks.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { holds } from './support/property.js';

const line = fc
  .array(fc.oneof(fc.constantFrom('\r', '\n', '\r\n', '\n\n', 'id: 9', 'é', '😀'), fc.string()))
  .map((parts) => parts.join(''));

const events = fc
  .array(fc.record({ gap: fc.integer({ min: 1, max: 3 }), data: line }), { minLength: 1, maxLength: 20 })
  .map((rows) => {
    let position = 0;
    return rows.map(({ gap, data }, n) => ({
      position: BigInt((position += gap)),
      id: String(n + 7),
      frame: Buffer.from(unchunked(encodeEvent({ id: String(n + 7), event: 'message', data }))),
    }));
  });

function openOutbox(t: ExecutionContext, { url }: TestDatabase): { feed: FeedReader; archive: Archive } {
  const log = pino({ level: 'silent' });
  const { db, close } = openDatabase({ url, applicationName: 'batch', connections: 1, timeoutSeconds: 60, log });
  t.teardown(close);
  return { feed: createPostgresReader(db), archive: createPostgresArchive(db) };
}

type Events = typeof events extends fc.Arbitrary<infer T> ? T : never;

function batch(all: Events) {
  return batchOfText(
    Buffer.concat(all.map(({ frame }) => frame)).toString(),
    all.map(({ position }) => position).join(' '),
  );
}

test('the part of a batch that follows a position has each later event, byte for byte', (t) => {
  holds(
    t,
    fc.property(events, fc.bigInt({ min: 0n, max: 60n }), (all, position) => {
      const later = all.filter((event) => event.position > position);
      const part = batch(all).after(position);
      assert.equal(part.length, later.length);
      assert.ok(part.frames.equals(Buffer.concat(later.map(({ frame }) => frame))));
    }),
  );
});

test('R5: of a batch those events are kept that begin within the bytes asked for, and the first', (t) => {
  holds(
    t,
    fc.property(events, fc.integer({ min: 1, max: 300 }), (all, bytes) => {
      let begins = 0;
      const kept = all.filter(({ frame }) => (begins += frame.length) - frame.length < bytes);
      const part = batch(all).within(bytes);
      const last = kept.at(-1);
      assert.equal(part.length, kept.length);
      assert.ok(part.frames.equals(Buffer.concat(kept.map(({ frame }) => frame))));
      assert.equal(part.last?.id, last?.id);
      assert.equal(part.last?.position, last?.position);
      assert.equal(part.after((last?.position ?? 0n) - 1n).length, 1);
    }),
  );
});

test('no events are a batch, too', (t) => {
  t.is(NO_EVENTS.length, 0);
  t.is(NO_EVENTS.after(5n).length, 0);
  t.is(NO_EVENTS.within(1).frames.length, 0);
});

test('a replay frames in the database what the live path frames in the relay, byte for byte', async (t) => {
  const database = await createDatabase(t);
  const json = fc.sample(
    fc.oneof(
      line.map((text) => text.replaceAll('\0', '')),
      fc
        .array(fc.constantFrom('\r', '\n', '\r\n', 'é', 'data: ', '😀'), { maxLength: 30 })
        .map((parts) => parts.join('')),
      fc.constantFrom('\r', '\n', '\r\n', '\n\r').map((text) => text.repeat(1000)),
      fc.jsonValue({ stringUnit: 'grapheme' }),
    ),
    { numRuns: 2000, seed: 1 },
  );
  const rows = json.map((data, n) => ({ event: n % 3 === 0 ? 'message' : `é: ${n} 😀`, data: JSON.stringify(data) }));
  await database.query(
    "INSERT INTO outbox (channel, event, data) SELECT 'a', event, data FROM jsonb_to_recordset($1::jsonb) AS r(event text, data jsonb)",
    [JSON.stringify(json.map((data, n) => ({ event: rows[n]?.event, data })))],
  );
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', NULL), ('a', 'null'), ('a', '\"\"')");
  const { feed, archive } = openOutbox(t, database);
  const head = await feed.head();
  const pages: Buffer[] = [];
  for (let at = 0n; at < head.position;) {
    const page = await archive.page(channelFilter(['a']), at, head.position, 20_000);
    pages.push(page.events.frames);
    at = page.position;
  }
  const live: Buffer[] = [];
  for (let at = 0n; at < head.position;) {
    const { events: fresh } = await feed.readNew(at);
    live.push(...fresh.map(({ frame }) => frame));
    at = fresh.at(-1)?.position ?? head.position;
  }
  t.is(live.length, json.length + 3);
  t.is(Buffer.concat(pages).toString(), unchunked(Buffer.concat(live)));
});

test('the tail reads whatever follows, few or many, small or large, and says whether there is more', async (t) => {
  const database = await createDatabase(t);
  const { feed } = openOutbox(t, database);
  let at = 0n;
  // Random, or the table would keep it small.
  const large = Array.from({ length: 500 }, () => Math.random()).join();
  for (const data of [
    ['a'],
    ['a', 'b'],
    ['a', large, 'b'],
    ['c'],
    Array.from({ length: 3000 }, (_, n) => `${n}`),
    ['d'],
  ]) {
    await database.query(
      "INSERT INTO outbox (channel, data) SELECT 'a', to_jsonb(text) FROM unnest($1::text[]) AS text",
      [data],
    );
    const read: string[] = [];
    for (let more = true; more;) {
      const page = await feed.readNew(at);
      read.push(...page.events.map(({ frame }) => /data: (.*)/.exec(frame.toString())?.[1] ?? ''));
      at = page.events.at(-1)?.position ?? at;
      ({ more } = page);
    }
    t.deepEqual(read, data);
    t.deepEqual((await feed.readNew(at)).events, []);
  }
  await database.query('DELETE FROM outbox WHERE position <= $1', [String(at)]);
  await database.query("INSERT INTO outbox (channel) VALUES ('a')");
  t.is((await feed.readNew(at)).floor.position, at);
});
