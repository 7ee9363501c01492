/**
 * The model of the publish protocol, where two relays have most states: promise R6.
 */
import test from 'ava';
import { breaks, holds, PLAIN, UNREAD } from '../support/order-check.js';

/** On a busy machine the largest of them takes most of two minutes. */
const BOUND_MS = 180_000;

test.serial(
  'R6: no wake-up is lost while two relays wake up and go to sleep, and one of them loses its session',
  async (t) => {
    t.timeout(BOUND_MS);
    await holds(t, 'waking', { relays: 2, losses: 1 }, PLAIN);
  },
);

test.serial(
  'R6: no wake-up is lost while two relays wake up and go to sleep that look until all is settled',
  async (t) => {
    t.timeout(BOUND_MS);
    await holds(t, 'waking', { relays: 2 });
  },
);

test.serial('a relay that sleeps although another has said that it is awake is found to miss an event', async (t) => {
  t.timeout(BOUND_MS);
  await breaks(t, 'waking', { ...PLAIN, sleepsBesideOthers: 'asleep' }, { relays: 2, losses: 1 }, UNREAD);
});

test.serial('a relay that takes another for silent which is about to be awake is found to miss an event', async (t) => {
  t.timeout(BOUND_MS);
  await breaks(t, 'waking', { ...PLAIN, silence: 'ever' }, { relays: 2, losses: 1 }, UNREAD);
});
