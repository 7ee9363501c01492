/**
 * The face of one command: its place in the list of all, what `--help` says of it, and the values
 * that its options take.
 */
import { InvalidArgumentError, type Command } from 'commander';
import { PROGRAM } from '../../command-name.js';
import { secondsIn, SPAN_FORM } from '../../config/duration.js';
import { describeVariables } from '../../config/variables.js';

/** Columns of help where the output is no terminal that tells its own. */
const HELP_COLUMNS = 100;

export interface About {
  readonly name: string;
  /** A few words, for the list of all commands. */
  readonly summary: string;
  readonly description: string;
  /** Names of the variables that matter; absent: none. */
  readonly environment?: readonly string[];
  readonly example: string;
}

/** Adds a command, for its options and its action to be added. */
export type Add = (about: About) => Command;

/** A span of time as it was given, for what is printed of it. */
export interface Span {
  readonly text: string;
  readonly seconds: number;
}

/** Columns that help may take. */
export const helpColumns = () => process.stdout.columns || HELP_COLUMNS;

export function addTo(program: Command): Add {
  return ({ name, summary, description, environment = [], example }) => {
    const line = example.replaceAll('outbox-relay ', `${PROGRAM} `);
    return program
      .command(name)
      .summary(summary)
      .description(description)
      .showHelpAfterError(`\nExample: ${line}\nAll options: ${PROGRAM} ${name} --help`)
      .addHelpText('after', ({ command }) => `${environmentText(command, environment)}\nExample:\n  ${line}`);
  };
}

/**
 * The action of a command whose code is loaded when it is run: whoever asks for a token does not
 * wait for the relay's.
 */
export function lazily<Args extends unknown[]>(
  load: () => Promise<(...args: Args) => unknown>,
): (...args: Args) => Promise<void> {
  return async (...args) => {
    const run = await load();
    await run(...args);
  };
}

function environmentText(command: Command, names: readonly string[]): string {
  if (names.length === 0) return '';
  const help = command.createHelp();
  help.prepareContext({ helpWidth: helpColumns() });
  const width = Math.max(...names.map((name) => name.length));
  const items = describeVariables()
    .filter(({ name }) => names.includes(name))
    .map(({ name, default: unset, description }) =>
      help.formatItem(name, width, `${description}${unset === undefined ? '' : ` (default: ${unset})`}`, help),
    );
  return `\nEnvironment:\n${items.join('\n')}\n`;
}

/** For an option that may be repeated. */
export const several = (value: string, previous: readonly string[] = []) => [...previous, value];

/** @throws InvalidArgumentError */
export function span(text: string): Span {
  const seconds = secondsIn(text);
  if (seconds === undefined) throw new InvalidArgumentError(`Expected ${SPAN_FORM}.`);
  return { text, seconds };
}

/** A whole number from 1 on. @throws InvalidArgumentError */
export function count(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a whole number from 1 to 999999999.');
}

/** How often a second. @throws InvalidArgumentError */
export function rate(text: string): number {
  const value = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && value >= 0.001 && value <= 100_000) return value;
  throw new InvalidArgumentError('Expected a number from 0.001 to 100000.');
}
