/**
 * Tail, wake-ups, log, history and subscriptions on a feed and an archive that do all that they may: whatever that is, each client
 * gets exactly the order.
 */
import assert from 'node:assert/strict';
import { mock } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import { pino } from 'pino';
import { channelFilter, matches, type ChannelFilter } from '../src/event/channel-filter.js';
import type { FreshEvent } from '../src/event/event.js';
import { createLog } from '../src/feed/log.js';
import { startTail } from '../src/feed/tail.js';
import { startWakeups } from '../src/feed/wakeups.js';
import { createFairQueue, createFlow } from '../src/stream/fair-queue.js';
import { createHistory } from '../src/stream/history.js';
import { createReadLimit } from '../src/stream/read-limit.js';
import { createBudget } from '../src/stream/page-budget.js';
import { resolve, type CursorRequest } from '../src/stream/resume-point.js';
import { subscribe, type Subscription } from '../src/stream/subscription.js';
import {
  createMemoryArchive,
  createMemoryFeed,
  createMemoryOutbox,
  type Commit,
  type Faults,
} from './support/memory-outbox.js';
import { holdsAsync } from './support/property.js';

/** So small that the budget hands out nothing but its smallest page. */
const BUDGET = 16 * 8192;
const LARGEST_EVENT = 3000;
const SWEEP_SECONDS = 5;
const POLL_SECONDS = 0.5;
/** Longer than any pause before a failed read is tried again. */
const LONGER_THAN_A_PAUSE_MS = 6000;
/** Rounds of answers, sweeps and drained sockets in which all has to come to rest. */
const MOST_ROUNDS = 300;

type Step =
  | { do: 'publish'; channels: string[]; size: number }
  | { do: 'begin'; channels: string[]; size: number }
  | { do: 'finish'; commit: number; succeeds: boolean }
  | { do: 'connect'; filter: ChannelFilter; back: number | undefined }
  | { do: 'answer'; read: number }
  | { do: 'fail'; read: number }
  | { do: 'answer all'; rounds: number }
  | { do: 'deliver wake-up'; wakeUp: number }
  | { do: 'notifications'; work: boolean }
  | { do: 'drain'; client: number }
  | { do: 'leave'; client: number }
  | { do: 'redact'; back: number }
  | { do: 'delete'; back: number }
  | { do: 'restore'; back: number }
  | { do: 'tick'; milliseconds: number };

/** How many events before the newest. */
const back = fc.nat(10);
const index = fc.nat(3);
const published = {
  channels: fc.array(fc.constantFrom('a', 'b', 'u:1', 'u:2'), { minLength: 1, maxLength: 10 }),
  size: fc.integer({ min: 30, max: LARGEST_EVENT }),
};
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('publish' as const), ...published }) },
  fc.record({ do: fc.constant('begin' as const), ...published }),
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('finish' as const), commit: index, succeeds: fc.boolean() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('connect' as const),
      filter: fc.constantFrom(['a'], ['a', 'b'], ['u:*'], ['*'], ['u:1', 'b']).map(channelFilter),
      back: fc.option(fc.oneof(back, fc.nat(100)), { nil: undefined }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('answer' as const), read: index }) },
  fc.record({ do: fc.constant('fail' as const), read: index }),
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('answer all' as const), rounds: fc.integer({ min: 1, max: 8 }) }),
  },
  fc.record({ do: fc.constant('deliver wake-up' as const), wakeUp: index }),
  fc.record({ do: fc.constant('notifications' as const), work: fc.boolean() }),
  fc.record({ do: fc.constant('drain' as const), client: index }),
  fc.record({ do: fc.constant('leave' as const), client: index }),
  { weight: 2, arbitrary: fc.record({ do: fc.constant('redact' as const), back }) },
  fc.record({ do: fc.constant('delete' as const), back: fc.nat(50) }),
  fc.record({ do: fc.constant('restore' as const), back }),
  fc.record({ do: fc.constant('tick' as const), milliseconds: fc.constantFrom(60, 600, 1100, LONGER_THAN_A_PAUSE_MS) }),
);

