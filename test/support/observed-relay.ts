/**
 * A relay in a process of its own of which everything is seen: each byte that it prints, what it uses, and how it ends.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Usage } from './probe.js';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));
const PROBE = new URL('./probe.js', import.meta.url).href;

export interface ObservedRelay {
  readonly url: string;
  readonly pid: number;
  /** All that it has logged. */
  readonly output: string;
  /** All that it has written on standard error, which a sound relay leaves empty. */
  readonly errors: string;
  /** Whether it has ended by itself. */
  readonly hasEnded: boolean;
  measure(): Promise<Usage>;
  /** Ends it with SIGTERM; resolves with the exit code, or the name of the signal that ended it. */
  stop(): Promise<number | string | null>;
  kill(): void;
}

/**
 * Starts the command with exactly this environment; resolves when it serves.
 *
 * @param collects whether it collects all garbage before it tells of its heap, which costs CPU time; true by default
 */
export async function startObservedRelay(
  env: Readonly<Record<string, string>>,
  { collects = true }: { readonly collects?: boolean } = {},
): Promise<ObservedRelay> {
  const child = spawn(process.execPath, [...(collects ? ['--expose-gc'] : []), '--import', PROBE, MAIN], {
    env: { PATH: process.env['PATH'] ?? '', PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  let output = '';
  let errors = '';
  let hasEnded = false;
  void closed.then(() => (hasEnded = true));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const url = await new Promise<string>((serves, failed) => {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      const address = /"url":"(http:[^"]+)".*"msg":"listening"/.exec(output)?.[1];
      if (address !== undefined) serves(address);
    });
    void closed.then(() => failed(new Error(`the relay did not start:\n${output}${errors}`)));
  });

  return {
    url,
    pid: child.pid ?? 0,
    get output() {
      return output;
    },
    get errors() {
      return errors;
    },
    get hasEnded() {
      return hasEnded;
    },
    async measure() {
      child.send('measure');
      const ended = closed.then(() => {
        throw new Error(`the relay has ended:\n${output.slice(-2000)}${errors}`);
      });
      const [usage] = (await Promise.race([once(child, 'message'), ended])) as [Usage];
      return usage;
    },
    async stop() {
      child.kill('SIGTERM');
      const [code, signal] = await closed;
      return code ?? signal;
    },
    kill: () => void child.kill('SIGKILL'),
  };
}
