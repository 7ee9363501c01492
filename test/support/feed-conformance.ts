/**
 * What every feed keeps to, whatever is behind it. Reads are made again where they fail, as every reader has to.
 */
import test, { type ExecutionContext } from 'ava';
import type { Cursor, FreshEvent } from '../../src/event/event.js';
import type { Feed, FeedWatcher } from '../../src/outbox/feed.js';

/** A feed, and those who change what it is fed from. */
export interface FeedStage {
  readonly feed: Feed;
  /** Commits an event to each channel, in one transaction; resolves with their cursors. */
  publish(channels: readonly string[]): Promise<readonly Cursor[]>;
  /** Begins to commit an event to each channel: it has its position, and cannot be seen. */
  begin(channels: readonly string[]): Promise<StagedCommit>;
  redact(position: bigint): Promise<void>;
  deleteThrough(position: bigint): Promise<void>;
  /** Puts back what was there when the event at `position` was the newest. */
  restore(position: bigint): Promise<void>;
  /**
   * Whether it says that a commit under way holds back others, so that whoever reads looks again.
   * False: then a wake-up comes when it is over. Default: true.
   */
  readonly tellsOfHeld?: boolean;
}

/** A commit under way. */
export interface StagedCommit {
  succeed(): Promise<void>;
  fail(): Promise<void>;
}

/** Most failures in a row before a read counts as one that never works. */
const MOST_FAILURES = 50;

/** Time to wait for a wake-up, any of which may be lost, before the next event is published. */
const AGAIN_MS = 50;

/** Reads until it works. */
export async function patiently<T>(read: () => Promise<T>): Promise<T> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await read();
    } catch (error) {
      if (failures === MOST_FAILURES) throw error;
    }
  }
}

