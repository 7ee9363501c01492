/**
 * What reads of history cost: in proportion to what they bring, in equal shares, and nothing for those who have left.
 */
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { createBudget } from '../src/stream/page-budget.js';
import { channelFilter, type ChannelFilter } from '../src/event/channel-filter.js';
import { createFairQueue, createFlow } from '../src/stream/fair-queue.js';
import { createReadsByCursor } from '../src/stream/reads-by-cursor.js';
import { createReadLimit } from '../src/stream/read-limit.js';
import { createHistory } from '../src/stream/history.js';
import { NO_EVENTS } from '../src/outbox/frame-batch.js';
import type { Archive, CursorLookup } from '../src/outbox/archive.js';
import { createPostgresArchive } from '../src/outbox/postgres-archive.js';
import { createPostgresReader } from '../src/outbox/postgres-feed.js';
import { createDatabase } from './support/database.js';
import { observe, rowsLookedAt } from './support/plan.js';

const PAGE_BYTES = 512 * 1024;

test.serial('a replay of 100 channels reads in proportion to what it brings', async (t) => {
  const database = await createDatabase(t);
  const rows = 100_000;
  // One channel has a third of all, a hundred share a tenth, some of them far less than others; the rest is for nobody here.
  await database.withClient(async (client) => {
    await client.query('SET session_replication_role = replica');
    await client.query(
      `INSERT INTO outbox (channel, data, position) SELECT CASE WHEN n % 3 = 0 THEN 'dense'
           WHEN n % 10 = 1 THEN 'c' || floor(100 * random() ^ 2)::integer ELSE 'other' END, '1', n
         FROM generate_series(1, $1) AS n`,
      [rows],
    );
  });
  await database.query('VACUUM ANALYZE outbox');
  const { db, queries, explain } = observe(t, database);
  const archive = createPostgresArchive(db);

  async function replay(filter: ChannelFilter): Promise<{ ids: string[]; pages: number; looked: number }> {
    const ids: string[] = [];
    let pages = 0;
    let looked = 0;
    for (let position = 0n; position < BigInt(rows); pages += 1) {
      queries.length = 0;
      const page = await archive.page(filter, position, BigInt(rows), PAGE_BYTES);
      ids.push(...(page.events.frames.toString().match(/(?<=^id: )\d+$/gm) ?? []));
      t.true(page.position > position, 'it moves on');
      position = page.position;
      for (const query of [...queries]) looked += rowsLookedAt(await explain(query));
    }
    return { ids, pages, looked };
  }

  for (const [what, filter] of [
    ['one dense', channelFilter(['dense', ...Array.from({ length: 99 }, (_, n) => `c${n}`)])],
    ['all sparse', channelFilter(Array.from({ length: 100 }, (_, n) => `c${n}`))],
  ] as const) {
    const { rows: expected } = await database.query<{ id: string }>(
      'SELECT id FROM outbox WHERE channel = ANY ($1) ORDER BY position',
      [filter.channels],
    );
    const { ids, pages, looked } = await replay(filter);
    t.deepEqual(
      ids,
      expected.map(({ id }) => id),
      what,
    );
    // A key and a row for each, as many keys again that turn out to be for a later page, and a few of each channel.
    t.true(
      looked <= 4 * ids.length + pages * 400,
      `${what}: ${looked} rows for ${ids.length} events in ${pages} pages`,
    );
    t.true(pages <= 10 + ids.length / 500, `${what}: ${pages} pages for ${ids.length} events`);
  }
});

test('a hundred prefixes match what each of them does, whatever letters they have', async (t) => {
  const database = await createDatabase(t);
  const letters = ['a', 'é', '😀', '\uffee', 'Z', '-', '"'];
  const prefixes = letters.flatMap((one) => letters.map((two) => `${one}${two}:`)).slice(0, 49);
  const channels = [...prefixes.map((prefix) => `${prefix}x`), ...letters, 'a:', 'aa', 'ZZZ:x', ':x'];
  await database.query(
    'INSERT INTO outbox (channel, data) SELECT channel, to_jsonb(channel) FROM unnest($1::text[]) AS channel',
    [channels],
  );
  const { db } = observe(t, database);
  const archive = createPostgresArchive(db);
  const { position } = await createPostgresReader(db).head();
  for (const wanted of [prefixes, prefixes.filter((_, n) => n % 2 === 0), ['a:'], ['😀😀:', '\uffee\uffee:']]) {
    const page = await archive.page(channelFilter(wanted.map((prefix) => `${prefix}*`)), 0n, position, PAGE_BYTES);
    const got = page.events.frames.toString().match(/(?<=^data: ).*$/gm) ?? [];
    t.deepEqual(
      got,
      channels.filter((channel) => wanted.some((prefix) => channel.startsWith(prefix))),
    );
  }
});

