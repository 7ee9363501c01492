/**
 * What an event in memory is said to cost, held against what it takes.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { createWindow } from '../src/feed/window.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes that this thread can still reach. */
function reachable(): number {
  // What the first leaves behind in weak maps and finalisers, the second takes.
  collect();
  collect();
  return process.memoryUsage().heapUsed;
}

for (const channels of [1, 1000, 50_000]) {
  test.serial(
    `R5: an event in the window takes no more memory beside its frame than it is counted with, and at least a fourth of that, on ${channels} channels`,
    (t) => {
      const events = 50_000;
      const size = 64;
      const frames = Buffer.alloc(events * size, 'x');
      const before = reachable();
      const window = createWindow();
      for (let n = 0; n < events; n += 1) {
        window.push({
          position: BigInt(n + 1),
          id: String(1_000_000_000 + n),
          channel: `channel:${n % channels}`,
          frame: frames.subarray(n * size, (n + 1) * size),
          kind: 'json',
          createdAt: 1.7e12 + n / 8,
        });
      }
      const taken = (reachable() - before) / events;
      const counted = window.bytes / events - size;
      t.true(taken <= counted && taken >= counted / 4, `an event takes ${taken} bytes and is counted with ${counted}`);
    },
  );
}
