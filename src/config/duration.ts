/**
 * A span of time as people write it: `90s`, `30m`, `12h`, `7d`. Units are in lower case: `1M` might
 * be meant for a month, and would delete what is older than a minute.
 */

/** What is expected of one, for messages. */
export const SPAN_FORM = 'a number with a unit, as in 90s, 15m, 1h or 7d';

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** A hundred years: more is a slip, and may lead to a time that PostgreSQL cannot represent. */
const LONGEST = 36_500 * 86_400;

/** In seconds; undefined where the text is none, or none that is longer than nothing. */
export function secondsIn(text: string): number | undefined {
  const [, number, unit] = /^(\d+)([smhd])$/.exec(text) ?? [];
  const seconds = Number(number) * (UNITS[unit ?? ''] ?? 0);
  return seconds > 0 && seconds <= LONGEST ? seconds : undefined;
}
