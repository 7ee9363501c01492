/**
 * What `feed` does: runs a feeder until a signal comes, or, with --setup, makes and checks the
 * stream that it feeds.
 */
import { once } from 'node:events';
import { commandLine } from '../../command-name.js';
import { readConfig, type Config } from '../../config/config.js';
import { startFeeder } from '../../feeder.js';
import type { NatsLogSettings } from '../../nats/nats-log.js';
import { OperatorError } from '../../operator-error.js';
import { withDatabaseVariable } from '../face/errors.js';
import { openOutput } from '../terminal/output.js';
import { startFeedReport } from './feed-report.js';
import { setUpStream, type SetupOptions } from './feed-setup.js';
import { requireMigrated, stopAll, stopSignal } from './lifetime.js';
import { createLogger } from './logger.js';

export interface FeedOptions extends SetupOptions {
  readonly setup?: true;
}

/** @throws OperatorError, or what the database throws at the start */
export async function runFeed(options: FeedOptions): Promise<void> {
  const config = readConfig(process.env);
  const nats = requireNats(config);
  if (options.setup) return setUpStream(nats, options);
  const given = (['replicas', 'maxBytes', 'maxAge'] as const).find((name) => options[name] !== undefined);
  if (given !== undefined) {
    throw new OperatorError('usage', `A stream is made by --setup: ${commandLine('feed --setup --replicas 3')}`);
  }
  await feed(config, nats, options.json === true);
}

function requireNats({ nats }: Config): NatsLogSettings {
  if (nats) return nats;
  throw new OperatorError(
    'usage',
    `NATS_URL is not set, so there is nothing to feed. Run, with the role of a relay:
  DATABASE_URL=postgres://outbox_relay:password@host:5432/database NATS_URL=nats://feeder:password@host:4222 npx outbox-relay feed`,
  );
}

async function feed(config: Config, nats: NatsLogSettings, isReported: boolean): Promise<void> {
  if (config.databaseUrl === undefined) {
    throw new OperatorError(
      'no-database-url',
      'DATABASE_URL is not set, so there is no outbox to feed from. Set it, as for a relay, to the primary.',
    );
  }
  // Figures have standard output for themselves.
  const logger = await createLogger(config, isReported ? process.stderr : process.stdout);
  const stopped = stopSignal(logger);
  const stops: (() => Promise<void>)[] = [];
  try {
    await requireMigrated(config.databaseUrl);
    const started = startFeeder({ config, nats, logger });
    const { feeding, stop } = await withDatabaseVariable(config, config.listenDatabaseUrl, started);
    stops.push(stop);
    if (isReported) {
      const output = openOutput();
      const report = startFeedReport(feeding, nats.stream, output);
      stops.unshift(report.stop);
      const left = once(output.left, 'abort').then(() => undefined);
      const signal = await Promise.race([stopped, left]);
      logger.info({ signal }, signal === undefined ? 'stopping, as nobody reads the figures any more' : 'stopping');
    } else logger.info({ signal: await stopped }, 'stopping');
  } finally {
    await stopAll(stops, config.shutdownSeconds);
  }
  logger.info('stopped');
}
