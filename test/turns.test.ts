/**
 * Turns: who wants much waits for itself, and nobody else for it.
 */
import assert from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import { createTurns } from '../src/access/fair-turns.js';
import { holds } from './support/property.js';

/** Lets these wait, in this order; tells who has begun, and ends what is under way. */
function line(most: number) {
  const turns = createTurns(most);
  const begun: string[] = [];
  const underWay: { who: string; over: () => void }[] = [];
  return {
    begun,
    underWay,
    wait: (who: string) =>
      turns.wait(who, (over) => {
        begun.push(who);
        underWay.push({ who, over });
      }),
    end(n: number) {
      const [ended] = underWay.splice(n, 1);
      ended?.over();
      ended?.over();
    },
  };
}

test('one alone gets half, and who comes after it begins at once', (t) => {
  const { begun, wait } = line(8);
  for (let n = 0; n < 20; n++) wait('a');
  t.deepEqual(begun, ['a', 'a', 'a', 'a']);
  for (let n = 0; n < 20; n++) wait('b');
  t.deepEqual(begun.slice(4), ['b', 'b']);
  wait('c');
  t.is(begun.at(-1), 'c');
});

test('those that wait are taken one from each in turn', (t) => {
  const { begun, underWay, wait, end } = line(2);
  for (const who of ['a', 'a', 'a', 'a', 'b', 'b', 'c']) wait(who);
  while (underWay.length > 0) end(0);
  t.deepEqual(begun, ['a', 'b', 'a', 'b', 'c', 'a', 'a']);
});

test('who has given up has no turn', (t) => {
  const { begun, underWay, wait, end } = line(2);
  wait('a');
  const second = wait('a');
  wait('a');
  wait('b');
  second();
  while (underWay.length > 0) end(0);
  t.is(begun.length, 3);
});

test('R5: in any order of coming, ending and giving up, all who stay get their turn, and never more than there may be', (t) => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ wait: fc.constantFrom('a', 'b', 'c', 'd', 'e') }) },
    { weight: 2, arbitrary: fc.record({ end: fc.nat(9) }) },
    { weight: 1, arbitrary: fc.record({ giveUp: fc.nat(99) }) },
  );
  holds(
    t,
    fc.property(fc.integer({ min: 1, max: 9 }), fc.array(step, { maxLength: 80 }), (most, steps) => {
      const { begun, underWay, wait, end } = line(most);
      const given: (() => void)[] = [];
      let [waited, gaveUp] = [0, 0];
      for (const one of steps) {
        if ('wait' in one) {
          waited += 1;
          const before = begun.length;
          const giveUp = wait(one.wait);
          if (begun.length === before) given.push(giveUp);
        } else if ('end' in one) end(one.end % Math.max(1, underWay.length));
        else {
          const before = begun.length;
          given.splice(one.giveUp % Math.max(1, given.length), 1)[0]?.();
          assert.equal(begun.length, before);
          gaveUp += 1;
        }
        assert(underWay.length <= most);
      }
      while (underWay.length > 0) end(0);
      // Giving up after one's turn has come is without effect.
      assert(begun.length <= waited && begun.length >= waited - gaveUp, `${begun.length} of ${waited}`);
    }),
  );
});
