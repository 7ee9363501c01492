/**
 * Commands that run for a while, in a process of their own: what they print as it comes, what is typed, and how they end.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { ExecutionContext } from 'ava';
import { MAIN } from './command.js';
import type { Environment } from './relay.js';

export interface RunningCommand {
  /** What it has printed so far. */
  readonly out: string;
  readonly err: string;
  /** Resolves once it has printed that on standard output (by default), or fails with what it has printed when it ends before. */
  until(text: string | RegExp, on?: 'out' | 'err'): Promise<void>;
  /** Resolves once it has printed so many lines on standard output. */
  untilLines(count: number): Promise<string[]>;
  /** Gives it standard input, and ends that. */
  type(text: string | Buffer): void;
  /** No more of standard output is read, as `head` does it. */
  stopReading(): void;
  signal(name: 'SIGINT' | 'SIGTERM'): void;
  /** Resolves with its exit code, or the signal that ended it. */
  readonly ended: Promise<number | string | null>;
}

/** Starts it; it is killed with the test if it has not ended. */
export function startCommand(
  t: Pick<ExecutionContext, 'teardown'>,
  args: readonly string[],
  env: Environment = {},
): RunningCommand {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { PATH: process.env['PATH'] ?? '', ...env } });
  const printed = { out: '', err: '' };
  const looks = new Set<() => void>();
  const look = () => looks.forEach((again) => again());
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed.out += text;
    look();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    printed.err += text;
    look();
  });
  child.stdin.on('error', () => undefined);
  let hasEnded = false;
  const ended = (async () => {
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    hasEnded = true;
    look();
    return code ?? signal;
  })();
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });

  function until(isThere: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const again = () => {
        if (!isThere() && !hasEnded) return;
        looks.delete(again);
        if (isThere()) resolve();
        else reject(new Error(`${args.join(' ')} has ended:\n${printed.out}${printed.err}`));
      };
      looks.add(again);
      again();
    });
  }
  const lines = () => printed.out.split('\n').slice(0, -1);
  return {
    get out() {
      return printed.out;
    },
    get err() {
      return printed.err;
    },
    until: (text, on = 'out') =>
      until(() => (typeof text === 'string' ? printed[on].includes(text) : text.test(printed[on]))),
    async untilLines(count) {
      await until(() => lines().length >= count);
      return lines();
    },
    type: (text) => child.stdin.end(text),
    stopReading: () => child.stdout.destroy(),
    signal: (name) => void child.kill(name),
    ended,
  };
}
