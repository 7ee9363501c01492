/**
 * What `start` and `demo` run until a signal comes: the relay, its workers, or the demo.
 */
import { startRetention } from '../../admin/retention.js';
import { commandLine } from '../../command-name.js';
import { readConfig, type Config } from '../../config/config.js';
import { channelFilter } from '../../event/channel-filter.js';
import { OperatorError } from '../../operator-error.js';
import { startRelay } from '../../relay.js';
import { withDatabaseVariable } from '../face/errors.js';
import { loadDemo } from './demo.js';
import { requireMigrated, stopAll, stopSignal } from './lifetime.js';
import { createLogger } from './logger.js';
import { disconnectFromPrimary, isWorker } from './primary.js';
import { signalReady, startWorkers, stopRequested, workerGroup } from './workers.js';

const NO_DATABASE = {
  DATABASE_URL: undefined,
  LISTEN_DATABASE_URL: undefined,
  RETENTION_DATABASE_URL: undefined,
  ARCHIVE_DATABASE_URL: undefined,
  NATS_URL: undefined,
};

/** Time that a process has to end by itself where a collector may owe it an answer. */
const FAREWELL_MS = 200;

/**
 * What to run. `relay`: on the database in DATABASE_URL, which a deployment must not lose in
 * silence. `demo`: on its own PostgreSQL. `either`: the relay where DATABASE_URL is set, else the
 * demo, as `npm start` does in the repository.
 */
export type What = 'relay' | 'demo' | 'either';

/**
 * Runs the relay or the demo; resolves when a signal came and all that was started has stopped,
 * last first.
 *
 * @throws OperatorError, or what the database or the server throws at the start; what was started
 * has stopped then, too
 */
export async function run(what: What): Promise<void> {
  const config = settings(what);
  const logger = await createLogger(config);
  // From the first moment: a signal during the start must not leave a database server behind.
  const stopped = isWorker ? stopRequested() : stopSignal(logger);
  const stops: (() => Promise<void>)[] = [];
  let streams: (() => number) | undefined;
  try {
    const databaseUrl = outboxUrl(config);
    if (databaseUrl !== undefined) {
      requireReaders(config);
      await withDatabaseVariable(config, databaseUrl, requireMigrated(databaseUrl));
      // One process prunes, and not each of its workers.
      const { retentionDatabaseUrl: url, retentionSeconds: keepSeconds } = config;
      if (!isWorker && keepSeconds !== undefined && url !== undefined) {
        const retention = await withDatabaseVariable(config, url, startRetention({ url, keepSeconds, logger }));
        stops.push(retention.stop);
      }
    }
    if (databaseUrl !== undefined && config.workers > 1 && !isWorker) {
      stops.push((await startWorkers({ ...config, count: config.workers, logger })).stop);
    } else {
      // Replays use DATABASE_URL, but no read of theirs can fail the start.
      const relay = databaseUrl
        ? await withDatabaseVariable(
            config,
            config.nats ? databaseUrl : config.listenDatabaseUrl,
            startRelay({ config, logger, group: workerGroup(config.workers) }),
          )
        : await (await loadDemo()).startDemo({ config, logger, onStop: (stop) => stops.push(stop) });
      stops.push(relay.stop);
      streams = () => relay.streams;
      signalReady(relay.registry);
    }
    const signal = await stopped;
    logger.info({ signal, ...(streams ? { streams: streams() } : {}) }, 'stopping');
  } finally {
    await stopAll(stops, config.shutdownSeconds);
  }
  logger.info('stopped');
  disconnectFromPrimary();
  // OpenTelemetry's exporter can't be called off, and would keep the process for ten seconds.
  if (config.tracing) setTimeout(() => process.exit(), FAREWELL_MS).unref();
}

function settings(what: What): Config {
  // The demo has its own database, whatever the environment says of others.
  const config = readConfig(what === 'demo' ? { ...process.env, ...NO_DATABASE } : process.env);
  if (outboxUrl(config) !== undefined || (what !== 'relay' && !config.nats)) return config;
  throw new OperatorError(
    'no-database-url',
    `DATABASE_URL is not set, so there is no outbox to read. Run, with the relay's own role:
  DATABASE_URL=postgres://outbox_relay:password@host:5432/database ${commandLine('')}
To look at a demo on a PostgreSQL of its own instead, in a clone of the repository: npm start`,
  );
}

/** Of the outbox that a relay is for; with NATS, of what it reads there; undefined: none is set. */
function outboxUrl({ databaseUrl, archiveDatabaseUrl, nats }: Config): string | undefined {
  return nats ? archiveDatabaseUrl : databaseUrl;
}

/** A relay that nobody may read from is not what somebody who starts one wants. */
function requireReaders({ tokens, forwardAuth, publicChannels }: Config): void {
  if (tokens || forwardAuth || publicChannels.key !== channelFilter([]).key) return;
  throw new OperatorError(
    'no-readers',
    `Nobody may listen yet, so there is nothing to run. Set at least one of these:
  JWT_SECRET, JWT_PUBLIC_KEY or JWKS_URL   clients bring tokens signed with that key, which name their channels
  FORWARD_AUTH_URL                         your application is asked who may read what
  PUBLIC_CHANNELS                          what anybody may read, as in PUBLIC_CHANNELS=news,status:*`,
  );
}
