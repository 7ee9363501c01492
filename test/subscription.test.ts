import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { mock } from 'node:test';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { batchOf, type Batch } from '../src/outbox/frame-batch.js';
import { createBudget } from '../src/stream/page-budget.js';
import { channelFilter, matches, type ChannelFilter } from '../src/event/channel-filter.js';
import { createFairQueue, createFlow } from '../src/stream/fair-queue.js';
import { createHistory } from '../src/stream/history.js';
import { createLog } from '../src/feed/log.js';
import type { LogEvent } from '../src/event/event.js';
import type { Archive, ArchivePage, CursorLookup } from '../src/outbox/archive.js';
import type { ReadLimit } from '../src/stream/read-limit.js';
import { subscribe, type Subscription } from '../src/stream/subscription.js';
import { createWindowPages } from '../src/stream/window-pages.js';
import type { PlacedExclusions } from '../src/stream/exclusions.js';
import { createTurns, LOOKS_PER_SLICE, LOOKS_PER_TURN } from '../src/stream/slices.js';
import { holdsAsync } from './support/property.js';

/** So small that the budget hands out nothing but its smallest page. */
const BUDGET = 16 * 8192;
const PAGE = createBudget(BUDGET).pageBytes();
const LARGEST_EVENT = 3000;
/** However late the event loop is on this machine. */
const LIMIT: ReadLimit = { allowed: 2, observe: () => undefined };
/** Longer than any pause before a failed read is tried again, in milliseconds. */
const LONGER_THAN_A_PAUSE = 6000;

type Step =
  | { do: 'commit'; channels: string[]; size: number }
  | { do: 'tail'; events: number }
  | { do: 'subscribe'; filter: ChannelFilter; at: number }
  | { do: 'page'; read: number }
  | { do: 'fail'; read: number }
  | { do: 'drain'; client: number }
  | { do: 'close'; client: number }
  | { do: 'redact'; at: number[]; through: number }
  | { do: 'delete'; at: number }
  | { do: 'restore'; at: number }
  | { do: 'pause' };

const channel = fc.constantFrom('a', 'b', 'u:1', 'u:2');
const filter = fc.constantFrom(['a'], ['a', 'b'], ['u:*'], ['*'], ['u:1', 'b']).map(channelFilter);
const index = fc.nat(3);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('commit' as const),
    channels: fc.array(channel, { minLength: 1, maxLength: 12 }),
    size: fc.integer({ min: 30, max: LARGEST_EVENT }),
  }),
  fc.record({ do: fc.constant('tail' as const), events: fc.integer({ min: 1, max: 20 }) }),
  fc.record({ do: fc.constant('subscribe' as const), filter, at: fc.double({ min: 0, max: 1, noNaN: true }) }),
  fc.record({ do: fc.constant('page' as const), read: index }),
  fc.record({ do: fc.constant('page' as const), read: index }),
  fc.record({ do: fc.constant('fail' as const), read: index }),
  fc.record({ do: fc.constant('drain' as const), client: index }),
  fc.record({ do: fc.constant('close' as const), client: index }),
  fc.record({
    do: fc.constant('redact' as const),
    at: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 3 }),
    through: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.double({ min: 0, max: 1, noNaN: true })),
  }),
  fc.record({ do: fc.constant('delete' as const), at: fc.double({ min: 0, max: 1, noNaN: true }) }),
  fc.record({ do: fc.constant('restore' as const), at: fc.double({ min: 0, max: 1, noNaN: true }) }),
  fc.constant({ do: 'pause' as const }),
);

/**
 * A table whose reads are answered when the test says so, every other one with what there was when it was asked. What is committed is
 * not in the log until the tail brings it.
 */
