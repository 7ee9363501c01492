/**
 * What a network does to the connections that go through a proxy.
 */
import type { Fault } from './fate.js';
import type { Proxy } from './proxy.js';
import type { Random } from './random.js';
import type { Shift } from './shift.js';

/** The longest that a fault lasts, in milliseconds; each time one of these is picked. */
const LENGTHS = [300, 1_500, 4_000, 8_000] as const;

export type Line = Pick<Proxy, 'cut' | 'strand' | 'refuse' | 'blackhole' | 'delay' | 'trickle' | 'mute' | 'heal'>;

/** Several ways to one place as one: what happens to it happens to one of them, or to all. */
export function lineOf(proxies: readonly Proxy[], random: Random): Line {
  const some = () => (random.chance(0.5) ? proxies : random.sample(proxies, 1));
  const forSome =
    <Given extends readonly unknown[]>(act: (proxy: Proxy, ...given: Given) => void) =>
    (...given: Given) => {
      for (const proxy of some()) act(proxy, ...given);
    };
  return {
    cut: forSome((proxy) => proxy.cut()),
    strand: forSome((proxy) => proxy.strand()),
    refuse: forSome((proxy) => proxy.refuse()),
    blackhole: forSome((proxy) => proxy.blackhole()),
    delay: forSome((proxy, milliseconds: number) => proxy.delay(milliseconds)),
    trickle: forSome((proxy, rate: number) => proxy.trickle(rate)),
    mute: forSome((proxy) => proxy.mute()),
    heal() {
      for (const proxy of proxies) proxy.heal();
    },
  };
}

/** @param line what the proxy leads to: stands in the names of the faults. */
export function networkFaults(
  proxy: Line,
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
