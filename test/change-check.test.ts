/**
 * What was redacted or deleted leaves the log before anybody who asked goes on, and what a look
 * finds is told once.
 */
import test from 'ava';
import { pino } from 'pino';
import { createChangeCheck } from '../src/feed/change-check.js';
import { createLooks } from '../src/feed/looks.js';
import type { TailLog } from '../src/feed/tail-log.js';
import type { Changes } from '../src/outbox/feed.js';

const NONE: Changes = {
  state: 'first',
  redacted: [],
  redactedThrough: 0n,
  hasRedacted: false,
  floor: { position: 0n, id: '0' },
  isFloorMissing: false,
};

/** A feed whose answers are given one by one, and a log that says what was done to it. */
function stage() {
  const done: string[] = [];
  const asked: (string | undefined)[] = [];
  const answers: ((answer: Changes | Error) => void)[] = [];
  const log: TailLog = {
    head: { position: 10n, id: '10' },
    floor: 0n,
    append: () => undefined,
    restart: () => undefined,
    redact: (positions) => done.push(`redact ${positions.join(',')}`),
    evictThrough: (position) => done.push(`evict ${position}`),
  };
  const feed = {
    changesSince: (state: string | undefined) =>
      new Promise<Changes>((resolve, reject) => {
        asked.push(state);
        answers.push((answer) => (answer instanceof Error ? reject(answer) : resolve(answer)));
      }),
  };
  const changes = createChangeCheck({ feed, log, logger: pino({ level: 'silent' }) });
  const answer = (given: Changes | Error) => answers.shift()?.(given);
  return { done, asked, changes, answer };
}
const same = () => true;

test('R8: who waits goes on when what was redacted is gone, and who came meanwhile waits for the next answer', async (t) => {
  const { done, asked, changes, answer } = stage();
  const first = changes.wait().then(() => done.push('first goes on'));
  const finding = changes.find(same);
  const second = changes.wait().then(() => done.push('second goes on'));
  answer({ ...NONE, hasRedacted: true, redacted: [3n] });
  t.false(await finding);
  await first;
  t.deepEqual(done, ['redact 3', 'evict 0', 'first goes on']);
  t.true(changes.isDue, 'for the second');
  const next = changes.find(same);
  answer({ ...NONE, state: 'second', floor: { position: 11n, id: '11' } });
  t.true(await next, 'events were deleted beyond the head');
  await second;
  t.deepEqual(done.slice(3), ['evict 11', 'second goes on'], 'of the rest nothing was redacted');
  t.deepEqual(asked, [undefined, 'first']);
  t.false(changes.isDue);
});

test('R8: an answer of a feed that may be another is not used, nor is it an answer to whoever waits', async (t) => {
  const { done, asked, changes, answer } = stage();
  const waiting = changes.wait();
  const finding = changes.find(() => false);
  answer({ ...NONE, redacted: [3n], hasRedacted: true });
  t.false(await finding);
  t.deepEqual(done, []);
  t.true(changes.isDue);
  const next = changes.find(same);
  answer(NONE);
  await next;
  await waiting;
  t.deepEqual(asked, [undefined, undefined], 'its state is not kept');
  changes.forget();
  const all = changes.find(same);
  answer(NONE);
  await all;
  t.is(asked[2], undefined, 'after another history it is asked for all');
  t.deepEqual(done, ['redact ', 'evict 0', 'redact ', 'evict 0'], 'and all of it is looked for');
});

test('a feed that fails fails whoever waits, with the same error, and nobody later', async (t) => {
  const { changes, answer } = stage();
  const waiting = changes.wait();
  const finding = changes.find(same);
  answer(new Error('away'));
  await t.throwsAsync(waiting, { message: 'away' });
  await t.throwsAsync(finding, { message: 'away' });
  t.false(changes.isDue);
  const later = changes.wait();
  changes.refuse(new Error('stopped'));
  await t.throwsAsync(later, { message: 'stopped' });
});

test('a look is answered by a read that began after it was asked for, with all that was found since the last', async (t) => {
  const looks = createLooks();
  const first = looks.ask();
  looks.begin();
  const second = looks.ask();
  looks.found(2);
  looks.answer(false);
  t.deepEqual(await first, { events: 2, isHeld: false });
  looks.found(1);
  looks.answer(false);
  looks.begin();
  looks.found(4);
  looks.answer(true);
  t.deepEqual(await second, { events: 5, isHeld: true }, 'what nobody was told of is told to the next');
  const [begun, asked] = [looks.ask(), (looks.begin(), looks.ask())];
  looks.refuse(new Error('stopped'));
  await t.throwsAsync(begun, { message: 'stopped' });
  await t.throwsAsync(asked, { message: 'stopped' });
});
