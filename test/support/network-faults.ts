/**
 * What a network does to the connections that go through a proxy.
 */
import type { Fault } from './fate.js';
import type { Proxy } from './proxy.js';
import type { Random } from './random.js';
import type { Shift } from './shift.js';

/** The longest that a fault lasts, in milliseconds; each time one of these is picked. */
const LENGTHS = [300, 1_500, 4_000, 8_000] as const;

/** @param line what the proxy leads to: stands in the names of the faults. */
export function networkFaults(
  proxy: Proxy,
  line: string,
  random: Random,
  shift: Shift,
): Readonly<Record<string, Fault>> {
  async function forAWhile(begin: () => void): Promise<void> {
    begin();
    await shift.pause(random.integer(0, random.pick(LENGTHS)));
    proxy.heal();
  }

  return {
    [`${line} cut`]: () => proxy.cut(),
    // Dead for ever: whoever is at the other end has to find out.
    [`${line} stranded`]: () => proxy.strand(),
    [`${line} refused`]: () => forAWhile(() => proxy.refuse()),
    [`${line} into a black hole`]: () => forAWhile(() => proxy.blackhole()),
    [`${line} delayed`]: () => forAWhile(() => proxy.delay(random.integer(10, 500))),
    [`${line} trickling`]: () => forAWhile(() => proxy.trickle(random.integer(1_000, 200_000))),
  };
}
