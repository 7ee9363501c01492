/** The tip that a feeder appends to: known only while nobody else can have moved it. */
import test from 'ava';
import { pino } from 'pino';
import type { EngineLog } from '../src/engine/engine-log.js';
import { createFeederTip } from '../src/engine/feeder-tip.js';
import { createFencing, FencedError } from '../src/engine/fence.js';
import { runsOf } from '../src/engine/runs.js';
import { createFakeEngine } from './support/fake-engine-log.js';
import { createMemoryFeed, createMemoryOutbox, noFaults } from './support/memory-outbox.js';

const logger = pino({ level: 'silent' });
const ORIGIN = { system: 's', timeline: 1, wal: 1n };

function stage() {
  const outbox = createMemoryOutbox(noFaults);
  const feed = createMemoryFeed(outbox, noFaults);
  const fake = createFakeEngine();
  outbox.publish(['before']);
  function open(engine: EngineLog = fake.open(), origin: () => typeof ORIGIN = () => ORIGIN) {
    const fencing = createFencing(feed, logger);
    const totals = { entries: 0, refused: 0, unreadable: 0 };
    const readAnswerer = () => Promise.resolve(origin());
    let losses = 0;
    const onLost = () => (losses += 1);
    const tip = createFeederTip({ feed, readAnswerer, engine, fencing, totals, logger, onLost });
    /** Appends an event, as one that follows the tip. */
    const append = (channel: string) => {
      const [run] = runsOf(tip.fedThrough.position, outbox.publish([channel]));
      if (run === undefined) throw new Error('nothing was published');
      return tip.run(run, origin());
    };
    return { tip, fencing, totals, append, losses: () => losses };
  }
  return { outbox, fake, open };
}

test('a feeder that another was faster than appends nothing, and finds what that has fed before it goes on', async (t) => {
  const { outbox, fake, open } = stage();
  const [one, other] = [open(), open()];
  await one.tip.ready();
  await other.tip.ready();
  t.true(await one.append('a'));
  t.false(await other.append('b'), 'it follows what is not the newest any more');
  t.is(other.totals.refused, 1);
  t.false(await other.tip.evict([], 0n, ORIGIN), 'nor anything else, before it has looked');
  await other.tip.ready();
  t.deepEqual(other.tip.at, one.tip.at);
  t.true(await other.append('c'));
  t.is(other.tip.at.position, outbox.head.position);
  t.is(fake.entries.length, 3);
});

test('an append whose outcome is not known is looked for, and not made once more', async (t) => {
  const { outbox, fake, open } = stage();
  const engine = fake.open();
  let isLost = false;
  const { tip, append } = open({
    ...engine,
    async append(entry, expecting) {
      const sequence = await engine.append(entry, expecting);
      if (isLost) throw new Error('the answer was lost');
      return sequence;
    },
  });
  await tip.ready();
  isLost = true;
  await t.throwsAsync(append('a'), { message: 'the answer was lost' });
  isLost = false;
  await tip.ready();
  t.is(tip.at.position, outbox.head.position, 'it was made');
  t.true(await append('b'));
  t.is(fake.entries.length, 3);
});

test('a log that lost its end is fed from where it ends now, and the tail is told', async (t) => {
  const { outbox, fake, open } = stage();
  const { tip, append, losses } = open();
  await tip.ready();
  const start = outbox.head;
  await append('a');
  t.is(losses(), 0);
  fake.truncate(1);
  tip.forget();
  await tip.ready();
  t.is(losses(), 1);
  t.deepEqual(tip.at, start);
});

test('a database behind the fence has no tip, and one that is promoted has', async (t) => {
  const { fake, open } = stage();
  await open(fake.open(), () => ({ ...ORIGIN, timeline: 2 })).tip.ready();
  let timeline = 1;
  const { tip, fencing, append } = open(fake.open(), () => ({ ...ORIGIN, timeline }));
  const error = await t.throwsAsync(tip.ready(), { instanceOf: FencedError });
  t.is(error.reason, 'older_timeline');
  t.is(fencing.fence?.reason, 'older_timeline');
  t.false(await append('a'));
  t.is(fake.entries.length, 1);
  timeline = 2;
  await tip.ready();
  t.is(fencing.fence, undefined);
  t.true(tip.mayBeOf({ ...ORIGIN, timeline: 2 }));
  t.false(tip.mayBeOf(ORIGIN), 'what an older server has read is not appended');
});
