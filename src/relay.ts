/**
 * The composition root: lists the parts, connects them, and stops them in the opposite order.
 *
 *     INSERT ─▶ trigger ─▶ NOTIFY ⇢ wakeups ⇢ tail ─▶ feed (SQL) ─▶ log ⇢ subscription ─▶ stream ─▶ http
 *
 * Solid arrows carry events, dashed ones only say "look".
 */
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { createAccess } from './access/access.js';
import { createLimits } from './access/connection-limits.js';
import { warnOfExcessRights } from './admin/roles.js';
import type { Config } from './config/config.js';
import type { Log } from './feed/log.js';
import { readiness, type Readiness } from './feed/readiness.js';
import { caughtUp, openLog } from './feed/start-up.js';
import { startTail } from './feed/tail.js';
import { startWakeups } from './feed/wakeups.js';
import { startHttp, type Extension } from './http/routes.js';
import { serveMetricsAlone } from './http/metrics-route.js';
import { createMetrics } from './metrics/metrics.js';
import { openDatabases } from './outbox/databases.js';
import { createPostgresArchive } from './outbox/postgres-archive.js';
import { createPostgresFeed } from './outbox/postgres-feed.js';
import { createUndeliverable } from './outbox/undeliverable.js';
import { startHeartbeat } from './stream/heartbeat.js';
import { createHistory } from './stream/history.js';
import { createBudget } from './stream/page-budget.js';
import { createStreams, type StreamStates } from './stream/streams.js';

export interface Relay {
  /** Where it is served, without a path. */
  readonly url: string;
  /** Where its metrics are, if they have a port of their own. */
  readonly metricsUrl: string | undefined;
  /** Its metrics, for whoever adds up those of several processes. */
  readonly registry: Registry;
  /** Whether it delivers, and what keeps it from delivering all that there is. */
  readiness(): Readiness;
  readonly log: Log;
  /** Streams that are open. */
  readonly streams: number;
  /** How many of them are live, catching up, or stalled. */
  byState(): StreamStates;
  /** Bytes of replay pages that clients have not taken yet. */
  readonly waitingBytes: number;
  /** Stops accepting, ends the streams, closes the database. Safe to call twice. */
  stop(): Promise<void>;
}

export interface RelayOptions {
  readonly config: Config;
  readonly logger: Logger;
  /** Adds routes, as the demo does. */
  readonly extend?: Extension;
  /** The database is the relay's own, as in the demo: its role may do all. Default: false. */
  readonly ownDatabase?: boolean;
}

/**
 * Starts a relay on a migrated database.
 *
 * @throws the database's or the server's error at a first start; later it reconnects for ever.
 */
export async function startRelay({ config, logger, extend, ownDatabase }: RelayOptions): Promise<Relay> {
  const stops: (() => Promise<void> | void)[] = [];
  const stopAll = async () => {
    for (let stop = stops.pop(); stop; stop = stops.pop()) await stop();
  };

  try {
    const databases = openDatabases(config, logger);
    stops.push(databases.live.close, databases.history.close);
    // Not waited for: where replays have a pooler of their own, it may be away.
    if (!ownDatabase) void warnOfExcessRights(databases.distinct, logger);
    const undeliverable = createUndeliverable(logger);
    const archive = createPostgresArchive(databases.history.db, undeliverable);
    const feed = createPostgresFeed(config, { databases, undeliverable, logger });
    const log = await openLog(feed, config.windowBytes);
    const tail = startTail({ feed, log, logger });
    stops.push(tail.stop);
    const wakeups = await startWakeups(config, { feed, tail });
    stops.push(wakeups.stop);
    await caughtUp(feed, log, config.queryTimeoutSeconds);

    const heartbeat = startHeartbeat({ seconds: config.heartbeatSeconds });
    stops.push(heartbeat.stop);
    const budget = createBudget(config.replayBytes);
    const history = createHistory(archive, budget, { connections: config.historyConnections, log });
    const streams = createStreams(config, { log, history, budget, heartbeat, tail, logger });

    const metrics = createMetrics(config, { streams, log, history, budget, tail, wakeups, undeliverable, databases });
    const metricsServer = config.workers === 1 ? await serveMetricsAlone(config, metrics, logger) : undefined;
    if (metricsServer) stops.push(metricsServer.close);
    const server = await startHttp(config, {
      access: createAccess(config, logger),
      limits: createLimits(config),
      streams,
      metrics: config.publicMetrics ? metrics : undefined,
      onRefused: metrics.refused,
      readiness: () => readiness(tail, wakeups.watch),
      logger,
      extend,
    });
    stops.push(server.close);
    // What was there before is not on its way to anybody.
    tail.onDelivered(metrics.delivered);
    logger.info({ url: server.url, head: log.head.id }, 'listening');

    let stopping: Promise<void> | undefined;
    return {
      url: server.url,
      metricsUrl: metricsServer?.metricsUrl,
      registry: metrics.registry,
      readiness: () => readiness(tail, wakeups.watch),
      log,
      get streams() {
        return streams.count;
      },
      byState: streams.byState,
      get waitingBytes() {
        return budget.heldBytes;
      },
      stop: () => (stopping ??= stopAll()),
    };
  } catch (error) {
    await stopAll().catch(() => undefined);
    throw error;
  }
}
