/**
 * `config`: what the configuration comes to, and where each value comes from.
 */
import { effectiveSettings, type Setting } from '../../config/effective.js';
import { coloursFor, type Colours } from '../terminal/colours.js';
import { oneLine, safeJson } from '../terminal/terminal-text.js';

export function runConfig({ set, json }: { readonly set?: true; readonly json?: true }): void {
  const settings = effectiveSettings(process.env).filter(
    ({ from, expected }) => !set || from !== 'default' || expected,
  );
  if (settings.some(({ expected }) => expected !== undefined)) process.exitCode = 1;
  if (json) console.log(safeJson(settings));
  else if (settings.length === 0) console.log('Nothing is set: all is as by default.');
  else for (const setting of settings) console.log(settingText(setting, settings, coloursFor(process.stdout)));
}

function settingText({ name, value, from, expected }: Setting, all: readonly Setting[], colours: Colours): string {
  const width = Math.max(...all.map((setting) => setting.name.length));
  const shown = value === undefined ? colours.dim('-') : oneLine(value);
  const origin = from === 'default' ? '' : `  ${colours.dim(`(${/^[A-Z]/.test(from) ? `from ${from}` : from})`)}`;
  const problem =
    expected === undefined ? '' : `\n${' '.repeat(width)}  ${colours.red(`NOT VALID: expected ${expected}`)}`;
  return `${name.padEnd(width)}  ${shown}${origin}${problem}`;
}
