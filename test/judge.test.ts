/**
 * The judge of the random tests: a judge that finds nothing would make them all pass.
 */
import test from 'ava';
import type { Reset } from './support/dropping-client.js';
import { judge, settle, type Account } from './support/judge.js';
import { truthOf } from './support/truth.js';

/** Committed in this order; ids are not in order, as in life. */
const TRUTH = truthOf(['3', '1', '2', '7', '5', '6'].map((id, n) => ({ id, channel: n === 2 ? 'b' : 'a', by: null })));

function clientWith(got: Partial<Account>): Account {
  return {
    names: ['a'],
    received: ['1', '7', '5', '6'],
    startId: '3',
    connections: [],
    resets: [],
    complaints: [],
    ...got,
  };
}

/** Met the client at event 1, when it had got that alone, and took it to 5. */
function resetWith(what: Partial<Reset> = {}): Reset {
  return { reason: 'expired', from: '1', to: '5', before: 1, at: 100, ...what };
}

test('a client that got all that followed its first cursor, once and in order, is let go', (t) => {
  t.deepEqual(judge(clientWith({}), TRUTH).violations, []);
  t.deepEqual(judge(clientWith({ startId: '0', received: ['3', '1', '7', '5', '6'] }), TRUTH).violations, []);
  t.deepEqual(judge(clientWith({ names: ['b', 'a*'], received: ['1', '2', '7', '5', '6'] }), TRUTH).violations, []);
});

test('what is lost, double or out of order is counted and told', (t) => {
  const counts = (received: string[]) => {
    const { violations, ...sums } = judge(clientWith({ received }), TRUTH);
    t.is(violations.length, 1, received.join());
    return sums;
  };
  t.deepEqual(counts(['1', '5', '6']), { lost: 1, double: 0, outOfOrder: 0 });
  t.deepEqual(counts(['1', '7', '5']), { lost: 1, double: 0, outOfOrder: 0 }, 'at the end');
  t.deepEqual(counts(['1', '7', '7', '5', '6']), { lost: 0, double: 1, outOfOrder: 0 });
  t.deepEqual(counts(['1', '7', '5', '6', '6']), { lost: 0, double: 1, outOfOrder: 0 }, 'at the end');
  t.deepEqual(counts(['7', '1', '5', '6']), { lost: 0, double: 0, outOfOrder: 1 });
  t.deepEqual(counts(['1', '2', '7', '5', '6']), { lost: 0, double: 0, outOfOrder: 0 }, 'of a channel not asked for');
});

test('a reset is justified when retention had passed the client by then', (t) => {
  const client = clientWith({ received: ['1', '6'], resets: [resetWith()] });
  t.deepEqual(judge(client, TRUTH, [{ id: '2', at: 99 }]).violations, []);
  t.is(judge(client, TRUTH).violations.length, 1, 'nothing was deleted');
  t.is(judge(client, TRUTH, [{ id: '2', at: 101 }]).violations.length, 1, 'deleted later');
  t.is(judge(client, TRUTH, [{ id: '1', at: 99 }]).violations.length, 1, 'deleted up to the client');
});

test('a reset of another reason, to an older place, or with a cursor that nobody was given is not justified', (t) => {
  const floors = [{ id: '7', at: 0 }];
  for (const [reset, received] of [
    [resetWith({ reason: 'unknown' }), ['1', '6']],
    [resetWith({ to: '3' }), ['1', '1', '7', '5', '6']],
    [resetWith({ to: '1' }), ['1', '7', '5', '6']],
    [resetWith({ to: '99' }), ['1', '6']],
    [resetWith({ from: '99' }), ['1', '6']],
  ] as const) {
    const { violations } = judge(clientWith({ received, resets: [reset] }), TRUTH, floors);
    t.true(violations.length > 0, JSON.stringify(reset));
  }
});

test('before a reset and after it a client is owed all', (t) => {
  const floors = [{ id: '7', at: 0 }];
  const lost = (received: string[], reset: Reset) =>
    judge(clientWith({ received, resets: [reset] }), TRUTH, floors).lost;
  t.is(lost(['6'], resetWith({ before: 0 })), 1, 'passed 1 by a heartbeat without having got it');
  t.is(lost(['1'], resetWith()), 1, 'did not get 6');
  t.is(lost(['1', '6'], resetWith()), 0);
});

test('what a client complains of, and that it never got a cursor, is a violation', (t) => {
  t.is(judge(clientWith({ complaints: ['refused'] }), TRUTH).violations.length, 1);
  t.is(judge(clientWith({ startId: undefined, received: [] }), TRUTH).violations.length, 1);
});

/** Of a publisher's two transactions, in the order of their commits. */
function published(...rows: readonly (readonly [by: string, id: string])[]) {
  return truthOf(rows.map(([by, id]) => ({ id, channel: 'a', by })));
}
const TWO = published(['w.1', '1'], ['w.1', '3'], ['w.2', '2'], ['w.2', '4'], ['w.2', '5']);

function outcomes(first: 'committed' | 'rolled back' | 'unknown', rows: number, truth = TWO, failures: string[] = []) {
  const transactions = [
    { name: 'w.1', rows, outcome: first },
    { name: 'w.2', rows: 3, outcome: 'committed' as const },
  ];
  return settle([{ transactions, failures }], truth);
}

test('transactions are settled: all rows of a commit, none of a rollback, all or none of one that was cut off', (t) => {
  t.deepEqual(outcomes('committed', 2).violations, []);
  t.deepEqual(outcomes('unknown', 2).unknown, { kept: 1, gone: 0 });
  t.is(outcomes('committed', 4).violations.length, 1);
  t.is(outcomes('rolled back', 2).violations.length, 1);
  t.is(outcomes('unknown', 4).violations.length, 1);
  t.is(outcomes('committed', 2, TWO, ['deadlock detected']).violations.length, 1);
  t.is(settle([], TWO).violations.length, 2, 'rows of nobody');
});

test('R1: rows stand in the order of their insertion, and after those of a commit that was over', (t) => {
  const swapped = published(['w.1', '3'], ['w.1', '1'], ['w.2', '2'], ['w.2', '4'], ['w.2', '5']);
  t.is(outcomes('committed', 2, swapped).violations.length, 1);
  const early = published(['w.1', '1'], ['w.2', '2'], ['w.1', '3'], ['w.2', '4'], ['w.2', '5']);
  t.is(outcomes('committed', 2, early).violations.length, 1);
  t.deepEqual(outcomes('unknown', 2, early).violations, [], 'nobody was told that it was over');
});