function createTable() {
  const events: LogEvent[] = [];
  let floor = 0n;
  let asked = 0;
  const reads: { answer: () => void; fail: () => void }[] = [];
  const unused = () => Promise.reject(new Error('not used here'));
  const archive: Archive = {
    lookUpCursors: (ids) =>
      Promise.resolve(
        ids.map((id): CursorLookup => {
          const event = events.find((known) => known.id === id);
          if (event === undefined) return { kind: 'unknown' };
          if (event.position > floor) return { kind: 'found', position: event.position };
          return { kind: 'expired', floor: { id: String(floor), position: floor } };
        }),
      ),
    since: unused,
    page: (wanted, after, head, bytes) =>
      new Promise<ArchivePage>((resolve, reject) => {
        const now = pageOf(wanted, after, head, bytes);
        asked += 1;
        const isEarly = asked % 2 === 0;
        reads.push({
          answer: () => resolve(isEarly ? now : pageOf(wanted, after, head, bytes)),
          fail: () => reject(new Error('the connection was lost')),
        });
      }),
  };

  function pageOf(wanted: ChannelFilter, after: bigint, head: bigint, bytes: number): ArchivePage {
    const found: LogEvent[] = [];
    let size = 0;
    for (const event of events) {
      if (event.position <= after || event.position <= floor || !matches(wanted, event.channel)) continue;
      if (size >= bytes) return { events: batch(found), position: found.at(-1)?.position ?? after, floor };
      found.push(event);
      size += event.frame.length;
    }
    const last = found.at(-1)?.position ?? after;
    return { events: batch(found), position: last > head ? last : head, floor };
  }

  function batch(found: readonly LogEvent[]): Batch {
    const pieces = found.map(({ id, position, frame }) => ({ id, position, bytes: frame.length }));
    return batchOf(Buffer.concat(found.map(({ frame }) => frame)), found.length, pieces.at(-1), () => pieces);
  }

  return {
    /** All that was ever committed. */
    events,
    reads,
    archive,
    /** Position of the newest event that was deleted. */
    get floor() {
      return floor;
    },
    delete(through: bigint) {
      if (through > floor) floor = through;
    },
    /** Its frame has the same length, and begins with another character. */
    redact(position: bigint) {
      const index = events.findIndex((event) => event.position === position);
      const event = events[index];
      if (event) events[index] = { ...event, frame: Buffer.from(event.frame.toString().replace('<', '[')) };
    },
    /** It is another now, of which nobody has read anything. */
    restore() {
      events.length = 0;
      floor = 0n;
    },
  };
}

/** A client that takes what it is given until, at random, it wants no more; then it must be given nothing. */
function createClient(wanted: ChannelFilter, after: bigint, blocks: () => boolean) {
  let got = '';
  let blocked = false;
  let largest = 0;
  const client = {
    /** What it has is of a table that is no more, of which it has yet to be told. */
    isAstray: false,
    filter: wanted,
    /** Where it began, or went on after a reset. */
    after,
    /** What had been redacted when it came. */
    redacted: new Set<bigint>(),
    sink: {
      write(frames: Buffer) {
        assert.ok(!client.isAstray, 'R4: a client of another table was given events without a reset');
        assert.ok(!blocked, 'R5: a client that wants no more was given more');
        assert.ok(frames.length > 0);
        got += frames.toString();
        largest = Math.max(largest, frames.length);
        blocked = blocks();
        return !blocked;
      },
      writePage(frames: Buffer) {
        return this.write(frames);
      },
    },
    resetTo(position: bigint) {
      this.after = position;
      this.isAstray = false;
      got = '';
    },
    subscription: undefined as Subscription | undefined,
    get got() {
      return got;
    },
    /** Size of the largest write since it was last asked. */
    takeLargest() {
      const size = largest;
      largest = 0;
      return size;
    },
    drain() {
      if (!blocked) return false;
      blocked = false;
      this.subscription?.drained();
      return true;
    },
  };
  return client;
}

/** What was there before redactions. */
const original = (got: string) => got.replaceAll('[', '<');

