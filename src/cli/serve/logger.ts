/**
 * The log of a process that runs until a signal comes: JSON for machines, text for people.
 */
import { pino, type Logger } from 'pino';
import type { Config } from '../../config/config.js';

/** Writes text where the output is a terminal, unless LOG_FORMAT says otherwise. */
export async function createLogger(
  { logLevel: level, logFormat }: Pick<Config, 'logLevel' | 'logFormat'>,
  output: NodeJS.WriteStream & { readonly fd: 1 | 2 } = process.stdout,
): Promise<Logger> {
  if ((logFormat ?? (output.isTTY ? 'text' : 'json')) === 'json') return pino({ level }, pino.destination(output.fd));
  // Only here: deployments have no use for it, and need not wait for it.
  const { default: pretty } = await import('pino-pretty');
  const textOf = pretty.prettyFactory({ ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l', singleLine: true });
  return pino({ level }, { write: (line) => void output.write(textOf(line)) });
}
