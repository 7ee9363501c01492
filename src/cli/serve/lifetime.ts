/**
 * From the start to the end of what runs until a signal comes.
 */
import type { Logger } from 'pino';
import { commandLine } from '../../command-name.js';
import { OperatorError } from '../../operator-error.js';
import { migrationStatus } from '../../postgres/migrate.js';

/** Time beyond SHUTDOWN_SECONDS after which the process ends, whatever has not stopped. */
const SHUTDOWN_MARGIN_SECONDS = 5;

/** @throws OperatorError `not-migrated`, `newer-database` */
export async function requireMigrated(databaseUrl: string): Promise<void> {
  const { applied, pending, unknown } = await migrationStatus(databaseUrl);
  if (pending.length > 0) {
    const what = applied.length === 0 ? 'has no outbox yet' : `lacks ${pending.join(', ')}`;
    throw new OperatorError('not-migrated', `The database ${what}. As its owner, run: ${commandLine('migrate')}`);
  }
  if (unknown.length > 0) {
    throw new OperatorError(
      'newer-database',
      `The database is newer than this relay (${unknown.join(', ')}). Install the newest outbox-relay.`,
    );
  }
}

/** Resolves with the first SIGINT or SIGTERM; the second ends the process at once. */
export function stopSignal(logger: Logger): Promise<string> {
  return new Promise((resolve) => {
    let isStopping = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (isStopping) {
          logger.warn('asked twice: stopping without waiting');
          process.exit(1);
        }
        isStopping = true;
        resolve(signal);
      });
    }
  });
}

/** Stops all, last first. */
export async function stopAll(stops: (() => Promise<void>)[], shutdownSeconds: number): Promise<void> {
  setTimeout(() => process.exit(1), (shutdownSeconds + SHUTDOWN_MARGIN_SECONDS) * 1000).unref();
  for (let stop = stops.pop(); stop; stop = stops.pop()) await stop();
}