test('whoever has had the least of the database is next, so that who reads much waits for the others', async (t) => {
  let now = 0;
  const queue = createFairQueue(createReadLimit(1), () => now);
  const order: string[] = [];
  const read = async (name: string, flow: ReturnType<typeof createFlow>, ms: number) => {
    await queue.run(flow, async () => {
      order.push(name);
      await turn();
      now += ms;
    });
  };
  const wanted = () => true;
  const loop = async (name: string, pages: number, ms: number) => {
    const flow = createFlow(wanted);
    for (let page = 0; page < pages; page += 1) await read(name, flow, ms);
  };
  const greedy = Array.from({ length: 5 }, () => loop('greedy', 20, 400));
  const modest = loop('modest', 50, 2);
  await Promise.all([...greedy, modest]);
  const before = order.slice(0, order.lastIndexOf('modest'));
  t.true(before.filter((name) => name === 'greedy').length <= 6, order.join(' '));

  // A newcomer has no claim for the time when it was not there.
  order.length = 0;
  await Promise.all([loop('new', 3, 400), loop('newer', 3, 400)]);
  t.deepEqual(order, ['new', 'newer', 'new', 'newer', 'new', 'newer']);
});

test('while the event loop is late one read is made at a time, and as many as before once it is in time', async (t) => {
  const limit = createReadLimit(4);
  // What the event loop is really like here counts for nothing.
  const queue = createFairQueue({
    get allowed() {
      return limit.allowed;
    },
    observe: () => undefined,
  });
  const ends: (() => void)[] = [];
  const read = () =>
    void queue.run(
      createFlow(() => true),
      () => new Promise<void>((end) => ends.push(end)),
    );
  for (let n = 0; n < 12; n += 1) read();
  await turn();
  t.is(ends.length, 4);
  for (let n = 0; n < 3; n += 1) limit.observe(50);
  t.is(limit.allowed, 1);
  for (let n = 0; n < 3; n += 1) {
    ends[n]?.();
    await turn();
    await turn();
  }
  t.is(ends.length, 4, 'three have ended, one is under way and none has begun');
  ends[3]?.();
  await turn();
  await turn();
  t.is(ends.length, 5);
  for (let n = 0; n < 80; n += 1) limit.observe(0);
  t.is(limit.allowed, 4);
  while (ends.length < 8) await turn();
  t.is(ends.length, 8, 'those that waited begin without another that ends');
  for (let n = 0; n < 12; n += 1) {
    while (ends[n] === undefined) await turn();
    ends[n]?.();
  }
});

test('to find a read to share takes a few comparisons, however many reads there are', (t) => {
  const size = 5000;
  let comparisons = 0;
  const unusable = new Set<bigint>();
  const reads = createReadsByCursor<{ readonly after: bigint }>(({ after }) => !unusable.has(after));
  const readAfter = (position: bigint) => ({
    get after() {
      comparisons += 1;
      return position;
    },
  });
  const all = Array.from({ length: size }, (_, n) => readAfter(BigInt(2 * (size - n))));
  for (const read of all) reads.add(read);
  for (let n = 0; n < size; n += 1) t.is(reads.nearest(BigInt(2 * n + 3)), all[size - n - 1]);
  t.is(reads.nearest(1n), undefined);
  t.true(comparisons < 2 * size * 20, `${comparisons} comparisons`);
  for (const position of [20n, 22n, 24n]) unusable.add(position);
  t.is(reads.nearest(25n), all[size - 9]);
  t.is(reads.size, size - 3);
  for (const read of all) reads.remove(read);
  t.is(reads.size, 0);
});

