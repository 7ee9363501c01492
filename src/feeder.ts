/**
 * The composition root of a feeder, as relay.ts is that of a relay: PostgreSQL on one side, NATS on
 * the other.
 */
import type { Logger } from 'pino';
import { commandLine } from './command-name.js';
import type { Config } from './config/config.js';
import { startFeeding, type Feeding } from './engine/feeding.js';
import { isOtherOutbox } from './engine/fence.js';
import { serveMetricsAlone } from './http/metrics-route.js';
import { createFeederMetrics } from './metrics/feeder-metrics.js';
import { requireAccess } from './nats/access.js';
import { openNatsLog, type NatsLogSettings } from './nats/nats-log.js';
import { requireStream } from './nats/stream.js';
import { OperatorError } from './operator-error.js';
import { openDatabases } from './outbox/databases.js';
import { readOrigin } from './outbox/origin.js';
import { createPostgresFeed } from './outbox/postgres-feed.js';
import { createUndeliverable } from './outbox/undeliverable.js';

export interface FeederProcess {
  /** Where its metrics are, if it serves them. */
  readonly metricsUrl: string | undefined;
  readonly feeding: Feeding;
  /** Stops feeding, and closes all connections. Safe to call twice. */
  stop(): Promise<void>;
}

export interface FeederOptions {
  readonly config: Config;
  readonly nats: NatsLogSettings;
  readonly logger: Logger;
}

/**
 * Starts a feeder on a migrated database and a stream that was set up.
 *
 * @throws OperatorError `nats-…`, `no-stream`, `unfit-stream`, `other-outbox`; the database's error,
 * at a first start: later it connects again for ever.
 */
export async function startFeeder({ config, nats, logger }: FeederOptions): Promise<FeederProcess> {
  const stops: (() => Promise<void> | void)[] = [];
  const stopAll = async () => {
    for (let stop = stops.pop(); stop; stop = stops.pop()) await stop();
  };

  try {
    const engine = await openNatsLog(nats, 'outbox-relay feeder', logger);
    stops.push(engine.close);
    await requireAccess(engine, 'feeder');
    await requireStream(engine);

    const databases = openDatabases(config, logger);
    stops.push(databases.live.close, databases.history.close);
    const feed = createPostgresFeed(config, { databases, undeliverable: createUndeliverable(logger), logger });
    const readAnswerer = () => readOrigin(databases.live.db);
    const { entry } = await engine.tip();
    if (entry && (await isOtherOutbox(feed, entry, await readAnswerer()))) {
      throw new OperatorError('other-outbox', otherOutboxText(nats.stream));
    }

    const feeding = await startFeeding(config, { feed, readAnswerer, engine, logger });
    stops.push(feeding.stop);
    const metrics = await serveMetricsAlone(config, createFeederMetrics(feeding), logger, feeding);
    if (metrics) stops.push(metrics.close);
    logger.info({ stream: nats.stream, position: String(feeding.feeder.fedThrough.position) }, 'feeding');

    let stopping: Promise<void> | undefined;
    return { metricsUrl: metrics?.metricsUrl, feeding, stop: () => (stopping ??= stopAll()) };
  } catch (error) {
    await stopAll().catch(() => undefined);
    throw error;
  }
}

function otherOutboxText(stream: string): string {
  return `The stream ${stream} is that of another outbox, and this one's events would be taken for its. Set NATS_STREAM to another name, and run ${commandLine('feed --setup')}.
If that outbox is no more: nats stream rm ${stream}, and then ${commandLine('feed --setup')}.`;
}