test.serial(
  'R3, R4, R5, R8: whatever the interleaving, a client gets exactly what follows its cursor, in order, once, or a reset, and nothing that was redacted before it came',
  async (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    t.teardown(() => mock.timers.reset());
    const random = fc.infiniteStream(fc.integer({ min: 0, max: 3 }));
    const windowBytes = fc.constantFrom(1, 3_000, 20_000);
    await holdsAsync(
      t,
      fc.asyncProperty(
        fc.array(step, { maxLength: 60, size: 'max' }),
        random,
        windowBytes,
        async (steps, dice, bytes) => {
          const table = createTable();
          const log = createLog({ id: '0', position: 0n }, { bytes });
          const budget = createBudget(BUDGET);
          const history = createHistory(table.archive, budget, { queue: createFairQueue(LIMIT), log });
          // So few that most reads of the window take several.
          const turns = createTurns({ perTurn: 60, perSlice: 3 });
          const pages = createWindowPages(log);
          const redacted = new Set<bigint>();
          const clients: ReturnType<typeof createClient>[] = [];
          const left: { client: (typeof clients)[number]; had: string }[] = [];
          let blocking = true;
          let position = 0n;
          let failed = 0;
          let reported = 0;

          const expected = (client: (typeof clients)[number], through: bigint) =>
            table.events
              .filter((event) => event.position > client.after && event.position <= through)
              .filter((event) => matches(client.filter, event.channel))
              .map((event) => original(event.frame.toString()))
              .join('');

          function append(count: number): number {
            const next = table.events.filter((event) => event.position > log.head.position).slice(0, count);
            log.append(next);
            return next.reduce((sum, event) => sum + event.frame.length, 0);
          }

          async function settle(batch = 0): Promise<void> {
            // A page passes through a few promises before it is written.
            await turn();
            assert.ok(log.size.bytes <= bytes || log.size.events <= 1, 'the window is too large');
            assert.ok(budget.heldBytes <= clients.length * (PAGE + LARGEST_EVENT), 'R5: too much waits on sockets');
            for (const { client, had } of left) assert.equal(client.got, had, 'a client that had left was given more');
            for (const client of clients) {
              if (client.isAstray) continue;
              assert.ok(client.takeLargest() <= Math.max(PAGE + LARGEST_EVENT, batch), 'R5: a write is too large');
              const all = expected(client, position);
              assert.equal(original(client.got), all.slice(0, client.got.length));
              for (const [, secret = ''] of client.got.matchAll(/<(\d+) /g)) {
                assert.ok(!client.redacted.has(BigInt(secret)), 'R8: what was redacted before it came');
              }
              if (client.subscription?.parked) {
                assert.ok(
                  client.got.length >= expected(client, log.head.position).length,
                  'parked, but behind the head',
                );
              }
            }
          }

          for (const action of steps) {
            let batch = 0;
            if (action.do === 'commit') {
              for (const name of action.channels) {
                position += 1n;
                const frame = Buffer.from(`<${position} ${name}>`.padEnd(action.size, '.'));
                table.events.push({ position, id: String(position), channel: name, frame, kind: 'json', createdAt: 0 });
              }
            } else if (action.do === 'tail') {
              batch = append(action.events);
            } else if (action.do === 'subscribe') {
              // Any committed position: another relay may have handed it out before our tail has got there.
              const after = BigInt(Math.round(Number(position) * action.at));
              const client = createClient(action.filter, after, () => blocking && dice.next().value === 0);
              client.redacted = new Set(redacted);
              clients.push(client);
              client.subscription = subscribe({
                log,
                pages,
                history,
                budget,
                filter: action.filter,
                after: { position: after, id: String(after) },
                onReset: (reason, lastEventId) => {
                  assert.equal(reason === 'unknown', client.isAstray);
                  if (client.isAstray) return client.resetTo(log.head.position);
                  assert.equal(
                    original(client.got),
                    expected(client, BigInt(lastEventId)),
                    'R4: the wrong id is named as the last',
                  );
                  assert.ok(BigInt(lastEventId) < table.floor, 'R4: a reset though nothing was deleted');
                  client.resetTo(log.head.position);
                },
                sink: client.sink,
                turns,
                onReadError: () => (reported += 1),
              });
            } else if (action.do === 'page') {
              table.reads.splice(action.read, 1)[0]?.answer();
            } else if (action.do === 'fail') {
              const [read] = table.reads.splice(action.read, 1);
              if (read) failed += 1;
              read?.fail();
            } else if (action.do === 'drain') {
              clients[action.client]?.drain();
            } else if (action.do === 'close') {
              const [client] = clients.splice(action.client, 1);
              client?.subscription?.close();
              if (client) left.push({ client, had: client.got });
              client?.drain();
            } else if (action.do === 'redact') {
              // The tail asks between its reads, so the log is told of what it has, and of what it will have as it is now.
              const positions = action.at.map((at) => BigInt(Math.round(Number(position) * at)));
              const through = BigInt(Math.round(Number(position) * action.through));
              for (const at of positions) {
                table.redact(at);
                redacted.add(at);
              }
              log.redact(positions, through);
            } else if (action.do === 'delete') {
              // What the tail has not read yet is nobody's to miss.
              table.delete(BigInt(Math.round(Number(log.head.position) * action.at)));
            } else if (action.do === 'restore') {
              for (const client of clients) client.isAstray = true;
              for (const client of clients) client.redacted.clear();
              redacted.clear();
              table.restore();
              position = BigInt(Math.round(Number(position) * action.at));
              log.restart({ position, id: String(position) }, 'unknown');
            } else {
              mock.timers.tick(LONGER_THAN_A_PAUSE);
            }
            await settle(batch);
          }

          // Everything heals: from here on all is answered at once, and all must come to rest at the head.
          blocking = false;
          const batch = append(Number.POSITIVE_INFINITY);
          await settle(batch);
          const isBusy = () => table.reads.length > 0 || clients.some((client) => !client.subscription?.parked);
          for (let round = 0; isBusy(); round += 1) {
            assert.ok(round < 1000, 'it never comes to rest');
            for (const read of table.reads.splice(0)) read.answer();
            for (const client of clients) client.drain();
            mock.timers.tick(LONGER_THAN_A_PAUSE);
            await settle();
          }
          for (const client of clients) {
            assert.ok(!client.isAstray, 'R4: a client was never told that it is at another table');
            assert.equal(original(client.got), expected(client, position));
          }
          assert.equal(budget.heldBytes, 0, 'what no client waits for is still counted');
          assert.ok(reported === 0 || failed > 0, 'an error out of nothing');
          for (const client of clients) client.subscription?.close();
        },
      ),
      { numRuns: 400 },
    );
  },
);

