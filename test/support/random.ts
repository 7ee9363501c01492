/**
 * Chance with a seed. Each actor of a run has a generator of its own, derived from the run's seed and the actor's name: so
 * what an actor decides depends on its own past alone, and not on who else was faster this time.
 */
export interface Random {
  /** From 0 up to, not including, 1. */
  next(): number;
  /** A whole number from `low` to `high`, both included. */
  integer(low: number, high: number): number;
  /** True with this probability. */
  chance(probability: number): boolean;
  pick<T>(items: readonly [T, ...T[]]): T;
  /** `count` different items, or all where there are fewer. */
  sample<T>(items: readonly T[], count: number): T[];
}

/** The seed in an environment variable, to repeat a run; else a new one. */
export function seedFromEnvironment(name = 'SEED'): number {
  const text = process.env[name];
  if (text === undefined || text === '') return Math.floor(Math.random() * 2 ** 32);
  const seed = Number(text);
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) {
    throw new RangeError(`${name}=${text}: expected a whole number from 0 to ${2 ** 32 - 1}`);
  }
  return seed;
}

export function randomOf(seed: number, actor: string): Random {
  // FNV-1a, so that actors of neighbouring names start far apart.
  let state = (seed ^ 0x811c9dc5) >>> 0;
  for (const character of actor) state = Math.imul(state ^ character.charCodeAt(0), 0x01000193) >>> 0;

  /** mulberry32, by Tommy Ettinger (public domain). */
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  function integer(low: number, high: number): number {
    return low + Math.floor(next() * (high - low + 1));
  }

  return {
    next,
    integer,
    chance: (probability) => next() < probability,
    pick: (items) => items[integer(0, items.length - 1)] ?? items[0],
    sample(items, count) {
      const rest = [...items];
      const taken = [];
      while (taken.length < count && rest.length > 0) taken.push(...rest.splice(integer(0, rest.length - 1), 1));
      return taken;
    },
  };
}