/** Reads that are answered when the steps say so, and wake-ups that are passed on when they say so, if at all. */
function createChosenFaults(dice: () => number) {
  const reads: { answer: () => void; fail: () => void }[] = [];
  const wakeUps: (() => void)[] = [];
  let isHealed = false;
  const faults: Faults = {
    read: (answer, signal) =>
      new Promise((done, failed) => {
        signal?.throwIfAborted();
        signal?.addEventListener('abort', () => failed(signal.reason as Error));
        const early = dice() % 2 === 0 ? { answer: answer() } : undefined;
        reads.push({
          answer: () => done(early ? early.answer : answer()),
          fail: () => failed(new Error('the connection was lost')),
        });
      }),
    cut: (most) => (isHealed ? most : Math.min(most, 1 + dice())),
    saysMore: () => !isHealed && dice() === 0,
    pass(wakeUp) {
      if (isHealed) return;
      const fate = dice();
      if (fate === 1) wakeUp();
      if (fate >= 2) wakeUps.push(...Array.from({ length: fate - 1 }, () => wakeUp));
    },
  };
  return {
    faults,
    reads,
    wakeUps,
    /** From here on wake-ups are all lost, and pages are whole. */
    heal() {
      isHealed = true;
      wakeUps.length = 0;
    },
  };
}

class Client {
  readonly filter: ChannelFilter;
  /** What had been redacted when it came, by id. */
  readonly redacted: ReadonlySet<string>;
  /** Position up to which it has all that it wants. */
  passed = 0n;
  /** How often the table had been restored when that was last known to be a position in it. */
  restores = 0;
  isBlocked = false;
  hasLeft = false;
  subscription: Subscription | undefined;

  constructor(filter: ChannelFilter, redacted: ReadonlySet<string>) {
    this.filter = filter;
    this.redacted = redacted;
  }
}

