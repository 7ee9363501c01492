/**
 * What every archive keeps to, whatever is behind it. Reads are made again where they fail, as every reader has to.
 */
import test, { type ExecutionContext } from 'ava';
import { channelFilter, matches } from '../../src/event/channel-filter.js';
import type { Cursor } from '../../src/event/event.js';
import type { Archive } from '../../src/outbox/archive.js';
import { searchSince } from '../../src/outbox/since.js';
import { patiently } from './feed-conformance.js';

export interface StoredEvent extends Cursor {
  readonly channel: string;
  /** In ms since 1970. */
  readonly createdAt: number;
}

/** An archive, and those who change what is in it. */
export interface ArchiveStage {
  readonly archive: Archive;
  /** Commits an event to each channel, of so many bytes or a little more; resolves with what is in the archive then. */
  publish(channels: readonly string[], bytes?: number): Promise<readonly StoredEvent[]>;
  deleteThrough(position: bigint): Promise<void>;
}

const FILTERS = [['a'], ['a', 'none'], ['u:*'], ['*'], ['a', 'b', 'u:1', 'u:2', 'none'], ['u:1', 'b:*']].map(
  channelFilter,
);
const PAGE_BYTES = 400;

/** Declares the suite. */
export function declareArchiveSuite(name: string, make: (t: ExecutionContext) => Promise<ArchiveStage>): void {
  test(`${name}: page by page each matching event comes once, in order, from every cursor`, async (t) => {
    const { archive, publish } = await make(t);
    const all = await publish(
      Array.from({ length: 60 }, (_, n) => ['a', 'b', 'u:1', 'u:2'][n % 4] ?? ''),
      30,
    );
    const head = all[50]?.position ?? 0n;
    for (const filter of FILTERS) {
      for (const from of [0n, all[7]?.position ?? 0n, all[49]?.position ?? 0n]) {
        const ids: string[] = [];
        for (let after = from; after < head;) {
          const page = await patiently(() => archive.page(filter, after, head, PAGE_BYTES));
          t.is(page.needs, undefined);
          t.true(page.position > after, 'every page moves on');
          t.is(page.floor, 0n);
          ids.push(...idsOf(all, page.events.after(after).length, after, filter));
          t.is(page.events.last?.id, page.events.length === 0 ? undefined : ids.at(-1));
          after = page.position;
        }
        t.deepEqual(
          ids,
          all
            .filter(({ position, channel }) => position > from && position <= head && matches(filter, channel))
            .map(({ id }) => id),
          filter.key,
        );
      }
    }
  });

  test(`${name}: of an event that is larger than its page is told how much it needs, and then it comes`, async (t) => {
    const { archive, publish } = await make(t);
    const [event] = await publish(['a'], 3000);
    const filter = channelFilter(['a']);
    const head = event?.position ?? 0n;
    const first = await patiently(() => archive.page(filter, 0n, head, PAGE_BYTES));
    t.is(first.events.length, 0);
    const needs = first.needs ?? 0;
    t.true(needs >= 3000 - PAGE_BYTES);
    const page = await patiently(() => archive.page(filter, 0n, head, needs));
    t.deepEqual([page.events.last?.id, page.position, page.needs], [event?.id, head, undefined]);
  });

  test(`${name}: the floor says that what followed a cursor may have been deleted`, async (t) => {
    const { archive, publish, deleteThrough } = await make(t);
    const all = await publish(Array.from({ length: 6 }, () => 'a'));
    const floor = all[2]?.position ?? 0n;
    await deleteThrough(floor);
    const page = await patiently(() => archive.page(channelFilter(['a']), 0n, all[5]?.position ?? 0n, 10_000));
    t.is(page.floor, floor);
  });

  test(`${name}: cursors are found, expired or unknown, each in its place`, async (t) => {
    const { archive, publish, deleteThrough } = await make(t);
    t.deepEqual(await patiently(() => archive.lookUpCursors(['0', '1'])), [
      { kind: 'found', position: 0n },
      { kind: 'unknown' },
    ]);
    const all = await publish(Array.from({ length: 6 }, () => 'a'));
    const ids = all.map(({ id }) => id);
    await deleteThrough(all[2]?.position ?? 0n);
    const floor = { id: all[2]?.id ?? '', position: all[2]?.position ?? 0n };
    const beyond = String(BigInt(ids[5] ?? 0) + 100n);
    t.deepEqual(await patiently(() => archive.lookUpCursors([beyond, ...ids, 'x', '0'])), [
      { kind: 'unknown' },
      { kind: 'expired', floor },
      { kind: 'expired', floor },
      ...all.slice(2).map(({ position }) => ({ kind: 'found', position }) as const),
      { kind: 'unknown' },
      { kind: 'expired', floor },
    ]);
    t.deepEqual(await patiently(() => archive.lookUpCursors([])), []);
  });

  test(`${name}: a time leads to what stands before the first event of then or later`, async (t) => {
    const { archive, publish } = await make(t);
    const all: readonly StoredEvent[] = await publish(['a']).then(() => publish(['a', 'b']));
    const last = all.at(-1);
    async function since(time: number, head = last?.position ?? 0n): Promise<string> {
      for (let search = searchSince(new Date(time), head); ;) {
        const step = search;
        const found = await patiently(() => archive.since(step));
        if (!('steps' in found)) return found.id;
        search = found;
      }
    }
    t.is(await since(0), '0');
    t.is(await since((last?.createdAt ?? 0) + 60_000), last?.id ?? '');
    const second = all.find(({ createdAt }) => createdAt > (all[0]?.createdAt ?? 0));
    t.is(await since(Math.ceil(second?.createdAt ?? 0)), before(all, Math.ceil(second?.createdAt ?? 0)));
    const [first] = all;
    t.is(
      await since(Math.ceil(second?.createdAt ?? 0), first?.position),
      first?.id ?? '',
      'what is above the head is not there',
    );
  });

  test(`${name}: a read whose signal fires rejects`, async (t) => {
    const { archive, publish } = await make(t);
    await publish(['a']);
    const reason = new Error('the client has left');
    for (const read of [
      (signal: AbortSignal) => archive.page(channelFilter(['*']), 0n, 1n, 1000, signal),
      (signal: AbortSignal) => archive.lookUpCursors(['1'], signal),
      (signal: AbortSignal) => archive.since(searchSince(new Date(0), 1n), signal),
    ]) {
      await t.throwsAsync(read(AbortSignal.abort(reason)));
    }
    t.is(
      (await patiently(() => archive.page(channelFilter(['*']), 0n, 1n, 1000))).events.length,
      1,
      'and nothing else',
    );
  });
}

/** The next so many matching events after a position. */
function idsOf(
  all: readonly StoredEvent[],
  count: number,
  after: bigint,
  filter: ReturnType<typeof channelFilter>,
): string[] {
  return all
    .filter(({ position, channel }) => position > after && matches(filter, channel))
    .slice(0, count)
    .map(({ id }) => id);
}

/** The event before the first of then or later. */
function before(all: readonly StoredEvent[], time: number): string {
  const first = all.findIndex(({ createdAt }) => createdAt >= time);
  return first < 0 ? (all.at(-1)?.id ?? '0') : (all[first - 1]?.id ?? '0');
}