function setUp(windowBytes: number) {
  const table = createTable();
  const log = createLog({ id: '0', position: 0n }, { bytes: windowBytes });
  const budget = createBudget(BUDGET);
  const history = createHistory(table.archive, budget, { queue: createFairQueue(LIMIT), log });
  const pages = createWindowPages(log);
  const resets: string[] = [];
  return {
    table,
    resets,
    log,
    budget,
    history,
    commit(count: number, name = 'a') {
      const first = table.events.length + 1;
      const events = Array.from({ length: count }, (_, offset) => {
        const position = BigInt(first + offset);
        return {
          position,
          id: String(position),
          channel: name,
          frame: Buffer.from(`<${position}>`),
          kind: 'json' as const,
          createdAt: 0,
        };
      });
      table.events.push(...events);
      return events;
    },
    subscribe(
      after: bigint,
      options: {
        names?: string[];
        blocks?: () => boolean;
        onReadError?: (error: unknown) => void;
        exclusions?: PlacedExclusions;
      } = {},
    ) {
      const { names = ['a'], blocks = () => false, onReadError = () => {}, exclusions } = options;
      const client = createClient(channelFilter(names), after, blocks);
      client.subscription = subscribe({
        log,
        pages,
        history,
        budget,
        filter: client.filter,
        after: { position: after, id: String(after) },
        exclusions,
        onReset: (_reason, lastEventId) => {
          resets.push(lastEventId);
          client.resetTo(log.head.position);
        },
        sink: client.sink,
        onReadError,
      });
      return client;
    },
  };
}

