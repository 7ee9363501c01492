/**
 * Relays that look by themselves, so that nobody rings: no event stays unread for it.
 */
import assert from 'node:assert/strict';
import { mock } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { pino } from 'pino';
import { createLog } from '../src/feed/log.js';
import { startTail } from '../src/feed/tail.js';
import { startWakeups } from '../src/feed/wakeups.js';
import type { FeedWatcher } from '../src/outbox/feed.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { hangInCommit, type HangingCommit } from './support/hanging-commit.js';
import { createMemoryFeed, createMemoryOutbox, type Commit, type Faults } from './support/memory-outbox.js';
import { holdsAsync } from './support/property.js';
import { startTestRelay } from './support/relay.js';
import { openStream } from './support/stream.js';
import { connect, publish } from './support/sessions.js';

/** No sweep and no poll comes while a test runs: what is read was rung for, or looked for. */
const NEVER_SECONDS = 1_000_000;
/** Enough at once that a relay considers to be awake. */
const CROWD = 25;
/** Time for a glance, and for looks at a commit under way. */
const GLANCES_MS = 1500;
/** In which all that relays do by themselves comes to its end, once nobody publishes. */
const REST_MS = 60_000;
const STEP_MS = 20;

type Step =
  | { do: 'crowd'; commits: number }
  | { do: 'begin' }
  | { do: 'finish'; commit: number; succeeds: boolean }
  | { do: 'answer'; read: number }
  | { do: 'answer all'; rounds: number }
  | { do: 'notify'; notification: number }
  | { do: 'lose session'; relay: number }
  | { do: 'listen'; relay: number }
  | { do: 'tick'; milliseconds: number };

const index = fc.nat(3);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('crowd' as const), commits: fc.integer({ min: 1, max: CROWD }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('begin' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('finish' as const), commit: index, succeeds: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('answer' as const), read: index }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('answer all' as const), rounds: fc.integer({ min: 1, max: 8 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('notify' as const), notification: fc.nat(30) }) },
  fc.record({ do: fc.constant('lose session' as const), relay: fc.nat(1) }),
  fc.record({ do: fc.constant('listen' as const), relay: fc.nat(1) }),
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('tick' as const), milliseconds: fc.constantFrom(2, 20, 300, 1000) }),
  },
);

test.serial(
  'R6: who leaves ringing to another that commits is read as soon as it is committed, and without one that rings',
  async (t) => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'] });
    t.teardown(() => mock.timers.reset());
    const faults: Faults = {
      read: (answer) => Promise.resolve(answer()),
      cut: (most) => most,
      saysMore: () => false,
      pass: (wakeUp) => wakeUp(),
    };
    const outbox = createMemoryOutbox(faults);
    const log = createLog({ id: '0', position: 0n }, { bytes: 1_000_000 });
    const feed = createMemoryFeed(outbox, faults);
    let beforeSettled = (): void => undefined;
    const settled = () => {
      beforeSettled();
      return feed.settled();
    };
    const tail = startTail({ feed: { ...feed, settled }, log, logger: pino({ level: 'silent' }) });
    outbox.watchers.add({
      wake: tail.wake,
      changed: tail.check,
      recheck: tail.recheck,
      othersAwake: () => undefined,
      othersAsleep: () => undefined,
      notificationsWork: () => undefined,
    });
    const [first, second, third] = [outbox.begin(['a']), outbox.begin(['b']), outbox.begin(['c'])];
    first.succeed();
    await turn();
    t.is(log.head.id, '1');
    for (const [commit, id] of [
      [second, '2'],
      [third, '3'],
    ] as const) {
      commit.succeed();
      await turn();
      t.not(log.head.id, id, 'it was rung for');
      mock.timers.tick(100);
      await turn();
      t.is(log.head.id, id);
    }
    const [rings, late] = [outbox.begin(['d']), outbox.begin(['e'])];
    // After what was rung for has been read, and before it is asked who commits.
    beforeSettled = () => void late.succeed();
    rings.succeed();
    await turn();
    t.is(log.head.id, '5');
    // Nobody commits any more, so nobody looks.
    await turn();
    mock.timers.tick(1000);
    t.false(tail.isReading);
    await tail.stop();
  },
);

