/**
 * The composition root: makes the parts, hands each what it needs, and starts and stops them in order.
 *
 *     INSERT ─▶ trigger ─▶ NOTIFY ⇢ listener ⇢ tail ─▶ outbox (SQL) ─▶ log ⇢ subscription ─▶ stream ─▶ http
 *
 * Solid arrows carry events, dashed ones only say "look".
 */
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { createAccess } from './access/access.js';
import { createBudget } from './stream/page-budget.js';
import type { Config } from './config/config.js';
import { openDatabase } from './postgres/pool.js';
import { startHeartbeat } from './stream/heartbeat.js';
import { createHistory } from './stream/history.js';
import { startHttp, type Extension, type Trouble } from './http/http.js';
import { createLimits } from './access/connection-limits.js';
import { startListener } from './feed/listener.js';
import { createLog, type Log } from './feed/log.js';
import { METRICS_PATH, serveMetrics } from './http/metrics-route.js';
import { createMetrics } from './metrics/metrics.js';
import { createOutbox, databaseFigures, notify } from './outbox/postgres-source.js';
import { warnOfExcessRights } from './admin/roles.js';
import { createStreams, type StreamStates } from './stream/streams.js';
import { startTail } from './feed/tail.js';
import { createUndeliverable } from './outbox/undeliverable.js';

