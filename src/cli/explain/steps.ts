/** An explanation, as it is printed. */
import { isGood, type Explanation, type Verdict } from '../../explain/steps.js';
import type { Colours } from '../terminal/colours.js';
import { oneLine, safeJson } from '../terminal/terminal-text.js';

export const explanationJson = (explanation: Explanation): string =>
  safeJson({ subject: explanation.subject, steps: explanation.steps, ok: isGood(explanation) });

const MARKS: Readonly<Record<Verdict, string>> = { yes: 'yes', no: 'NO', unknown: '?' };
const MARK_WIDTH = 5;

export function explanationText({ subject, steps }: Explanation, { bold, green, red, yellow }: Colours): string {
  const paint = { yes: green, no: red, unknown: yellow };
  const width = Math.max(...steps.map(({ step }) => step.length));
  const margin = ' '.repeat(MARK_WIDTH + width + 2);
  return [
    bold(oneLine(subject)),
    ...steps.flatMap(({ step, verdict, what, todo }) => [
      `${paint[verdict](MARKS[verdict].padEnd(MARK_WIDTH))}${step.padEnd(width)}  ${oneLine(what)}`,
      ...(todo === undefined ? [] : [`${margin}What to do: ${oneLine(todo)}`]),
    ]),
  ].join('\n');
}