test.serial('R6: whoever is awake, asleep or gone, every event is read without a sweep', async (t) => {
  t.timeout(120_000);
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1_000_000 });
  t.teardown(() => mock.timers.reset());
  const logger = pino({ level: 'silent' });
  const seen = { awake: 0, following: 0, sentAway: 0 };
  await holdsAsync(
    t,
    fc.asyncProperty(
      fc.array(step, { maxLength: 120, size: 'max' }),
      fc.infiniteStream(fc.boolean()),
      fc.constantFrom(1, 2),
      // A commit that fails after others have left ringing to it is what the glance is for.
      fc.boolean(),
      async (steps, dice, count, someFail) => {
        const glanceSeconds = someFail ? 1 : NEVER_SECONDS;
        const reads: (() => void)[] = [];
        /** None is lost as long as the session lives that it is for. */
        const notifications: (() => void)[] = [];
        const faults: Faults = {
          read: (answer) => new Promise((done) => reads.push(() => done(answer()))),
          cut: (most) => most,
          saysMore: () => dice.next().value as boolean,
          pass: (wakeUp) => void notifications.push(wakeUp),
        };
        const outbox = createMemoryOutbox(faults);
        const relays = await Promise.all(Array.from({ length: count }, startRelay));

        async function startRelay() {
          let watcher: FeedWatcher | undefined;
          const feed = createMemoryFeed(outbox, faults);
          const log = createLog({ id: '0', position: 0n }, { bytes: 1_000_000 });
          const tail = startTail({ feed, log, logger });
          const wakeups = await startWakeups(
            { sweepSeconds: NEVER_SECONDS, pollSeconds: NEVER_SECONDS, glanceSeconds },
            {
              feed: {
                ...feed,
                watch(itself) {
                  watcher = itself;
                  return feed.watch(itself);
                },
              },
              tail,
            },
          );
          assert.ok(watcher);
          return { log, tail, wakeups, watcher };
        }

        /** A server gives back the lock of a session that is gone, and what was for it is gone, too. */
        function lose(relay: number): void {
          const { watcher } = relays[relay % count] ?? assert.fail();
          if (!outbox.watchers.delete(watcher)) return;
          if (outbox.awake.holder === watcher) outbox.awake.holder = undefined;
          watcher.notificationsWork(false);
        }

        function listen(relay: number): void {
          const { watcher } = relays[relay % count] ?? assert.fail();
          if (outbox.watchers.has(watcher)) return;
          outbox.watchers.add(watcher);
          watcher.recheck();
          watcher.changed();
          watcher.notificationsWork(true);
        }

        async function answerAll(rounds: number): Promise<void> {
          for (let round = 0; round < rounds; round += 1) {
            for (const answer of reads.splice(0)) answer();
            await turn();
          }
        }

        const underWay: Commit[] = [];
        for (const action of steps) {
          if (action.do === 'crowd') for (let n = 0; n < action.commits; n += 1) outbox.publish(['a']);
          else if (action.do === 'begin') {
            if (outbox.awake.holder) seen.sentAway += 1;
            underWay.push(outbox.begin(['a']));
          } else if (action.do === 'finish') {
            const [commit] = underWay.splice(action.commit, 1);
            if (action.succeeds || !someFail) commit?.succeed();
            else commit?.fail();
          } else if (action.do === 'answer') reads.splice(action.read, 1)[0]?.();
          else if (action.do === 'answer all') await answerAll(action.rounds);
          // In the order in which they were sent, as PostgreSQL has them, but of some all at once.
          else if (action.do === 'notify') for (const tell of notifications.splice(0, action.notification)) tell();
          else if (action.do === 'lose session') lose(action.relay);
          else if (action.do === 'listen') listen(action.relay);
          else mock.timers.tick(action.milliseconds);
          await turn();
          for (const { wakeups } of relays) {
            if (wakeups.awake?.state === 'awake') seen.awake += 1;
            if (wakeups.awake?.state === 'following') seen.following += 1;
          }
        }

        relays.forEach((_, relay) => listen(relay));
        await answerAll(10);
        for (const commit of underWay.splice(0)) commit.succeed();
        for (let milliseconds = 0; milliseconds < REST_MS; milliseconds += STEP_MS) {
          for (const tell of notifications.splice(0)) tell();
          await answerAll(2);
          mock.timers.tick(STEP_MS);
          await answerAll(2);
          if (milliseconds > GLANCES_MS && isAtRest()) break;
        }

        function isAtRest(): boolean {
          const isQuiet = notifications.length === 0 && reads.length === 0 && outbox.awake.holder === undefined;
          return isQuiet && relays.every(({ wakeups, tail }) => wakeups.awake?.state === 'asleep' && !tail.isReading);
        }
        assert.ok(isAtRest(), 'they never come to rest');
        for (const { log } of relays) assert.equal(log.head.id, outbox.head.id, 'an event was not read');

        const stopped = Promise.all(relays.map(({ wakeups }) => wakeups.stop()));
        await answerAll(5);
        await stopped;
        await Promise.all(relays.map(({ tail }) => tail.stop()));
      },
    ),
    { numRuns: 1500, includeErrorInReport: true },
  );
  t.log(JSON.stringify(seen));
  t.true(
    Object.values(seen).every((count) => count >= 50),
    'it has tried too little',
  );
});