test.serial(
  'R3, R4, R6, R8: whatever feed and archive do, a client gets exactly what follows its cursor, in order, once, or a reset',
  async (t) => {
    t.timeout(180_000);
    mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
    t.teardown(() => mock.timers.reset());
    const logger = pino({ level: 'silent' });
    const seen = { events: 0, resets: 0, replays: 0, restarts: 0 };
    await holdsAsync(
      t,
      fc.asyncProperty(
        fc.array(step, { maxLength: 150, size: 'max' }),
        fc.infiniteStream(fc.nat(3)),
        fc.constantFrom(1, 3000, 20_000),
        async (steps, stream, windowBytes) => {
          const dice = () => stream.next().value as number;
          const { faults, reads, wakeUps, heal } = createChosenFaults(dice);
          const outbox = createMemoryOutbox(faults);
          let isHealed = false;

          /** All that was ever committed to the table, and to the table that the log has. */
          let table: FreshEvent[] = [];
          let logged = table;
          const byId = new Map<string, FreshEvent>();
          const redacted = new Set<string>();
          let restores = 0;
          /** After how many of them the tail has last found out which table there is. */
          let verified = 0;
          /** After how many of them the log began. */
          let logBegan = 0;
          let headAsked = 0;
          /** Whoever calls a client may take what it throws for a failed read. */
          const failures: unknown[] = [];

          const feed = createMemoryFeed(outbox, faults);
          const archive = createMemoryArchive(outbox, {
            ...faults,
            // Until the tail knows which table there is it is away, as behind an address that leads to a server in recovery.
            async read(answer, signal) {
              const asked = restores;
              const found = verified === restores ? await faults.read(answer, signal) : undefined;
              if (found === undefined || asked !== restores) throw new Error('it is away');
              return found;
            },
          });
          const log = createLog({ id: '0', position: 0n }, { bytes: windowBytes });
          const { restart } = log;
          log.restart = (at, reason) => {
            logBegan = headAsked;
            restart(at, reason);
          };
          const tail = startTail({
            feed: {
              ...feed,
              head() {
                headAsked = restores;
                return feed.head();
              },
              async isSameHistory(read) {
                const before = restores;
                const isSame = await feed.isSameHistory(read);
                if (isSame && before === restores) {
                  verified = logBegan = restores;
                  logged = table;
                }
                return isSame;
              },
            },
            log,
            logger,
          });
          const wakeups = await startWakeups(
            { sweepSeconds: SWEEP_SECONDS, pollSeconds: POLL_SECONDS },
            { feed, tail },
          );
          const budget = createBudget(BUDGET);
          const history = createHistory(archive, budget, { queue: createFairQueue(createReadLimit(2)), log });
          const clients: Client[] = [];

          const missing = (client: Client, through: bigint) =>
            logged.filter(
              ({ position, channel }) =>
                position > client.passed && position <= through && matches(client.filter, channel),
            );

          function take(client: Client, frames: Buffer): boolean {
            assert.ok(!client.hasLeft && !client.isBlocked, 'R5: a client that wants nothing was given more');
            for (const [, mark, id = ''] of frames.toString().matchAll(/([<[])(\d+) /g)) {
              const event = byId.get(id);
              assert.ok(event, `${id} was never published`);
              const [next] = missing(client, event.position);
              assert.equal(next?.id, id, 'R3: not what follows its cursor');
              assert.ok(mark === '[' || !client.redacted.has(id), 'R8: what was redacted before it came');
              client.passed = event.position;
              seen.events += 1;
            }
            client.isBlocked = !isHealed && dice() === 0;
            return !client.isBlocked;
          }

          function reset(client: Client, reason: string, to: bigint): void {
            if (reason === 'expired') assert.ok(client.passed < outbox.floor.position, 'R4: nothing was deleted');
            else assert.ok(client.restores < restores, 'R4: nothing was restored');
            client.passed = to;
            client.restores = logBegan;
            seen.resets += 1;
          }

          function checked<T>(check: () => T): T {
            try {
              return check();
            } catch (error) {
              failures.push(error);
              throw error;
            }
          }

          /** As a stream starts. */
          async function connect(client: Client, request: CursorRequest, asked: FreshEvent | undefined): Promise<void> {
            const flow = createFlow(() => !client.hasLeft);
            const begun = restores;
            for (;;) {
              if (!flow.isWanted()) return;
              try {
                const { epoch } = log;
                const start = await resolve(request, log, history, flow);
                if (start.position < log.head.position || tail.isReading) await tail.upToDate();
                if (!flow.isWanted()) return;
                if (epoch !== log.epoch) continue;
                // Another relay's cursor in a table that is lost: nothing here can know.
                if (begun !== restores && start.position > log.head.position) return void (client.hasLeft = true);
                client.passed = start.position;
                client.restores = logBegan;
                if (asked && begun === restores) {
                  if (start.reset) assert.ok(asked.position < outbox.floor.position, 'R4: its cursor was in the table');
                  else assert.equal(start.position, asked.position);
                }
                if (start.position < log.head.position) seen.replays += 1;
                client.subscription = subscribe({
                  log,
                  history,
                  budget,
                  filter: client.filter,
                  after: start,
                  sink: {
                    write: (frames) => checked(() => take(client, frames)),
                    writePage: (frames) => checked(() => take(client, frames)),
                  },
                  onReset: (reason) => checked(() => reset(client, reason, log.head.position)),
                  onReadError: () => undefined,
                });
                return;
              } catch (error) {
                if (error instanceof assert.AssertionError) throw error;
                await new Promise((again) => setTimeout(again, 500));
              }
            }
          }
          const connecting: Promise<void>[] = [];

          const underWay: Commit[] = [];

          function committed(added: readonly FreshEvent[]): void {
            table.push(...added);
            table.sort((a, b) => Number(a.position - b.position));
            for (const event of added) byId.set(event.id, event);
          }

          function finish(index: number, succeeds: boolean): void {
            const [commit] = underWay.splice(index, 1);
            if (succeeds) committed(commit?.succeed() ?? []);
            else commit?.fail();
          }

          const eventAt = (before: number) => table.at(-1 - before) ?? table[0];

          for (const action of steps) {
            if (action.do === 'publish') {
              committed(outbox.publish(action.channels, action.size));
            } else if (action.do === 'begin') {
              underWay.push(outbox.begin(action.channels, action.size));
            } else if (action.do === 'finish') {
              finish(action.commit, action.succeeds);
            } else if (action.do === 'connect') {
              const event = action.back === undefined ? undefined : eventAt(action.back);
              const client = new Client(action.filter, new Set(redacted));
              clients.push(client);
              const request: CursorRequest = event ? { kind: 'id', id: event.id } : { kind: 'now' };
              const connected = connect(client, request, event);
              // Told at the end; until then it is nobody's unhandled rejection.
              connected.catch(() => undefined);
              connecting.push(connected);
            } else if (action.do === 'answer') {
              reads.splice(action.read, 1)[0]?.answer();
            } else if (action.do === 'fail') {
              reads.splice(action.read, 1)[0]?.fail();
            } else if (action.do === 'answer all') {
              for (let round = 0; round < action.rounds; round += 1) {
                for (const read of reads.splice(0)) read.answer();
                await turn();
              }
            } else if (action.do === 'deliver wake-up') {
              wakeUps.splice(action.wakeUp, 1)[0]?.();
            } else if (action.do === 'notifications') {
              for (const watcher of outbox.watchers) watcher.notificationsWork(action.work);
            } else if (action.do === 'drain') {
              const client = clients[action.client];
              if (client?.isBlocked) {
                client.isBlocked = false;
                client.subscription?.drained();
              }
            } else if (action.do === 'leave') {
              const [client] = clients.splice(action.client, 1);
              client?.subscription?.close();
              if (client) client.hasLeft = true;
            } else if (action.do === 'redact') {
              const event = eventAt(action.back);
              if (event) {
                outbox.redact(event.position);
                redacted.add(event.id);
              }
            } else if (action.do === 'delete') {
              outbox.deleteThrough(eventAt(action.back)?.position ?? 0n);
            } else if (action.do === 'restore') {
              // No further back than what was deleted, which would come back as well.
              const position = max(eventAt(action.back)?.position ?? 0n, outbox.floor.position);
              restores += 1;
              table = table.filter((event) => event.position <= position);
              outbox.restore(position);
              for (const client of clients.filter(({ passed }) => passed > log.head.position)) {
                client.subscription?.close();
                client.hasLeft = true;
              }
            } else {
              mock.timers.tick(action.milliseconds);
            }
            await turn();
            assert.ok(log.size.bytes <= windowBytes || log.size.events <= 1, 'R5: the window is too large');
            for (const failure of failures) throw failure as Error;
          }

          while (underWay.length > 0) finish(0, dice() > 0);
          // Everything heals, but for wake-ups: all reads are answered, and all has to come to rest at the table's head.
          isHealed = true;
          heal();
          const isAtRest = () =>
            log.head.id === outbox.head.id &&
            clients.every(({ subscription, hasLeft }) => hasLeft || subscription?.parked);
          for (let round = 0; !isAtRest() || round < 3; round += 1) {
            for (const failure of failures) throw failure as Error;
            assert.ok(round < MOST_ROUNDS, 'it never comes to rest');
            mock.timers.tick(LONGER_THAN_A_PAUSE_MS);
            for (await turn(); reads.length > 0; await turn()) for (const read of reads.splice(0)) read.answer();
            for (const client of clients) {
              if (!client.isBlocked) continue;
              client.isBlocked = false;
              client.subscription?.drained();
            }
          }
          await Promise.all(connecting);
          assert.deepEqual(
            logged.map(({ id }) => id),
            table.map(({ id }) => id),
            'the log has another table',
          );
          for (const client of clients) {
            if (!client.hasLeft) assert.deepEqual(missing(client, log.head.position), [], 'R3: something is missing');
          }
          assert.equal(budget.heldBytes, 0, 'what no client waits for is still counted');
          seen.restarts += log.epoch;
          for (const client of clients) client.subscription?.close();
          const stopping = { isOver: false };
          const stopped = wakeups
            .stop()
            .then(tail.stop)
            .then(() => (stopping.isOver = true));
          for (; !stopping.isOver; await turn()) for (const read of reads.splice(0)) read.fail();
          await stopped;
        },
      ),
      { numRuns: 300, includeErrorInReport: true },
    );
    t.log(JSON.stringify(seen));
    t.true(
      Object.values(seen).every((count) => count >= 50),
      'it has tried too little',
    );
  },
);

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