test.serial('what is evicted while its page is on the way is neither lost nor sent twice', async (t) => {
  const { table, log, commit, subscribe: open } = setUp(1);
  log.append(commit(5));
  const client = open(0n);
  await turn();
  t.is(table.reads.length, 1);
  log.append(commit(5));
  table.reads.shift()?.answer();
  await turn();
  log.append(commit(1));
  for (; table.reads.length > 0; await turn()) table.reads.shift()?.answer();
  t.is(client.got, '<1><2><3><4><5><6><7><8><9><10><11>');
  t.true(client.subscription?.parked);
});

test.serial('R4: a client that has yet to get what was deleted is told, once, and goes on from the head', async (t) => {
  const { table, log, commit, subscribe: open, resets } = setUp(1);
  log.append(commit(5));
  const client = open(0n, { blocks: () => true });
  await turn();
  table.reads.shift()?.answer();
  await turn();
  t.is(client.got, '<1><2><3><4><5>');
  log.append(commit(5));
  table.delete(8n);
  client.drain();
  await turn();
  table.reads.shift()?.answer();
  await turn();
  t.deepEqual(resets, ['5']);
  log.append(commit(1));
  t.is(client.got, '<11>');
  log.append(commit(2));
  table.delete(12n);
  client.drain();
  await turn();
  table.reads.shift()?.answer();
  await turn();
  t.deepEqual(resets, ['5', '11']);
});

/**
 * A client that has taken a page at once, and is taking the second while the third has been read ahead. Time passes only where the
 * test says so.
 */
async function setUpAhead(t: ExecutionContext) {
  mock.timers.enable({ apis: ['setTimeout'] });
  const clock = mock.method(performance, 'now', () => 0);
  t.teardown(() => {
    mock.timers.reset();
    clock.mock.restore();
  });
  const scene = setUp(1);
  scene.log.append(scene.commit(10_000));
  const client = scene.subscribe(0n, { blocks: () => true });
  for (const takes of [false, true]) {
    if (takes) client.drain();
    await turn();
    scene.table.reads.shift()?.answer();
    await turn();
  }
  return { ...scene, client };
}

test.serial('the next page of a replay is read while a client that is fast takes this one', async (t) => {
  const { table, budget, history, client } = await setUpAhead(t);
  t.is(table.reads.length, 1);
  const held = budget.heldBytes;
  table.reads.shift()?.answer();
  await turn();
  t.true(budget.heldBytes > held, 'it counts as one that waits');
  const had = client.got.length;
  client.drain();
  await turn();
  t.true(client.got.length > had);
  t.is(history.stats.reads, 4);
  client.subscription?.close();
  t.is(budget.heldBytes, 0);
});

test.serial('R8: what was read ahead is not sent once events have been redacted', async (t) => {
  const { table, log, client } = await setUpAhead(t);
  table.reads.shift()?.answer();
  await turn();
  const had = client.got.length;
  log.redact([]);
  client.drain();
  await turn();
  t.is(client.got.length, had);
  t.is(table.reads.length, 1, 'it is read again');
  table.reads.shift()?.answer();
  await turn();
  t.true(client.got.length > had);
});

test.serial(
  'R8: who comes after a redaction does not share a read from before it, and later ones share theirs',
  async (t) => {
    const { table, log, history, commit, subscribe: open } = setUp(1);
    log.append(commit(5));
    // Every other read has what there was when it was asked.
    open(0n, { names: ['b'] });
    const early = open(0n);
    await turn();
    table.redact(2n);
    log.redact([2n]);
    const late = [open(0n), open(0n), open(1n)];
    await turn();
    t.is(history.stats.reads, 2, 'two connections');
    for (; table.reads.length > 0; await turn()) table.reads.shift()?.answer();
    t.is(early.got, '<1><2><3><4><5>');
    t.deepEqual(
      late.map(({ got }) => got),
      ['<1>[2><3><4><5>', '<1>[2><3><4><5>', '[2><3><4><5>'],
    );
    t.is(history.stats.reads, 3);
  },
);

