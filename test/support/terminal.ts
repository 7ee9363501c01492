/**
 * A real terminal, by tmux: what a command has on the screen, whatever escape sequences brought it there, and keys.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { MAIN } from './command.js';
import type { Environment } from './relay.js';

export interface Terminal {
  /** What is on the screen. */
  screen(): Promise<string>;
  /** Resolves with the screen once it has that, or fails with what it has had for so long. */
  until(text: string | RegExp): Promise<string>;
  /** Keys as tmux calls them: `q`, `C-c`. */
  press(key: string): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
  /** What the command has set as the terminal's title. */
  title(): Promise<string>;
}

/** Commands start slowly on a machine that is busy. */
const DEADLINE_MS = 40_000;
const PAUSE_MS = 50;
/** Printed when it has ended, with its exit code. */
export const ENDED = 'has ended with';

/** Runs the command, and then a shell's line that says how it ended. All of it ends with the test. */
export async function openTerminal(
  t: Pick<ExecutionContext, 'teardown'>,
  args: readonly string[],
  env: Environment = {},
  [columns, rows]: readonly [number, number] = [80, 24],
): Promise<Terminal> {
  const socket = `outbox-relay-${randomUUID()}`;
  const tmux = async (...words: string[]) =>
    (await promisify(execFile)('tmux', ['-f', '/dev/null', '-L', socket, ...words])).stdout;
  const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;
  const variables = Object.entries(env).map(([name, value]) => quoted(`${name}=${value}`));
  const command = ['env', ...variables, process.execPath, MAIN, ...args.map(quoted)].join(' ');
  await tmux(
    ...['new-session', '-d', '-x', String(columns), '-y', String(rows)],
    `${command}; echo "${ENDED} $?"; exec sleep 1000`,
  );
  t.teardown(() => tmux('kill-server').catch(() => undefined));

  const screen = () => tmux('capture-pane', '-p');
  return {
    screen,
    async until(text) {
      for (const end = Date.now() + DEADLINE_MS; ; await delay(PAUSE_MS)) {
        const shown = await screen();
        if (typeof text === 'string' ? shown.includes(text) : text.test(shown)) return shown;
        if (Date.now() > end) throw new Error(`The terminal has no ${String(text)}:\n${shown}`);
      }
    },
    async press(key) {
      await tmux('send-keys', key);
    },
    async resize(width, height) {
      await tmux('resize-window', '-x', String(width), '-y', String(height));
    },
    title: async () => (await tmux('display-message', '-p', '#{pane_title}')).trim(),
  };
}
