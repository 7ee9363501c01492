/** Numbers, sizes and times as the page writes them. */

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

export const count = (value: number): string => whole.format(value);

/** `1 event`, `2 events`. */
export const counted = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`;

/** What fits on an axis: `12.3K`. */
export const short = (value: number): string => (value < 10_000 ? tenth.format(value) : compact.format(value));

/** A second: `0`, `3.4`, `1,234`. */
export const rate = (value: number): string => (value < 100 ? tenth : whole).format(value);

/** `512 B`, `4.1 kB`, `1.2 MB`, in steps of 1,000. */
export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let amount = value;
  let unit = 0;
  while (amount >= 999.5 && unit < units.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${unit > 0 && amount < 10 ? amount.toFixed(1) : whole.format(amount)} ${units[unit] ?? ''}`;
}

/** `0.4 ms`, `12 ms`, `3.2 s`. */
export function milliseconds(value: number): string {
  if (value >= 1000) return duration(value / 1000);
  return `${value < 10 ? tenth.format(value) : whole.format(value)} ms`;
}

/** `3.2 s`, `12 s`, `4 min 5 s`, `3 h 20 min`, `2 d 4 h`. */
export function duration(seconds: number): string {
  if (seconds < 10) return `${tenth.format(Math.max(0, seconds))} s`;
  if (seconds < MINUTE) return `${Math.floor(seconds)} s`;
  const [big, small, unit, rest] =
    seconds < HOUR
      ? [MINUTE, 1, 'min', 's']
      : seconds < DAY
        ? [HOUR, MINUTE, 'h', 'min']
        : ([DAY, HOUR, 'd', 'h'] as const);
  const remainder = Math.floor((seconds % big) / small);
  return `${whole.format(Math.floor(seconds / big))} ${unit}${remainder > 0 ? ` ${remainder} ${rest}` : ''}`;
}

/** How long ago: `just now`, `12 s ago`, `3 min ago`, `yesterday` not: `1 d 2 h ago`. */
export function ago(at: number, now: number): string {
  const seconds = (now - at) / 1000;
  if (seconds < -1) return `in ${duration(-seconds)}`;
  if (seconds < 2) return 'just now';
  return `${duration(seconds < HOUR && seconds >= MINUTE ? seconds - (seconds % MINUTE) : Math.floor(seconds))} ago`;
}

const clock = new Intl.DateTimeFormat('en', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});
const day = new Intl.DateTimeFormat('en', { year: 'numeric', month: 'short', day: 'numeric' });

/** `14:03:27` of this place; with the day, if that is another: `Nov 29, 2026, 14:03:27`. */
export function moment(at: number, now: number = Date.now()): string {
  const time = clock.format(at);
  return day.format(at) === day.format(now) ? time : `${day.format(at)}, ${time}`;
}

/** In full, for a title: here and in UTC. */
export const absolute = (at: number): string =>
  `${day.format(at)}, ${clock.format(at)} (${new Date(at).toISOString().replace('T', ' ').replace('.000Z', 'Z')})`;

/** Milliseconds from one ISO time to another, to the microsecond, which a Date does not have. */
export function between(from: string, to: string): number {
  const micros = (text: string) => Number(/\.\d{3}(\d{1,3})/.exec(text)?.[1]?.padEnd(3, '0') ?? 0) / 1000;
  return Date.parse(to) - Date.parse(from) + micros(to) - micros(from);
}