test.serial(
  'R8: who has passed a redacted event goes on in memory, and who has not reads it from the table',
  async (t) => {
    const { table, log, commit, subscribe: open } = setUp(100_000);
    log.append([...commit(5), ...commit(3, 'b')]);
    table.redact(3n);
    log.redact([3n]);
    for (const [after, names, got] of [
      [3n, ['a'], '<4><5>'],
      [0n, ['b'], '<6><7><8>'],
      [2n, ['b'], '<6><7><8>'],
    ] as const) {
      t.is(open(after, { names: [...names] }).got, got);
    }
    const before = open(0n);
    const all = open(0n, { names: ['*'] });
    t.deepEqual([before.got, all.got], ['<1><2>', '<1><2>']);
    await turn();
    for (; table.reads.length > 0; await turn()) table.reads.shift()?.answer();
    t.deepEqual([before.got, all.got], ['<1><2>[3><4><5>', '<1><2>[3><4><5><6><7><8>']);
    t.true(before.subscription?.parked);
  },
);

test.serial('R5: a client that stalls costs the page that it does not take, and not the next', async (t) => {
  const { table, budget, client } = await setUpAhead(t);
  const held = budget.heldBytes;
  table.reads.shift()?.answer();
  await turn();
  mock.timers.tick(LONGER_THAN_A_PAUSE);
  t.is(budget.heldBytes, held);
  client.drain();
  await turn();
  t.is(table.reads.length, 1, 'it is read again');
});

test.serial('a cursor from a relay that is ahead waits for ours and gets nothing that it has had', (t) => {
  const { log, commit, subscribe: open } = setUp(100_000);
  const events = commit(5);
  log.append(events.slice(0, 2));
  const client = open(4n);
  log.append(events.slice(2, 4));
  t.is(client.got, '');
  t.true(client.subscription?.parked);
  log.append(events.slice(4));
  t.is(client.got, '<5>');
});

for (const windowBytes of [1, 100_000]) {
  test.serial(
    `R4: a client that waits for a relay to come to its event is reset where a failover has lost that, and not otherwise, with ${windowBytes} bytes of window`,
    async (t) => {
      const { table, log, resets, commit, subscribe: open } = setUp(windowBytes);
      const settle = async () => {
        for (let n = 0; n < 5; n += 1) {
          await turn();
          table.reads.shift()?.answer();
        }
      };
      const events = commit(6);
      log.append(events.slice(0, 2));
      const [kept, lost] = [open(3n), open(5n)];
      const has = (id: bigint) => id === 5n;
      const excluding = open(1n, { exclusions: { suffix: '!5', newestId: '5', through: 5n, has } });
      // What the relay has stays, and what follows from the fourth event on is lost.
      table.events.length = 3;
      const others = [4n, 5n, 6n].map((position) => ({
        position,
        id: `other ${position}`,
        channel: 'a',
        frame: Buffer.from(`<other ${position}>`),
        kind: 'json' as const,
        createdAt: 0,
      }));
      table.events.push(...others);
      log.append([...events.slice(2, 3), ...others]);
      await settle();
      t.deepEqual(resets.sort(), ['1', '5']);
      t.is(excluding.got, '');
      t.is(kept.got, '<other 4><other 5><other 6>');
      t.is(lost.got, '');
      t.true(kept.subscription?.parked && lost.subscription?.parked);
    },
  );
}