export interface Relay {
  /** Where it is served, without a path. */
  readonly url: string;
  /** Where its metrics are, if they have a port of their own. */
  readonly metricsUrl: string | undefined;
  /** Its metrics, for whoever adds up those of several processes. */
  readonly registry: Registry;
  /** Why it can't deliver now; empty when it can. */
  notReady(): Trouble[];
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

/** The window starts with so many of the newest events, so that clients which a restart cut off resume from memory. */
const PRELOAD_EVENTS = 10_000;

/** To the operator, of a client whose resumes are repeated. */
const STUCK =
  'a client comes back to the same cursor again and again: it may be unable to take the event that follows, as clients whose ' +
  'buffers hold 64 KiB (r3labs/sse, go-sse) are with a larger one: raise their limit, or publish a reference in place of what is ' +
  'large; or its page comes from a cache, with an old cursor in it';

/** What the migrations' triggers notify of when events are redacted or deleted. */
const CHANGED = 'changed';

/** How long the tail may take to catch up, in milliseconds, before the relay is not ready: a large transaction takes a moment. */
const BEHIND_GRACE = 2000;

/**
 * Starts a relay on a migrated database.
 *
 * @throws the database's or the server's error: a first start fails fast; from then on it reconnects for ever.
 */
export async function startRelay({ config, logger, extend, ownDatabase }: RelayOptions): Promise<Relay> {
  const { databaseUrl, listenDatabaseUrl } = config;
  if (databaseUrl === undefined || listenDatabaseUrl === undefined) throw new TypeError('a relay needs a database');

  const stops: (() => Promise<void> | void)[] = [];
  const stopAll = async () => {
    for (let stop = stops.pop(); stop; stop = stops.pop()) await stop();
  };

  try {
    let onConnected: () => void = () => undefined;
    const live = openDatabase({
      url: listenDatabaseUrl,
      applicationName: 'outbox-relay tail',
      connections: 1,
      // A dead connection is found within the limit; what is left of it is for the read on the next.
      timeoutSeconds: config.listenTimeoutSeconds / 2,
      longestTimeoutSeconds: Math.max(config.listenTimeoutSeconds, config.queryTimeoutSeconds),
      // Connecting would delay the first event after a quiet time.
      keepsIdle: true,
      onConnected: () => onConnected(),
      log: logger,
    });
    stops.push(live.close);
    const replays = openDatabase({
      timeoutSeconds: Math.min(config.listenTimeoutSeconds, config.queryTimeoutSeconds),
      longestTimeoutSeconds: config.queryTimeoutSeconds,
      log: logger,
      url: databaseUrl,
      applicationName: 'outbox-relay history',
      connections: config.historyConnections,
    });
    stops.push(replays.close);
    // Not waited for: where replays have a pooler of their own, it may be away.
    if (!ownDatabase) {
      void warnOfExcessRights(listenDatabaseUrl === databaseUrl ? [live.db] : [live.db, replays.db], logger);
    }

    const undeliverable = createUndeliverable(logger);
    const source = createOutbox(live.db, replays.db, undeliverable);
    const start = await source.nearHead({ events: PRELOAD_EVENTS, bytes: Math.floor(config.windowBytes / 4) });
    const log = createLog(start, { bytes: config.windowBytes });
    let isServing = false;
    const tail = startTail({
      source,
      log,
      sweepSeconds: config.sweepSeconds,
      logger,
      onDelivered(events) {
        // What was there before is not on its way to anybody.
        if (isServing) for (const { createdAt } of events) metrics.delivered(createdAt);
      },
    });
    stops.push(tail.stop);
    onConnected = tail.doubt;

    let poll: NodeJS.Timeout | undefined;
    stops.push(() => clearInterval(poll));
    function look(): void {
      // A pooler may have led us elsewhere without our connection having ended. Not amid a read, which would be thrown away: where
      // one takes longer than the pause between two polls, none would ever count.
      if (!tail.isReading) tail.doubt();
      tail.check();
    }

    const listener = await startListener({
      url: listenDatabaseUrl,
      applicationName: 'outbox-relay listener',
      timeoutSeconds: config.listenTimeoutSeconds,
      logger,
      notify: (payload) => notify(live.db, payload),
      onHearing(hears) {
        clearInterval(poll);
        poll = hears ? undefined : setInterval(look, config.pollSeconds * 1000);
      },
      onListening() {
        tail.doubt();
        tail.check();
      },
      onLost() {
        // Whatever killed the session, a machine that is gone or a firewall that forgets, has killed these as well, and would let
        // what waits on them wait for the whole of its timeout.
        live.drop();
        replays.drop();
      },
      onNotification(payload) {
        // Any role may notify: this has us ask the table, and believes nothing.
        if (payload === CHANGED) tail.check();
        else tail.ring();
      },
    });
    stops.push(listener.stop);

    // Clients are let in once the window is up to date, so that "now" means now.
    const head = await source.head();
    await new Promise<void>((reached, failed) => {
      const timer = setTimeout(
        () => failed(new Error('timeout while reading the newest events')),
        config.queryTimeoutSeconds * 1000,
      );
      log.whenReached(head.position, () => {
        clearTimeout(timer);
        reached();
      });
    });

    const heartbeat = startHeartbeat({ seconds: config.heartbeatSeconds });
    stops.push(heartbeat.stop);
    const budget = createBudget(config.replayBytes);
    const history = createHistory(source, budget, { connections: config.historyConnections, log });
    const streams = createStreams({
      ...config,
      log,
      history,
      budget,
      heartbeat,
      isCurrent: () => tail.trouble === undefined,
      tail,
      onReadError: (error) => logger.debug({ err: error }, 'a read for one client failed; it is tried again'),
      onStuck: (stuck) => logger.warn(stuck, STUCK),
    });

    const metrics = createMetrics({
      streams,
      log,
      history,
      tail,
      listener,
      undeliverable,
      waitingBytes: () => budget.heldBytes,
      limits: config,
      database: () => databaseFigures(replays.db),
    });
    let metricsUrl: string | undefined;
    if (config.workers === 1 && config.metricsPort !== undefined) {
      const served = await serveMetrics(metrics, { ...config, port: config.metricsPort, logger });
      stops.push(served.close);
      metricsUrl = served.url + METRICS_PATH;
      logger.info({ url: metricsUrl }, 'metrics');
    }

    const notReady = () => {
      const troubles: Trouble[] = [];
      if (listener.trouble) troubles.push({ code: 'not_listening', since: listener.trouble.since });
      if (tail.trouble) troubles.push({ code: 'cannot_read', since: tail.trouble.since });
      else if (tail.behindSince && Date.now() - tail.behindSince.getTime() > BEHIND_GRACE) {
        troubles.push({ code: 'behind', since: tail.behindSince });
      }
      if (tail.floorMissingSince) troubles.push({ code: 'floor_missing', since: tail.floorMissingSince });
      return troubles;
    };
    const server = await startHttp({
      ...config,
      access: createAccess(config, logger),
      limits: createLimits(config),
      streams,
      metrics: config.publicMetrics ? metrics : undefined,
      onRefused: (code) => metrics.refused(code),
      logger,
      notReady,
      ...(extend ? { extend } : {}),
    });
    stops.push(async () => {
      const started = Date.now();
      const closed = server.close();
      await streams.close(config.shutdownSeconds * 800);
      await Promise.race([
        closed,
        new Promise((done) => setTimeout(done, config.shutdownSeconds * 900 - (Date.now() - started)).unref()),
      ]);
    });
    isServing = true;
    logger.info({ url: server.url, head: log.head.id }, 'listening');

    let stopping: Promise<void> | undefined;
    return {
      url: server.url,
      metricsUrl,
      registry: metrics.registry,
      notReady,
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
