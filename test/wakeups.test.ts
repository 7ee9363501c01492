/**
 * When the tail looks.
 */
import { mock } from 'node:test';
import test from 'ava';
import { startWakeups, type WakeupSettings } from '../src/feed/wakeups.js';
import type { FeedWatcher, Watch } from '../src/outbox/feed.js';

const SETTINGS = { sweepSeconds: 5, pollSeconds: 0.5, glanceSeconds: 1000 };

const settled = () => Promise.reject(new Error('not used here'));

async function setUp(isReading = false, settings: WakeupSettings = SETTINGS) {
  const done: string[] = [];
  const watchers: FeedWatcher[] = [];
  const watch: Watch = {
    trouble: undefined,
    notificationsWork: true,
    losses: 0,
    awakeLock: undefined,
    stop: () => Promise.resolve(void done.push('unwatched')),
  };
  const wakeups = await startWakeups(settings, {
    feed: {
      settled,
      watch(watcher) {
        watchers.push(watcher);
        return Promise.resolve(watch);
      },
    },
    tail: {
      wake: () => void done.push('wake'),
      check: () => void done.push('check'),
      recheck: () => void done.push('recheck'),
      glance: () => void done.push('glance'),
      forget: () => void done.push('forget'),
      look: () => Promise.reject(new Error('not used here')),
      isReading,
    },
  });
  const [watcher] = watchers;
  if (watcher === undefined) throw new Error('the feed is not watched');
  return {
    wakeups,
    watcher,
    /** What the tail was told since this was last asked. */
    told: () => done.splice(0),
  };
}

test.beforeEach(() => mock.timers.enable({ apis: ['setInterval'] }));
test.afterEach.always(() => mock.timers.reset());

test.serial('what the feed says is passed on to the tail at once', async (t) => {
  const { watcher, told, wakeups } = await setUp();
  watcher.wake();
  watcher.changed();
  watcher.recheck();
  watcher.unattended?.();
  t.deepEqual(told(), ['wake', 'check', 'recheck', 'forget']);
  await wakeups.stop();
});

test.serial('R6: every SWEEP_SECONDS the tail looks, whether anything is heard or not', async (t) => {
  const { told, wakeups } = await setUp();
  mock.timers.tick(4999);
  t.deepEqual(told(), []);
  mock.timers.tick(5001);
  t.deepEqual(told(), ['check', 'check']);
  await wakeups.stop();
});

test.serial('R6: every second it glances at what is under way', async (t) => {
  const { told, wakeups } = await setUp(false, { sweepSeconds: 5, pollSeconds: 0.5 });
  mock.timers.tick(2000);
  t.deepEqual(told(), ['glance', 'glance']);
  await wakeups.stop();
});

test.serial(
  'while notifications do not arrive the tail verifies the history and looks every POLL_SECONDS',
  async (t) => {
    const { watcher, told, wakeups } = await setUp();
    watcher.notificationsWork(false);
    mock.timers.tick(1000);
    t.deepEqual(told(), ['recheck', 'check', 'recheck', 'check']);
    watcher.notificationsWork(true);
    mock.timers.tick(1000);
    t.deepEqual(told(), []);
    await wakeups.stop();
  },
);

test.serial('a poll does not throw away a read that is under way', async (t) => {
  const { watcher, told, wakeups } = await setUp(true);
  watcher.notificationsWork(false);
  mock.timers.tick(500);
  t.deepEqual(told(), ['check']);
  await wakeups.stop();
});

test.serial('nothing looks any more once it has been stopped, nor where the feed could not be watched', async (t) => {
  const { watcher, told, wakeups } = await setUp();
  watcher.notificationsWork(false);
  await wakeups.stop();
  t.deepEqual(told(), ['unwatched']);
  const error = new Error('no connection');
  const tail = {
    wake: () => t.fail(),
    check: () => t.fail(),
    recheck: () => t.fail(),
    glance: () => t.fail(),
    forget: () => t.fail(),
    look: () => t.fail(),
    isReading: false,
  };
  await t.throwsAsync(startWakeups(SETTINGS, { feed: { watch: () => Promise.reject(error), settled }, tail }), {
    is: error,
  });
  mock.timers.tick(20_000);
  t.deepEqual(told(), []);
});