test.serial(
  'R5: what a client leaves out of a history that has nothing for it costs no read for each of a few events',
  async (t) => {
    const { table, log, commit, subscribe: open } = setUp(1);
    log.append(commit(5_000, 'other'));
    const exclusions = { suffix: `!${'2,'.repeat(900)}5000`, newestId: '5000', through: 5_000n, has: () => false };
    const client = open(1n, { names: ['quiet'], exclusions });
    let reads = 0;
    for (await turn(); table.reads.length > 0; await turn()) {
      reads += 1;
      table.reads.shift()?.answer();
    }
    t.true(client.subscription?.parked);
    t.true(reads <= 2, `${reads} reads`);
  },
);

test.serial('a read that fails is reported once and made again, with growing pauses', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { table, log, commit, subscribe: open } = setUp(1);
  log.append(commit(3));
  const errors: unknown[] = [];
  const client = open(0n, { onReadError: (error) => errors.push(error) });
  await turn();
  for (const longest of [200, 400, 800, 1600]) {
    table.reads.shift()?.fail();
    await turn();
    mock.timers.tick(longest / 2 - 1);
    t.is(table.reads.length, 0, 'too early');
    mock.timers.tick(longest / 2 + 1);
    await turn();
    t.is(table.reads.length, 1, `not made again within ${longest} ms`);
  }
  t.is(errors.length, 4);
  for (; table.reads.length > 0; await turn()) table.reads.shift()?.answer();
  t.is(client.got, '<1><2><3>');
});

test.serial('R5: a client that blocks in the turn of an append falls behind and then gets what it lacks', (t) => {
  const { log, commit, subscribe: open } = setUp(100_000);
  const client = open(0n, { blocks: () => true });
  log.append(commit(2));
  log.append(commit(2));
  t.is(client.got, '<1><2>');
  t.false(client.subscription?.parked);
  client.drain();
  t.is(client.got, '<1><2><3><4>');
});

test.serial('readers share a read that holds what follows their cursors, each from its own place', async (t) => {
  const { table, log, history, commit, subscribe: open } = setUp(1);
  log.append(commit(5));
  const first = open(1n);
  const crowd = Array.from({ length: 50 }, () => open(1n));
  const amid = [open(2n), open(3n)];
  await turn();
  t.is(table.reads.length, 1);
  const before = open(0n);
  await turn();
  t.is(table.reads.length, 2, 'what it lacks first is not in the read that is under way');
  for (; table.reads.length > 0; await turn()) table.reads.shift()?.answer();
  for (const client of [first, ...crowd]) t.is(client.got, '<2><3><4><5>');
  t.deepEqual(
    [...amid, before].map(({ got }) => got),
    ['<3><4><5>', '<4><5>', '<1><2><3><4><5>'],
  );
  t.like(history.stats, { reads: 2, shared: 52, events: 9 });
});

test.serial(
  'a reader that is far ahead of another, by the size of its pages, does not wait for its reads',
  async (t) => {
    const { table, log, commit, subscribe: open } = setUp(1);
    log.append(commit(4000));
    const behind = open(0n);
    await turn();
    table.reads.shift()?.answer();
    await turn();
    t.true(!behind.subscription?.parked && table.reads.length === 1, 'the second page of several is being read');
    const ahead = open(3990n);
    await turn();
    t.is(table.reads.length, 2);
    table.reads.pop()?.answer();
    await turn();
    t.true(ahead.got.endsWith('<4000>'));
    t.true(ahead.subscription?.parked);
  },
);

test.serial('a read that nobody waits for any more is not made', async (t) => {
  const { table, log, history, commit, subscribe: open } = setUp(1);
  log.append(commit(3));
  const clients = ['a', 'b', 'c'].map((name) => open(0n, { names: [name] }));
  await turn();
  t.is(table.reads.length, 2, 'two connections, so the third read has to wait');
  clients[2]?.subscription?.close();
  for (; table.reads.length > 0; await turn()) table.reads.shift()?.answer();
  t.is(history.stats.reads, 2);
});

