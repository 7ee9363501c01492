/**
 * The composition root: lists the parts, connects them, and stops them in the opposite order.
 *
 *     INSERT ─▶ trigger ─▶ NOTIFY ⇢ wakeups ⇢ tail ─▶ feed (SQL) ─▶ log ⇢ subscription ─▶ stream ─▶ http
 *
 * With NATS_URL the feed is an engine's, and so are the wake-ups: see source.ts. Solid arrows carry events, dashed ones only say "look".
 */
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { createAccess } from './access/access.js';
import { createLimits } from './access/connection-limits.js';
import { warnOfExcessRights } from './admin/excess-rights.js';
import type { Config } from './config/config.js';
import type { Log } from './feed/log.js';
import { readiness, type Readiness } from './feed/readiness.js';
import { caughtUp, openLog } from './feed/start-up.js';
import { startTail } from './feed/tail.js';
import { startWakeups } from './feed/wakeups.js';
import { startHttp, type Extension } from './http/routes.js';
import { observe, type PeerGroup } from './observation.js';
import { createUndeliverable } from './outbox/undeliverable.js';
import { openSource } from './source.js';
import { startHeartbeat } from './stream/heartbeat.js';
import { createHistories } from './stream/histories.js';
import { createBudget } from './stream/page-budget.js';
import { createPolls } from './stream/polls.js';
import { createStreams, type StreamStates } from './stream/streams.js';
import { startTracing } from './tracing/tracing.js';

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
  /** Undefined: it is the only process. */
  readonly group?: PeerGroup | undefined;
}

/**
 * Starts a relay on a migrated database.
 *
 * @throws the database's or the server's error at a first start; later it reconnects for ever.
 */
export async function startRelay({ config, logger, extend, ownDatabase, group }: RelayOptions): Promise<Relay> {
  const stops: (() => Promise<void> | void)[] = [];
  const stopAll = async () => {
    for (let stop = stops.pop(); stop; stop = stops.pop()) await stop();
  };

  try {
    const undeliverable = createUndeliverable(logger);
    const source = await openSource(config, { undeliverable, logger });
    const { feed, databases } = source;
    stops.push(source.close);
    if (!ownDatabase) void warnOfExcessRights(databases.distinct, logger);
    const log = await openLog(feed, config.windowBytes);
    const tracing = await startTracing(config, { feed, log, databases, logger });
    if (tracing) stops.push(tracing.stop);
    const tail = startTail({ ...(tracing?.observed ?? { feed, log }), logger });
    stops.push(tail.stop);
    const wakeups = await startWakeups(config, { feed, tail });
    stops.push(wakeups.stop);
    await caughtUp(feed, { log, tail }, config.queryTimeoutSeconds);

    const heartbeat = startHeartbeat({ seconds: config.heartbeatSeconds });
    stops.push(heartbeat.stop);
    const budget = createBudget(config.replayBytes);
    const sources = { databases, undeliverable, budget, log, tail };
    const { frames: history, envelopes } = createHistories(config, sources);
    const reading = { log, history, envelopes, budget, tail };
    const streams = createStreams(config, { ...reading, heartbeat, logger });
    const polls = createPolls(reading);
    const ready = () => readiness(tail, wakeups.watch);
    const served = { access: createAccess(config, logger), streams, polls, readiness: ready, logger };
    const observed = await observe(config, { ...sources, ...source, ...served, history, wakeups, group, tracing });
    stops.push(observed.close);
    const server = await startHttp(config, {
      ...served,
      limits: createLimits(config),
      metrics: config.publicMetrics ? observed.metrics : undefined,
      console: observed.console,
      onRefused: observed.refused,
      extend,
    });
    stops.push(server.close);
    // What was there before is not on its way to anybody.
    tail.onDelivered(tracing?.deliveredTo(observed) ?? observed.delivered);
    logger.info({ url: server.url, head: log.head.id }, 'listening');
    let stopping: Promise<void> | undefined;
    return {
      url: server.url,
      metricsUrl: observed.metricsUrl,
      registry: observed.metrics.registry,
      readiness: ready,
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
