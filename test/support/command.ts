/**
 * The command as a user runs it: `outbox-relay …` in a process of its own, with nothing from this one's environment but
 * what a process needs.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  /** What it printed, on both outputs. */
  readonly output: string;
}

/** Runs the command to its end. */
export async function runCommand(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { PATH: process.env['PATH'] ?? '', ...env } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}

/**
 * Runs it to its end on a terminal of its own, by `script` of util-linux.
 *
 * @param answer typed when a question is asked, which ends with `] `
 */
export async function runOnTerminal(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  answer?: string,
): Promise<Outcome> {
  const command = [process.execPath, MAIN, ...args].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    env: { PATH: process.env['PATH'] ?? '', SHELL: '/bin/sh', TERM: 'xterm', ...env },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      const wasAsked = output.includes('] ');
      output += String(chunk);
      if (answer !== undefined && !wasAsked && output.includes('] ')) child.stdin.write(answer);
    });
  }
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}