/** Declares the suite. */
export function declareFeedSuite(name: string, make: (t: ExecutionContext) => Promise<FeedStage>): void {
  async function readAll(feed: Feed, after: bigint): Promise<FreshEvent[]> {
    const all: FreshEvent[] = [];
    for (let [at, more] = [after, true]; more;) {
      const page = await patiently(() => feed.readNew(at));
      all.push(...page.events);
      at = page.through;
      ({ more } = page);
    }
    return all;
  }

  test(`${name}: the head is the newest event, and 0 before the first`, async (t) => {
    const { feed, publish, deleteThrough } = await make(t);
    t.deepEqual(await patiently(() => feed.head()), { id: '0', position: 0n });
    const last = (await publish(['a', 'b', 'a'])).at(-1);
    t.deepEqual<Cursor | undefined, Cursor | undefined>(await patiently(() => feed.head()), last);
    await deleteThrough(last?.position ?? 0n);
    t.deepEqual(await patiently(() => feed.head()), last, 'of what was deleted the newest');
  });

  test(`${name}: from every position what follows is read once, in order and without a gap`, async (t) => {
    const { feed, publish } = await make(t);
    const events: Cursor[] = [];
    for (const count of [1, 40, 3, 1])
      events.push(...(await publish(Array.from({ length: count }, (_, n) => `c${n}`))));
    for (const after of [0n, ...events.map(({ position }) => position)]) {
      const owed = events.filter(({ position }) => position > after);
      t.deepEqual(
        (await readAll(feed, after)).map(({ id, position }) => ({ id, position })),
        owed,
        `after ${after}`,
      );
    }
    const page = await patiently(() => feed.readNew(0n));
    t.true(page.events.every(({ position }) => position <= page.through));
    t.true(
      (await readAll(feed, 0n)).every(
        ({ channel, frame, createdAt }) => channel !== '' && frame.length > 0 && createdAt > 0,
      ),
    );
  });

  test(`${name}: what follows a commit under way waits for it, and for no other`, async (t) => {
    const { feed, publish, begin, tellsOfHeld = true } = await make(t);
    const names = (events: readonly FreshEvent[]) => events.map(({ channel }) => channel).join(' ');
    await publish(['a']);
    const [first, second] = [await begin(['b']), await begin(['c', 'd'])];
    const [last] = await publish(['e']);
    t.is(names(await readAll(feed, 0n)), 'a');
    const head = await patiently(() => feed.head());
    t.true(head.position < (last?.position ?? 0n), 'the head is not above a commit under way');
    t.true((await patiently(() => feed.nearHead({ events: 1, bytes: 1_000_000 }))).position <= head.position);
    for (let page = await patiently(() => feed.readNew(0n)); page.more || (tellsOfHeld && !page.held);) {
      page = await patiently(() => feed.readNew(page.through));
    }
    await first.succeed();
    t.is(names(await readAll(feed, head.position)), 'b');
    await second.fail();
    t.is(names(await readAll(feed, 0n)), 'a b e', 'a gap that nobody fills holds up nobody');
    const after = await begin(['f']);
    t.is(names(await readAll(feed, head.position)), 'b e');
    await after.succeed();
    t.is(names(await readAll(feed, head.position)), 'b e f');
  });

  test(`${name}: a cursor near the head leaves out no more than was asked for`, async (t) => {
    const { feed, publish, deleteThrough } = await make(t);
    const events = await publish(Array.from({ length: 20 }, () => 'a'));
    const large = { events: 5, bytes: 1_000_000 };
    const { position } = await patiently(() => feed.nearHead(large));
    const following = events.filter((event) => event.position > position).length;
    t.true(following <= large.events && following >= large.events - 1, `${following}`);
    t.deepEqual(await patiently(() => feed.nearHead({ events: 5, bytes: 0 })), events.at(-1));
    await deleteThrough(events[17]?.position ?? 0n);
    t.true((await patiently(() => feed.nearHead(large))).position >= (events[17]?.position ?? 0n));
  });

  test(`${name}: every redaction and deletion is in the answers, one after another`, async (t) => {
    const { feed, publish, redact, deleteThrough } = await make(t);
    const events = await publish(Array.from({ length: 12 }, () => 'a'));
    const at = (index: number) => events[index]?.position ?? 0n;
    await redact(at(3));
    let state: string | undefined;
    const told = async () => {
      const changes = await patiently(() => feed.changesSince(state, 0n));
      ({ state } = changes);
      t.false(changes.isFloorMissing);
      return changes;
    };
    const tells = (position: bigint, { redacted, redactedThrough }: Awaited<ReturnType<typeof told>>) =>
      redacted.includes(position) || position <= redactedThrough;
    t.true(tells(at(3), await told()), 'what ever was');
    t.false((await told()).hasRedacted, 'nothing twice');
    await redact(at(5));
    await redact(at(8));
    await publish(['a']);
    const both = await told();
    t.true(both.hasRedacted && tells(at(5), both) && tells(at(8), both));
    await redact(at(6));
    await deleteThrough(at(1));
    const last = await told();
    t.true(tells(at(6), last));
    t.deepEqual(last.floor, events[1]);
    await redact(at(9));
    const above = await patiently(() => feed.changesSince(state, at(9)));
    t.true(above.hasRedacted, 'of what is not named it is told');
    t.false(above.redacted.includes(at(9)));
  });

  test(`${name}: the floor says that events were deleted before they were read`, async (t) => {
    const { feed, publish, deleteThrough } = await make(t);
    const events = await publish(Array.from({ length: 6 }, () => 'a'));
    await deleteThrough(events[3]?.position ?? 0n);
    const page = await patiently(() => feed.readNew(events[1]?.position ?? 0n));
    t.deepEqual<Cursor | undefined, Cursor | undefined>(page.floor, events[3]);
    t.deepEqual(
      (await readAll(feed, page.floor.position)).map(({ id }) => id),
      events.slice(4).map(({ id }) => id),
    );
  });

  test(`${name}: the history is the same until it is restored, whatever is deleted`, async (t) => {
    const { feed, publish, deleteThrough, restore } = await make(t);
    await publish(Array.from({ length: 6 }, () => 'a'));
    const read = await readAll(feed, 0n);
    const isSame = (event: FreshEvent | undefined) =>
      patiently(() => feed.isSameHistory(event ?? { id: '0', position: 0n, createdAt: undefined }));
    for (const event of read) t.true(await isSame(event));
    t.true(await isSame(undefined), 'who has read nothing');
    await deleteThrough(read[2]?.position ?? 0n);
    for (const event of read) t.true(await isSame(event));
    await restore(read[3]?.position ?? 0n);
    t.true(await isSame(read[3]));
    t.false(await isSame(read[5]), 'it is gone');
    await publish(['a', 'a', 'a']);
    t.false(await isSame(read[5]), 'another stands where it stood');
    t.true(await isSame((await readAll(feed, read[3]?.position ?? 0n)).at(-1)));
  });

  test(`${name}: who watches is told to look at first, and of events or that nothing arrives`, async (t) => {
    const { feed, publish } = await make(t);
    const told: string[] = [];
    let heard = (): void => undefined;
    const hear = (what: string) => () => {
      told.push(what);
      heard();
    };
    const watcher: FeedWatcher = {
      wake: hear('wake'),
      changed: hear('changed'),
      recheck: hear('recheck'),
      othersAwake: hear('awake'),
      othersAsleep: hear('asleep'),
      notificationsWork: (work) => hear(work ? 'work' : 'broken')(),
    };
    const watch = await feed.watch(watcher);
    t.true(told.includes('recheck') && told.includes('changed'), told.join());
    t.is(watch.trouble, undefined);
    // Any may be lost, and so not all.
    while (!told.includes('wake') && !told.includes('broken')) {
      const next = new Promise<void>((resolve) => (heard = resolve));
      await publish(['a']);
      await Promise.race([next, new Promise((resolve) => setTimeout(resolve, AGAIN_MS))]);
    }
    await watch.stop();
    await watch.stop();
    const before = told.length;
    await publish(['a']);
    await patiently(() => feed.head());
    t.is(told.length, before, 'after it has been stopped');
  });
}
