/**
 * A finding: what the doctor says of one thing that it looked at, and how that is printed. Trouble
 * comes with the reason why it matters and with what to run; nothing here may show an address,
 * which can hold a password.
 */

/**
 * | level       | meaning                                                                    | exit code |
 * |-------------|----------------------------------------------------------------------------|-----------|
 * | `ok`        | as it should be                                                            | 0         |
 * | `unchecked` | could not be looked at, mostly for want of a right                         | 0         |
 * | `warning`   | no event is lost by it, but it costs time, room or safety                  | 0         |
 * | `error`     | events are not delivered, cursors may be wrong, or both may be the case    | 1         |
 */
export type Level = 'ok' | 'unchecked' | 'warning' | 'error';

/** What to run. Statements are run one by one, as psql does: some refuse a transaction. */
export type Fix =
  | { readonly as: string; readonly sql: readonly string[] }
  | { readonly as: string; readonly command: string }
  | { readonly advice: string };

export interface Finding {
  readonly level: Level;
  readonly what: string;
  readonly why?: string;
  readonly fix?: Fix;
  /** Nothing else is worth a look until this is mended. */
  readonly isFinal?: boolean;
}

export interface Result {
  readonly check: string;
  readonly findings: readonly Finding[];
}

export const ok = (what: string): Finding => ({ level: 'ok', what });

export function hasErrors(results: readonly Result[]): boolean {
  return results.some(({ findings }) => findings.some(({ level }) => level === 'error'));
}

/** All findings as lines of text, and a last line that counts them. */
export function resultsText(results: readonly Result[]): string {
  const width = Math.max(...results.map(({ check }) => check.length));
  const findings = results.flatMap(({ findings }) => findings);
  const count = (level: Level) => findings.filter((finding) => finding.level === level).length;
  return [
    ...results.flatMap(({ check, findings }) => findings.map((finding) => findingText(check.padEnd(width), finding))),
    '',
    `${counted(count('error'), 'error')}, ${counted(count('warning'), 'warning')}, ${count('unchecked')} not checked, ${count('ok')} fine`,
  ].join('\n');
}

const counted = (count: number, word: string) => `${count} ${word}${count === 1 ? '' : 's'}`;

const WORDS: Readonly<Record<Level, string>> = {
  ok: 'ok         ',
  unchecked: 'not checked',
  warning: 'WARNING    ',
  error: 'ERROR      ',
};

function findingText(check: string, { level, what, why, fix }: Finding): string {
  const margin = ' '.repeat(4);
  return [
    `${WORDS[level]}  ${check}  ${what}`,
    ...(why === undefined ? [] : [`${margin}Why: ${why}`]),
    ...(fix === undefined ? [] : `What to do: ${fixText(fix)}`.split('\n').map((line) => margin + line)),
  ].join('\n');
}

/** What to do, in one text. */
export const fixText = (fix: Fix): string => fixLines(fix).join('\n');

/** The same, a line each; what is to be typed is indented. */
function fixLines(fix: Fix): string[] {
  if ('advice' in fix) return [fix.advice];
  // Whatever is indented, also inside of a function's body, psql takes as well.
  const lines = 'sql' in fix ? fix.sql.flatMap((statement) => `${statement};`.split('\n')) : [fix.command];
  return [
    `${'sql' in fix ? 'in psql' : 'run'}, as ${fix.as}:`,
    ...lines.map((line) => (line === '' ? '' : `  ${line}`)),
  ];
}

/** A span of time in the unit that suits it. */
export function span(seconds: number): string {
  if (seconds >= 2 * 86_400) return `${Math.floor(seconds / 86_400)} days`;
  if (seconds >= 2 * 3600) return `${Math.floor(seconds / 3600)} hours`;
  if (seconds >= 120) return `${Math.floor(seconds / 60)} minutes`;
  return `${Math.round(seconds * 10) / 10} seconds`;
}
