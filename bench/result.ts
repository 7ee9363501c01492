/** A result: what a part of the benchmark has found, as a table and as JSON. */

export interface Result {
  readonly part: string;
  /** What was measured, with units. */
  readonly title: string;
  /** All with the same columns. */
  readonly rows: readonly Readonly<Record<string, string | number>>[];
  /** The headline: against a baseline of the same run, or where there is none against the bar. */
  readonly ratio: number;
  readonly bar: {
    /** In words. */
    readonly is: string;
    /** Undefined where there is none. */
    readonly holds: boolean | undefined;
  };
}

const SIGNIFICANT = 4;

export function resultText({ title, rows, ratio, bar }: Result): string {
  const columns = Object.keys(rows[0] ?? {});
  const cells = [columns, ...rows.map((row) => columns.map((column) => cellText(row[column])))];
  const widths = columns.map((_, at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)));
  const lines = cells.map((row) =>
    row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join('  '),
  );
  const judgement = bar.holds === undefined ? '' : bar.holds ? '   holds' : '   DOES NOT HOLD';
  const verdict = `ratio ${cellText(ratio)}   bar: ${bar.is}${judgement}`;
  return [title, ...lines.map((line) => `  ${line}`), `  ${verdict}`].join('\n');
}

function cellText(value: string | number | undefined): string {
  if (typeof value !== 'number') return value ?? '';
  const digits = Math.max(0, SIGNIFICANT - 1 - Math.floor(Math.log10(Math.abs(value) || 1)));
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.min(digits, SIGNIFICANT));
}