/** Publishers in sessions of their own, each of which publishes as often as it can. */
async function startCrowd(t: ExecutionContext, db: TestDatabase, sessions: number) {
  let isOver = false;
  let published = 0;
  const clients = await Promise.all(Array.from({ length: sessions }, () => connect(t, db.url)));
  const done = Promise.all(
    clients.map(async (client) => {
      while (!isOver) {
        await publish(client, 'crowd');
        published += 1;
      }
    }),
  );
  return {
    /** Resolves with how many events it has published. */
    async stop() {
      isOver = true;
      await done;
      return published;
    },
    /** Resolves when so many more have been published. */
    async more(events: number) {
      for (const wanted = published + events; published < wanted;) await turn();
    },
  };
}

/** The process that has the awake lock. */
async function holder(db: TestDatabase): Promise<number | undefined> {
  const { rows } = await db.query<{ pid: number }>(
    `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid = 'outbox'::regclass AND objid = 2 AND objsubid = 2`,
  );
  return rows[0]?.pid;
}

async function untilHeld(db: TestDatabase, isHeld: boolean): Promise<number | undefined> {
  for (;;) {
    const pid = await holder(db);
    if ((pid !== undefined) === isHeld) return pid;
  }
}

/** So often what may be disturbed is tried. */
const MOST_ATTEMPTS = 20;

test('R2, R6: while many publish a relay looks by itself and nobody rings, and once they stop it sleeps', async (t) => {
  const db = await createDatabase(t);
  const relay = await startTestRelay(t, db.url, { SWEEP_SECONDS: '3600' });
  const stream = await openStream(t, `${relay.url}/events?channel=*`);
  const ear = await connect(t, db.url);
  let rings = 0;
  ear.on('notification', ({ payload }) => (rings += /^\d+$/.test(payload ?? '') ? 1 : 0));
  await ear.query('LISTEN outbox');

  const crowd = await startCrowd(t, db, 16);
  let heard: number;
  let isSame: boolean;
  // On a busy machine it may find little for a while, and sleep.
  for (let attempts = 1; ; attempts += 1) {
    const pid = await untilHeld(db, true);
    // Those who asked before it was held may ring yet.
    await crowd.more(200);
    await ear.query('SELECT');
    rings = 0;
    await crowd.more(500);
    await ear.query('SELECT');
    heard = rings;
    isSame = (await holder(db)) === pid;
    if ((isSame && heard === 0) || attempts === MOST_ATTEMPTS) break;
  }
  t.true(isSame, 'it has slept meanwhile');
  t.is(heard, 0);

  const published = await crowd.stop();
  t.is((await stream.untilEvents(published)).length, published);
  // Rung for by somebody who was late to ask, it may look by itself once more.
  for (let attempts = 1; ; attempts += 1) {
    await untilHeld(db, false);
    rings = 0;
    await publish(ear, `${attempts} more`);
    const isAwake = (await holder(db)) !== undefined;
    t.is((await stream.untilEvents(published + attempts)).at(-1)?.data, `${attempts} more`);
    await ear.query('SELECT');
    if (rings > 0 || !isAwake || attempts === MOST_ATTEMPTS) break;
  }
  t.is(rings, 1, 'it is rung for again');
});

test('R6: an event that nobody rang for is delivered, by all relays, though the one that was awake is gone', async (t) => {
  const db = await createDatabase(t);
  const relays = [1, 2].map(() => startTestRelay(t, db.url, { SWEEP_SECONDS: '3600' }));
  const streams = [];
  for (const relay of relays) streams.push(await openStream(t, `${(await relay).url}/events?channel=late`));
  const crowd = await startCrowd(t, db, 16);
  let pid: number | undefined;
  let late: HangingCommit;
  for (let attempts = 1; ; attempts += 1) {
    pid = await untilHeld(db, true);
    late = await hangInCommit(t, db, ['late']);
    if ((await holder(db)) === pid) break;
    // It has slept meanwhile, and may have been rung for.
    t.not(attempts, MOST_ATTEMPTS);
    await late.fail();
  }
  await crowd.stop();
  await db.query('SELECT pg_terminate_backend($1)', [pid]);
  await late.succeed();
  for (const stream of streams) t.is((await stream.untilEvents(1)).length, 1);
});
