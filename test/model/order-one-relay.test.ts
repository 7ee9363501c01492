/**
 * The model of the publish protocol, where one relay has most states: promises R1 and R6.
 */
import test from 'ava';
import { holds } from '../support/order-check.js';

/** On a busy machine the largest of them takes most of two minutes. */
const BOUND_MS = 180_000;

test.serial(
  'R6: no wake-up is lost where a relay that is awake loses its session beside two who publish twice',
  async (t) => {
    t.timeout(BOUND_MS);
    await holds(t, 'waking', { publishers: 2, publications: 2, losses: 1 });
  },
);

test.serial('R6: no wake-up is lost between a relay and three publishers of whom one rings at most', async (t) => {
  t.timeout(BOUND_MS);
  await holds(t, 'waking', { publishers: 3 });
});

test.serial('R1, R6: relays pass nothing by when PostgreSQL crashes while somebody prunes', async (t) => {
  t.timeout(BOUND_MS);
  await holds(t, 'reading', { publishers: 2, publications: 2, crashes: 1, prunings: 1 });
});
