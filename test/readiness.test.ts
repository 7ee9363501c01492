import { mock } from 'node:test';
import test from 'ava';
import { obstacles, readiness } from '../src/feed/readiness.js';

const NOTHING = { trouble: undefined, behindSince: undefined, floorMissingSince: undefined, held: undefined };
const BEGAN = new Date(1_000_000);
const trouble = { error: new Error('it is away'), since: BEGAN };
const later = new Date(2_000_000);

test('a relay that listens, reads and has all events is ready', (t) => {
  t.deepEqual(obstacles(NOTHING, NOTHING), []);
});

test('each obstacle has a code and says since when', (t) => {
  t.deepEqual(obstacles(NOTHING, { trouble }), [{ code: 'not_listening', since: BEGAN }]);
  t.deepEqual(obstacles({ ...NOTHING, trouble }, NOTHING), [{ code: 'cannot_read', since: BEGAN }]);
  t.deepEqual(obstacles({ ...NOTHING, floorMissingSince: later }, NOTHING), [{ code: 'floor_missing', since: later }]);
  t.deepEqual(
    obstacles({ ...NOTHING, trouble, behindSince: BEGAN, floorMissingSince: later }, { trouble }).map(
      ({ code }) => code,
    ),
    ['not_listening', 'cannot_read', 'floor_missing'],
    'who cannot read is behind, too, and that is not said twice',
  );
});

test.serial('a tail is behind once it has not caught up within the grace', (t) => {
  mock.timers.enable({ apis: ['Date'], now: BEGAN });
  t.teardown(() => mock.timers.reset());
  const tail = { ...NOTHING, behindSince: new Date() };
  mock.timers.tick(2000);
  t.deepEqual(obstacles(tail, NOTHING), []);
  mock.timers.tick(1);
  t.deepEqual(obstacles(tail, NOTHING), [{ code: 'behind', since: BEGAN }]);
});

test.serial(
  'a commit that hangs is told of after a second, with its process, and the relay is ready all the same',
  (t) => {
    mock.timers.enable({ apis: ['Date'], now: BEGAN });
    t.teardown(() => mock.timers.reset());
    const tail = { ...NOTHING, held: { by: 4711, since: new Date() } };
    mock.timers.tick(1000);
    t.deepEqual(obstacles(tail, NOTHING), []);
    mock.timers.tick(1);
    const reason = { code: 'commit_hangs', since: BEGAN, process: 4711 } as const;
    t.deepEqual(readiness(tail, NOTHING), { ready: true, reasons: [reason] });
    t.false(readiness({ ...tail, trouble }, NOTHING).ready);
  },
);
