/**
 * Polls, where something happens while the table is read for one: over a log, and a table that says when it is asked.
 */
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { channelFilter, matches } from '../src/event/channel-filter.js';
import type { LogEvent } from '../src/event/event.js';
import { createLog } from '../src/feed/log.js';
import type { Archive, ArchivePage, CursorLookup } from '../src/outbox/archive.js';
import { batchOf, NO_EVENTS } from '../src/outbox/frame-batch.js';
import { createFairQueue } from '../src/stream/fair-queue.js';
import { createHistory } from '../src/stream/history.js';
import { createBudget } from '../src/stream/page-budget.js';
import { createPolls, type PollAnswer } from '../src/stream/polls.js';

/** So small that the budget hands out nothing but its smallest page, of 8 KiB. */
const BUDGET = 16 * 8192;
/** More reads than any of these needs: a poll that makes as many comes to no end. */
const MOST_READS = 20;
const LIMIT = 100;

/** @param onRead is called while the table is read, after its snapshot was taken: with how many reads there were. */
function setUp({
  onRead = () => undefined,
  windowBytes = 1e6,
}: {
  onRead?: (n: number) => void;
  windowBytes?: number;
}) {
  const log = createLog({ id: '0', position: 0n }, { bytes: windowBytes });
  let table: LogEvent[] = [];
  let floor = 0n;
  let reads = 0;
  const archive: Archive = {
    async page(filter, after, head, bytes, _signal, limit = LIMIT): Promise<ArchivePage> {
      reads += 1;
      if (reads > MOST_READS) throw new Error('it asks again and again');
      const found = table.filter((e) => e.position > after && e.position <= head && matches(filter, e.channel));
      const page = found.slice(0, limit);
      const now = floor;
      await turn();
      onRead(reads);
      const needs = page[0]?.frame.length ?? 0;
      if (needs > bytes) return { events: NO_EVENTS, position: after, floor: now, needs };
      const last = page.at(-1);
      const pieces = page.map(({ id, position, frame }) => ({ id, position, bytes: frame.length }));
      const position = found.length > limit && last ? last.position : head > after ? head : after;
      const frames = Buffer.concat(page.map(({ frame }) => frame));
      return { events: batchOf(frames, page.length, pieces.at(-1), () => pieces), position, floor: now };
    },
    lookUpCursors: (ids) =>
      Promise.resolve(
        ids.map((id): CursorLookup => {
          const event = table.find((known) => known.id === id);
          return event
            ? { kind: 'found', position: event.position }
            : { kind: id === '0' ? 'found' : 'unknown', position: 0n };
        }),
      ),
    since: () => Promise.reject(new Error('not used here')),
  };
  const budget = createBudget(BUDGET, { patienceMs: 1 });
  const queue = createFairQueue({ allowed: 2, observe: () => undefined });
  const history = createHistory(archive, budget, { queue, log });
  const polls = createPolls({
    log,
    history,
    envelopes: history,
    budget,
    tail: { isReading: false, upToDate: () => Promise.resolve() },
  });

  const place = (channel: string, position: bigint, id = String(position), size = 1): LogEvent => {
    const data = 'x'.repeat(size);
    const frame = Buffer.from(`id: ${id}\ndata: {"id":"${id}","channel":"${channel}","data":"${data}"}\n\n`);
    return { id, position, channel, frame, kind: 'json', createdAt: 0 };
  };
  return {
    log,
    polls,
    budget,
    place,
    get reads() {
      return reads;
    },
    /** Commits an event, of which the log hears unless it is `unheard`. */
    commit(channel: string, position = (table.at(-1)?.position ?? 0n) + 1n, { unheard = false, size = 1 } = {}) {
      const event = place(channel, position, String(position), size);
      table.push(event);
      if (!unheard) log.append([event]);
    },
    delete(through: bigint) {
      floor = through;
      table = table.filter(({ position }) => position > through);
    },
    /** A failover, to a table with these events, of which the log has heard of the first. */
    replace(first: LogEvent, ...unheard: LogEvent[]) {
      table = [first, ...unheard];
      log.restart({ id: first.id, position: first.position }, 'unknown');
    },
    poll: (after: string, waitMs = 0, channel = 'a', limit = LIMIT) =>
      polls.poll({
        filter: channelFilter([channel]),
        cursor: { kind: 'id', id: after },
        limit,
        waitMs,
        left: new AbortController().signal,
      }),
  };
}

