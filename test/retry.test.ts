import test from 'ava';
import { createRetry } from '../src/postgres/retry.js';

test('pauses double from the first to the longest, each cut to between half and all of it, and begin anew after a success', (t) => {
  const retry = createRetry({ firstPauseMs: 100, longestPauseMs: 1000 });
  for (let round = 0; round < 20; round += 1) {
    for (const pauseMs of [100, 200, 400, 800, 1000, 1000]) {
      const given = retry.failed(new Error('it is away'));
      t.true(given >= pauseMs / 2 && given <= pauseMs, `${given} of ${pauseMs}`);
    }
    retry.succeeded();
  }
});

test('trouble has the latest error and the time of the first, and is over after a success', (t) => {
  const retry = createRetry({ firstPauseMs: 1, longestPauseMs: 1 });
  t.is(retry.trouble, undefined);
  const [first, second] = [new Error('first'), new Error('second')];
  retry.failed(first);
  const since = retry.trouble?.since;
  retry.failed(second);
  t.is(retry.trouble?.error, second);
  t.is(retry.trouble?.since, since);
  retry.succeeded();
  t.is(retry.trouble, undefined);
});

test('of a row of failures the first is logged, and the success that ends it', (t) => {
  const lines: unknown[] = [];
  const logger = {
    warn: (fields: unknown, text: string) => void lines.push([fields, text]),
    info: (fields: unknown, text: string) => void lines.push([fields, text]),
  };
  const log = { logger, onFailure: 'cannot read', onRecovery: 'reading works again' };
  const retry = createRetry({ firstPauseMs: 1, longestPauseMs: 1, log });
  retry.succeeded();
  t.deepEqual(lines, [], 'nothing was wrong');
  const error = new Error('it is away');
  retry.failed(error);
  retry.failed(new Error('still'));
  retry.succeeded();
  retry.succeeded();
  t.deepEqual(lines, [
    [{ err: error }, 'cannot read'],
    [{ seconds: 0 }, 'reading works again'],
  ]);
});