test.serial('cursors that arrive together, or while others are looked up, are looked up in one read', async (t) => {
  const asked: string[][] = [];
  const answers: (() => void)[] = [];
  const { archive } = createTable();
  const history = createHistory(
    {
      ...archive,
      lookUpCursors: (ids) =>
        new Promise((resolve) => {
          asked.push([...ids]);
          answers.push(() => resolve(ids.map((id) => ({ kind: 'found', position: BigInt(id) * 10n }))));
        }),
    },
    createBudget(BUDGET),
    { queue: createFairQueue(LIMIT) },
  );
  const first = ['1', '2', '1'].map((id) =>
    history.lookUpCursor(
      id,
      createFlow(() => true),
    ),
  );
  await turn();
  const second = ['3', '4'].map((id) =>
    history.lookUpCursor(
      id,
      createFlow(() => true),
    ),
  );
  await turn();
  t.deepEqual(asked, [['1', '2']]);
  answers[0]?.();
  await turn();
  t.deepEqual(asked[1], ['3', '4']);
  answers[1]?.();
  t.deepEqual(
    await Promise.all([...first, ...second]),
    [10n, 20n, 10n, 30n, 40n].map((position) => ({ kind: 'found', position })),
  );
  t.is(history.stats.lookups, 2);
});

test.serial(
  'a resume looks at so many events of the window in a turn of the event loop, and a crowd of them at no more together',
  async (t) => {
    const held = 50_000;
    const { log, commit, subscribe: open } = setUp(100_000_000);
    log.append(commit(held, 'other'));
    let looked = 0;
    let most = 0;
    const { read } = log;
    log.read = (...args) => {
      const page = read(...args);
      looked += page.looked;
      return page;
    };
    const names = (reader: number) => Array.from({ length: 100 }, (_, n) => `none${n}:${reader}:*`);
    const crowd = Array.from({ length: 40 }, (_, reader) => open(0n, { names: names(reader) }));
    const newcomer = open(BigInt(held - 10), { names: ['other'] });
    let roundsOfNewcomer = 0;
    for (let rounds = 1; crowd.some(({ subscription }) => !subscription?.parked); rounds += 1) {
      most = Math.max(most, looked);
      looked = 0;
      if (!newcomer.subscription?.parked) roundsOfNewcomer = rounds;
      // What comes and goes meanwhile is walked over or not there any more.
      log.append([]);
      await turn();
    }
    t.true(most <= 2 * LOOKS_PER_TURN, `${most} events in a turn`);
    t.true(most >= LOOKS_PER_SLICE);
    t.true(newcomer.got.endsWith(`<${held}>`));
    t.true(roundsOfNewcomer <= (crowd.length * LOOKS_PER_SLICE) / LOOKS_PER_TURN + 1, 'it waits for one slice of each');
  },
);

test.serial(
  'a crowd with one prefix looks at each event of the window once, wherever its cursors stand, and not once each',
  async (t) => {
    const held = 20_000;
    const { log, commit, subscribe: open } = setUp(100_000_000);
    const events = commit(held, 'other').map((event) =>
      event.position % 1000n === 7n ? { ...event, channel: 'mine:1' } : event,
    );
    log.append(events);
    let looked = 0;
    const { read } = log;
    log.read = (...args) => {
      const page = read(...args);
      looked += page.looked;
      return page;
    };
    const size = 50;
    const crowd = Array.from({ length: size }, (_, n) => open(BigInt(n * 5), { names: ['mine:*'] }));
    while (crowd.some(({ subscription }) => !subscription?.parked)) await turn();
    for (const { got, after } of crowd) {
      const expected = events.filter(({ channel, position }) => channel === 'mine:1' && position > after);
      t.is(got, expected.map(({ frame }) => frame.toString()).join(''));
    }
    t.true(looked <= held + size * LOOKS_PER_SLICE, `${looked} looks of ${size} readers at ${held} events`);

    // What is redacted meanwhile is in no page that is kept.
    log.redact([1007n]);
    const late = open(0n, { names: ['mine:*'] });
    await turn();
    t.is(late.got, '<7>');
    t.false(late.subscription?.parked, 'the next is read from the table');
  },
);