const idsOf = ({ events }: PollAnswer) => events.map((event) => (JSON.parse(String(event)) as { id: string }).id);

test('who has nothing to get is answered while others publish all the time', async (t) => {
  for (const channel of ['a', 'u:*']) {
    const relay = setUp({ onRead: () => relay.commit('other') });
    relay.commit('other');
    t.deepEqual(await relay.poll('0', 0, channel), { events: [], cursor: relay.log.head.id, more: false });
  }
});

test('who waits has the table read for no event of others, and for its own once', async (t) => {
  const relay = setUp({});
  for (let n = 0; n < 50; n += 1) relay.commit('other');
  const waiting = relay.poll('1', 60_000);
  await turn();
  await turn();
  for (let n = 0; n < 50; n += 1) {
    relay.commit('other');
    await turn();
  }
  t.is(relay.reads, 0);
  relay.commit('a');
  const answer = await waiting;
  t.deepEqual([idsOf(answer), answer.cursor, answer.more, relay.reads], [['101'], '101', false, 1]);
});

test('an event that was deleted before the table was read for it is a reset, from the cursor of the client', async (t) => {
  const relay = setUp({});
  relay.commit('a');
  relay.commit('a');
  relay.commit('a');
  relay.delete(2n);
  const reset = { reason: 'expired', lastEventId: '1' } as const;
  t.deepEqual(await relay.poll('1'), { events: [], cursor: '3', more: false, reset });
});

test('what was read of a table that was replaced meanwhile is given to nobody', async (t) => {
  const relay = setUp({ onRead: (n) => n === 1 && relay.replace(relay.place('a', 1n)) });
  relay.commit('a');
  relay.commit('a');
  const answer = await relay.poll('1');
  t.deepEqual([idsOf(answer), answer.reset, answer.cursor], [[], { reason: 'unknown', lastEventId: '1' }, '1']);
});

test('who is ahead of a table, and of that which takes its place, waits on', async (t) => {
  const relay = setUp({});
  relay.commit('a', 1n);
  relay.commit('a', 5n, { unheard: true });
  const waiting = relay.poll('5', 60_000);
  await turn();
  relay.replace(relay.place('a', 6n), relay.place('a', 9n, '5'));
  for (let n = 0; n < 100; n += 1) await turn();
  t.is(relay.reads, 0);
  relay.log.append([relay.place('a', 9n, '5')]);
  relay.commit('a', 10n);
  t.deepEqual(idsOf(await waiting), ['10']);
});

test('who wants few events gets no more, though others read the same with more', async (t) => {
  const relay = setUp({});
  for (let n = 0; n < 5; n += 1) relay.commit('a');
  const answers = await Promise.all([relay.poll('1'), relay.poll('1', 0, 'a', 1), relay.poll('1', 0, 'a', 2)]);
  t.deepEqual(answers.map(idsOf), [['2', '3', '4', '5'], ['2'], ['2', '3']]);
});

test('what a cursor leaves out ends with the newest of it, though others read on', async (t) => {
  const relay = setUp({});
  for (let n = 0; n < 5; n += 1) relay.commit('a');
  const answers = await Promise.all([relay.poll('1'), relay.poll('1!2-5,3')]);
  t.deepEqual(answers.map(idsOf), [
    ['2', '3', '4', '5'],
    ['4', '5'],
  ]);
});

test('R5: who takes an answer of a large event slowly is dropped where another waits for room, and gives up all of it', async (t) => {
  const relay = setUp({});
  relay.commit('other');
  relay.commit('a', 2n, { size: 20_000 });
  const answer = await relay.poll('1');
  const body = Buffer.concat(answer.events);
  const dropped = new Promise<void>((drop) => {
    const letGo = relay.polls.hold(answer, body, () => {
      letGo();
      drop();
    });
  });
  // The budget's own timer keeps no process alive.
  const alive = setInterval(() => undefined, 1000);
  t.teardown(() => clearInterval(alive));
  // By then the read has let go of it.
  await turn();
  t.true(relay.budget.heldBytes >= body.length);
  const admitted = new Promise((enter) => relay.budget.whenRoom(BUDGET, enter));
  await dropped;
  await admitted;
  t.is(relay.budget.heldBytes, 0);
});
