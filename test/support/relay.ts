/**
 * A relay in this process, on a database of the test's own, and stopped with the test.
 */
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { readConfig } from '../../src/config/config.js';
import { startRelay, type Relay } from '../../src/relay.js';

export type Environment = Readonly<Record<string, string>>;

/**
 * Starts a relay with all channels open, unless `env` says otherwise; `env` is as the environment of the real thing.
 *
 * @param onLine called with each line of its log in JSON, from warnings on unless LOG_LEVEL says otherwise
 */
export async function startTestRelay(
  t: Pick<ExecutionContext, 'teardown'>,
  databaseUrl: string,
  env: Environment = {},
  onLine?: (line: string) => void,
): Promise<Relay> {
  const config = readConfig({
    PORT: '0',
    PUBLIC_CHANNELS: '*',
    SHUTDOWN_SECONDS: '2',
    ...env,
    DATABASE_URL: databaseUrl,
  });
  const logger = onLine
    ? pino({ level: env['LOG_LEVEL'] ?? 'warn' }, { write: onLine })
    : pino({ level: process.env['LOG_LEVEL'] ?? 'silent' });
  const relay = await startRelay({ config, logger });
  t.teardown(() => relay.stop());
  return relay;
}