function setUp() {
  const asked: { what: string; signal: AbortSignal | undefined; answer: () => void }[] = [];
  const pending = <T>(what: string, signal: AbortSignal | undefined, answer: T) =>
    new Promise<T>((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(new Error('cancelled')));
      asked.push({ what, signal, answer: () => resolve(answer) });
    });
  const unused = () => Promise.reject(new Error('not used here'));
  const archive: Archive = {
    lookUpCursors: (ids, signal) =>
      pending<CursorLookup[]>(
        ids.join(),
        signal,
        ids.map((id) => ({ kind: 'found', position: BigInt(id) })),
      ),
    since: ({ time }, signal) => pending(time.toISOString(), signal, { id: '7', position: 7n }),
    page: unused,
  };
  const history = createHistory(archive, createBudget(1_000_000), {
    queue: createFairQueue({ allowed: 2, observe: () => undefined }),
  });
  const client = () => {
    let isThere = true;
    const flow = createFlow(() => isThere);
    return {
      flow,
      leave() {
        isThere = false;
        flow.leave();
      },
    };
  };
  return { asked, history, client };
}

test('the cursor of a client that has left is not looked up, and a look-up that all have left is cancelled', async (t) => {
  const { asked, history, client } = setUp();
  const [first, second, third] = [client(), client(), client()];
  const answers = [
    history.lookUpCursor('1', first.flow),
    history.lookUpCursor('2', second.flow),
    history.lookUpCursor('2', third.flow),
  ];
  first.leave();
  await turn();
  await turn();
  t.deepEqual(
    asked.map(({ what }) => what),
    ['2'],
  );
  second.leave();
  t.false(asked[0]?.signal?.aborted);
  third.leave();
  t.true(asked[0]?.signal?.aborted);
  const ended = await Promise.allSettled(answers);
  t.is(ended.length, 3, 'nobody waits for ever');
  const next = history.lookUpCursor('4', client().flow);
  await turn();
  await turn();
  asked.at(-1)?.answer();
  t.deepEqual(await next, { kind: 'found', position: 4n });
});

test('a time is looked up once for all who ask for it, two at a time, and not for those who have left', async (t) => {
  const { asked, history, client } = setUp();
  const times = [1, 2, 3, 4].map((second) => new Date(second * 1000));
  const crowd = times.flatMap((time) => Array.from({ length: 50 }, () => ({ ...client(), time })));
  const answers = crowd.map(({ flow, time }) => history.since(time, flow));
  await turn();
  t.is(asked.length, 2);
  for (const { leave, time } of crowd) if (time === times[0] || time === times[2]) leave();
  t.true(asked[0]?.signal?.aborted);
  for (let n = 1; n < 3; n += 1) {
    while (asked[n] === undefined) await turn();
    asked[n]?.answer();
  }
  const ended = await Promise.allSettled(answers);
  t.is(ended.filter(({ status }) => status === 'fulfilled').length >= 100, true);
  t.deepEqual(
    asked.map(({ what }) => what),
    [times[0], times[1], times[3]].map((time) => time?.toISOString()),
  );
  t.is(history.stats.lookups, 4);
});

test('R4: a read that began before a restart of the log is shared with nobody who asks after it', async (t) => {
  const answers: (() => void)[] = [];
  const archive: Archive = {
    lookUpCursors: () => Promise.reject(new Error('not used here')),
    since: () => Promise.reject(new Error('not used here')),
    page: () =>
      new Promise((resolve) => {
        answers.push(() => resolve({ events: NO_EVENTS, position: 9n, floor: 0n, needs: undefined }));
      }),
  };
  const log = { head: { id: '0', position: 0n }, epoch: 0, changes: 0, isUnchanged: () => true };
  const history = createHistory(archive, createBudget(1_000_000), { queue: createFairQueue(createReadLimit(4)), log });
  const filter = channelFilter(['a']);
  const read = () =>
    history.read(
      filter,
      1n,
      9n,
      createFlow(() => true),
    );
  const before = [read(), read()];
  await turn();
  t.is(answers.length, 1, 'in one epoch it is shared');
  log.epoch = 1;
  const after = [read(), read()];
  await turn();
  t.is(answers.length, 2, 'and in the next read once more');
  for (const answer of answers) answer();
  for (const page of await Promise.all([...before, ...after])) t.is(page.position, 9n);
});
