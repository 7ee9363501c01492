/**
 * Numbers as people read them; `-` where there is none.
 */

/** With commas between thousands. */
export const grouped = (value: number | undefined) =>
  value === undefined ? '-' : Math.round(value).toLocaleString('en');

/** In a unit that suits it, by powers of 1,024. */
export function bytes(value: number | undefined): string {
  if (value === undefined) return '-';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = value < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  const scaled = value / 1024 ** power;
  return `${power === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${units[power] ?? ''}`;
}
