/**
 * The run: the relay as a process, alone or with workers, or the demo. Owns signals, and the order in which what runs is
 * started and stopped.
 */
import cluster from 'node:cluster';
import path from 'node:path';
import v8 from 'node:v8';
import { pino, type Logger } from 'pino';
import { channelFilter } from '../event/channel-filter.js';
import { readConfig, type Config } from '../config/config.js';
import { reaching, UserError } from './errors.js';
import { migrate, migrationStatus } from '../postgres/migrate.js';
import { startRelay, type Relay } from '../relay.js';
import { startRetention } from '../admin/retention.js';
import { version } from './version.js';
import { hangUp, startWorkers, tellServing, toldToStop } from './workers.js';

/**
 * By how much the heap may grow, in percent of what is live, before V8 collects the old part of it. By itself V8 lets it become
 * several times as large: then a crowd that comes and goes leaves tens of MiB of garbage resident, much more than it needs itself.
 */
const HEAP_GROWING_PERCENT = 30;

const NO_DATABASE = { DATABASE_URL: undefined, LISTEN_DATABASE_URL: undefined, RETENTION_DATABASE_URL: undefined };

/**
 * What is to run. `relay`: the relay, on the database in DATABASE_URL, which a deployment must not lose in silence. `demo`: the demo.
 * `either`: the relay where there is a DATABASE_URL, else the demo; so `npm start` does in the repository.
 */
export type What = 'relay' | 'demo' | 'either';

/**
 * Runs the relay or the demo until a signal comes; whatever was started is stopped then, in order.
 *
 * @throws UserError where the relay has no DATABASE_URL
 */
export async function run(what: What): Promise<void> {
  v8.setFlagsFromString(`--heap-growing-percent=${HEAP_GROWING_PERCENT}`);
  const config = settings(what);
  const logger = pino({ level: config.logLevel });
  // Heard from the first moment: a signal during start-up must not leave a database server behind.
  const stopped = cluster.isWorker ? toldToStop() : stopSignal(logger);
  const stops: (() => Promise<void>)[] = [];
  let streams: (() => number) | undefined;
  try {
    if (config.databaseUrl) {
      requireReaders(config);
      await requireMigrated(config.databaseUrl);
      // One process prunes, and not each of its workers.
      const { retentionDatabaseUrl: url } = config;
      if (cluster.isPrimary) await reaching(config, url, keepPruned(config, url, logger, stops));
    }
    if (config.databaseUrl && config.workers > 1 && cluster.isPrimary) {
      stops.push((await startWorkers({ ...config, count: config.workers, logger })).stop);
    } else {
      // Replays have DATABASE_URL, but nothing is replayed to anybody yet.
      const relay = config.databaseUrl
        ? await reaching(config, config.listenDatabaseUrl, startRelay({ config, logger }))
        : await runDemo(config, logger, stops);
      stops.push(relay.stop);
      streams = () => relay.streams;
      tellServing();
    }
    const signal = await stopped;
    logger.info({ signal, ...(streams ? { streams: streams() } : {}) }, 'stopping');
  } finally {
    const deadline = setTimeout(() => process.exit(1), (config.shutdownSeconds + 5) * 1000);
    deadline.unref();
    for (let stop = stops.pop(); stop; stop = stops.pop()) await stop();
  }
  logger.info('stopped');
  hangUp();
}

function settings(what: What): Config {
  // The demo has a database of its own, whatever the environment says of others.
  const config = readConfig(what === 'demo' ? { ...process.env, ...NO_DATABASE } : process.env);
  if (config.databaseUrl !== undefined || what !== 'relay') return config;
  throw new UserError(`DATABASE_URL is not set, so there is no outbox to read. Run, with the relay's own role:
  DATABASE_URL=postgres://outbox_relay:password@host:5432/database npx outbox-relay
To look at a demo on a PostgreSQL of its own instead, on this machine only: npx outbox-relay demo`);
}

/** Where `RETENTION` asks for it. */
async function keepPruned(
  { retentionSeconds: keepSeconds }: Config,
  url: string | undefined,
  logger: Logger,
  stops: (() => Promise<void>)[],
): Promise<void> {
  if (keepSeconds === undefined || url === undefined) return;
  stops.push((await startRetention({ url, keepSeconds, logger })).stop);
}

/** Nobody could read anything: that is not what somebody who starts a relay wants. */
function requireReaders({ tokens, forwardAuth, publicChannels }: Config): void {
  if (tokens || forwardAuth || publicChannels.key !== channelFilter([]).key) return;
  throw new UserError(`Nobody may listen yet, so there is nothing to run. Set at least one of these:
  JWT_SECRET, JWT_PUBLIC_KEY or JWKS_URL   clients bring tokens signed with that key, which name their channels
  FORWARD_AUTH_URL                         your application is asked who may read what
  PUBLIC_CHANNELS                          what anybody may read, as in PUBLIC_CHANNELS=news,status:*`);
}

async function requireMigrated(databaseUrl: string): Promise<void> {
  const { applied, pending, unknown } = await migrationStatus(databaseUrl);
  if (pending.length > 0) {
    const what = applied.length === 0 ? 'has no outbox yet' : `lacks ${pending.join(', ')}`;
    throw new UserError(`The database ${what}. As its owner, run: npx outbox-relay migrate`);
  }
  if (unknown.length > 0) {
    throw new UserError(
      `The database is newer than this relay (${unknown.join(', ')}). Install the newest outbox-relay.`,
    );
  }
}

async function runDemo(config: Config, logger: Logger, stops: (() => Promise<void>)[]): Promise<Relay> {
  if (!isLoopback(config.host)) {
    throw new UserError(
      `The demo is open to all who reach it, so it stays on loopback; HOST=${config.host} needs DATABASE_URL.`,
    );
  }
  if (config.workers > 1) throw new UserError('The demo is one process; WORKERS needs DATABASE_URL.');
  const { createDemo } = await import('../../packages/demo/demo.js');
  const { startEmbedded } = await import('../../packages/embedded-postgres/embedded.js');
  console.log('Starting a PostgreSQL of its own, with its data in .data/ …');
  const server = await startEmbedded({ dataDirectory: path.resolve('.data') });
  stops.push(() => server.stop());
  await migrate(server.url, 'up');
  await keepPruned(config, server.url, logger, stops);
  const demo = await createDemo({ ...config, databaseUrl: server.url, version: version() });
  stops.push(demo.stop);
  const relay = await startRelay({
    config: { ...config, databaseUrl: server.url, listenDatabaseUrl: server.url, publicChannels: channelFilter(['*']) },
    logger,
    extend: demo,
    ownDatabase: true,
  });
  console.log(`
  outbox-relay ${version()}, demo: all channels are open, on loopback only.

    Page      ${relay.url}/
    Stream    curl -N '${relay.url}/events?channel=orders'
    Publish   psql '${server.url}' \\
                -c "INSERT INTO outbox (channel, data) VALUES ('orders', '{\\"order\\": 1}')"

  For your own database set DATABASE_URL. Ctrl-C stops it.
`);
  return relay;
}

/** Resolves at the first SIGINT or SIGTERM; the second ends the process at once. */
function stopSignal(logger: Logger): Promise<string> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (asked) {
          logger.warn('asked twice: stopping without waiting');
          process.exit(1);
        }
        asked = true;
        resolve(signal);
      });
    }
  });
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}
