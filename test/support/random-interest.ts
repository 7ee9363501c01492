/**
 * The channels of the random tests, and what their clients ask for.
 */
import type { Random } from './random.js';

/** Overlapping families, some busy, some quiet, so that filters share channels. */
export const CHANNELS = [
  'user:1',
  'user:2',
  'user:12',
  'org:7:a',
  'org:7:b',
  'org:7:b:deep',
  'org:70:a',
  'news',
  'orders',
  'quiet:1',
] as const;

const PATTERNS = ['user:*', 'org:*', 'org:7:*', 'org:7:b:*', 'quiet:*'] as const;

/** Single channels, several, families, families within families, everything, and overlaps. */
export function randomInterest(random: Random): string[] {
  if (random.chance(0.1)) return ['*'];
  if (random.chance(0.3)) return [random.pick(CHANNELS)];
  if (random.chance(0.3)) return [random.pick(PATTERNS)];
  return random.sample([...CHANNELS, ...PATTERNS], random.integer(2, 5));
}

/** Whether somebody who asked for these names is owed what a channel has. None of the relay's code. */
export function isWanted(names: readonly string[], channel: string): boolean {
  return names.some((name) => (name.endsWith('*') ? channel.startsWith(name.slice(0, -1)) : channel === name));
}
