/**
 * The publish protocol, in all orders in which its steps can come: promises R1 and R6. A rule of it that is taken away is
 * found to be missed.
 */
import test from 'ava';
import { breaks, holds, PASSED, PLAIN, UNREAD } from './support/order-check.js';
import { RULES, type Rules } from './support/order-state.js';

const without = <T>(list: readonly T[], ...steps: T[]): T[] => list.filter((step) => !steps.includes(step));

test.serial(
  'R1, R6: two relays read all that three publishers publish, in one order, while somebody prunes',
  async (t) => {
    await holds(t, 'reading', { publishers: 3, relays: 2, prunings: 1 });
  },
);

test.serial(
  'R1, R6: a relay that starts beside three publishers begins where nothing can appear any more',
  async (t) => {
    await holds(t, 'reading', { publishers: 3, losses: 1 });
  },
);

test.serial('R1, R6: relays pass nothing by when PostgreSQL crashes and gives positions out again', async (t) => {
  await holds(t, 'reading', { publishers: 2, publications: 2, crashes: 1 });
});

test.serial(
  'R6: no wake-up is lost between a relay that goes to sleep and two publishers of whom one rings at most',
  async (t) => {
    await holds(t, 'waking', { publishers: 2 });
  },
);

test.serial('R6: no wake-up is lost while two relays wake up and go to sleep', async (t) => {
  await holds(t, 'waking', { relays: 2 }, PLAIN);
});

test.serial('R6: no wake-up is lost where a relay that is awake loses its session', async (t) => {
  await holds(t, 'waking', { publishers: 2, losses: 1 });
});

test.serial('R6: no event stays unread where who has the bell is aborted, and relays glance', async (t) => {
  await holds(t, 'waking', { publishers: 2, mayRingersAbort: true }, { glance: ['last'] });
});

test.serial('a marker that is taken after its position was drawn is found missing', async (t) => {
  const publish: Rules['publish'] = ['readLow', 'draw', 'takeMarker', 'ask', 'becomeVisible', 'releaseMarker'];
  await breaks(t, 'reading', { publish }, { publishers: 2 }, PASSED);
});

test.serial('a marker that is released before its event is visible is found missing', async (t) => {
  const publish: Rules['publish'] = ['readLow', 'takeMarker', 'draw', 'ask', 'releaseMarker', 'becomeVisible'];
  await breaks(t, 'reading', { publish }, { publishers: 2 }, PASSED);
});

test.serial('a last position that is read after the markers is found too high', async (t) => {
  await breaks(
    t,
    'reading',
    { atGap: ['readMarkers', 'readLast', 'readAnew'] },
    { publishers: 2, publications: 2 },
    PASSED,
  );
});

test.serial('rows that were read before the markers are found to be too few', async (t) => {
  await breaks(t, 'reading', { atGap: ['readLast', 'readMarkers', 'useFirstRead'] }, { publishers: 2 }, PASSED);
});

test.serial('a head that moves to what is settled, and not to rows, is found too high after a crash', async (t) => {
  const size = { publishers: 2, publications: 2, crashes: 1 };
  await breaks(t, 'reading', { headMovesTo: 'settled' }, size, PASSED);
});

test.serial('a floor that is raised past what is settled is found above an event', async (t) => {
  const size = { publishers: 2, prunings: 1 };
  await breaks(t, 'reading', { prune: ['choose', 'raiseFloor'] }, size, /became visible below the floor/);
});

test.serial('a publisher that asks whether to ring before it takes its marker is found to ring nobody', async (t) => {
  const publish: Rules['publish'] = [
    'ask',
    'tryBell',
    'readLow',
    'takeMarker',
    'draw',
    'becomeVisible',
    'releaseMarker',
  ];
  await breaks(t, 'waking', { publish }, {}, UNREAD);
});

test.serial('a relay that goes to sleep without a last look is found to sleep too early', async (t) => {
  await breaks(t, 'waking', { goToSleep: without(RULES.goToSleep, 'look') }, {}, UNREAD);
});

test.serial('a relay that goes to sleep without asking for markers is found to sleep too early', async (t) => {
  await breaks(t, 'waking', { ...PLAIN, goToSleep: without(RULES.goToSleep, 'readLast', 'readMarkers') }, {}, UNREAD);
});

test.serial('a relay that looks last, and then gives the lock back, is found to sleep too early', async (t) => {
  const goToSleep: Rules['goToSleep'] = ['readLast', 'readMarkers', 'look', 'giveBack', 'tell', 'sleep'];
  await breaks(t, 'waking', { goToSleep }, {}, UNREAD);
});

test.serial('a relay that asks for markers only after its last look is found to sleep too early', async (t) => {
  const goToSleep: Rules['goToSleep'] = ['giveBack', 'look', 'readLast', 'readMarkers', 'tell', 'sleep'];
  await breaks(t, 'waking', { ...PLAIN, goToSleep }, {}, UNREAD);
});

test.serial(
  'a relay that does not look when it hears "asleep" unless it follows is found to miss an event',
  async (t) => {
    await breaks(t, 'waking', { ...PLAIN, asleepWakes: 'following' }, { relays: 2 }, UNREAD);
  },
);

test.serial('a relay that does not look again while a marker is held is found to miss who did not ring', async (t) => {
  const settle = without(RULES.settle, 'readMarkers');
  await breaks(t, 'waking', { settle }, { publishers: 2 }, UNREAD);
});

test.serial(
  'a relay that finds no marker after it has read, and reads no more, is found to miss who did not ring',
  async (t) => {
    const settle = without(RULES.settle, 'lookAgain');
    await breaks(t, 'waking', { settle }, { publishers: 2 }, UNREAD);
  },
);

test.serial('a relay that stops looking while somebody has the bell is found to miss who did not get it', async (t) => {
  const settle = without(RULES.settle, 'readBell');
  await breaks(t, 'waking', { settle }, { publishers: 2 }, UNREAD);
});

test.serial('a relay that asks for the bell after the last position is found to miss who did not get it', async (t) => {
  const settle: Rules['settle'] = ['look', 'readLast', 'readBell', 'readMarkers', 'lookAgain'];
  await breaks(t, 'waking', { settle }, { publishers: 2 }, UNREAD);
});

test.serial('relays that never glance are found to miss an event where who has the bell is aborted', async (t) => {
  await breaks(t, 'waking', { glance: [] }, { publishers: 2, mayRingersAbort: true }, UNREAD);
});

test.serial(
  'relays that glance at markers alone are found to miss an event where who has the bell is aborted',
  async (t) => {
    await breaks(t, 'waking', { glance: ['markers'] }, { publishers: 2, mayRingersAbort: true }, UNREAD);
  },
);
