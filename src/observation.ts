/**
 * What is told of a relay to those who look after it: metrics, who is connected, and the console.
 */
import type { Logger } from 'pino';
import type { Access } from './access/access.js';
import type { Config } from './config/config.js';
import { createAnswerer } from './console/answerer.js';
import { createConsole, type Console } from './console/console.js';
import { metricsPages } from './console/port.js';
import { createPulse } from './console/pulse.js';
import { alone, type Answerer, type Peers } from './console/question.js';
import { createRefusals } from './console/refusals.js';
import type { Readiness } from './feed/readiness.js';
import type { Refusal } from './http/errors.js';
import { serveMetricsAlone } from './http/metrics-route.js';
import { createMetrics, type Measured, type Metrics } from './metrics/metrics.js';
import { eventPlaces } from './outbox/event-place.js';
import type { Database } from './postgres/pool.js';
import { version } from './config/version.js';

/** The processes of a relay, for one of them. */
export interface PeerGroup {
  /** Which it is, from 1 on; 0: the only one. */
  readonly number: number;
  /** Has it answer the others, and ask them. */
  join(answer: Answerer): Peers;
}

const ALONE: PeerGroup = { number: 0, join: alone };

export interface ObservedParts extends Measured {
  readonly access: Access;
  readonly reader: Database;
  readonly readiness: () => Readiness;
  readonly logger: Logger;
  /** Undefined: it is the only process. */
  readonly group?: PeerGroup | undefined;
}

export interface Observation {
  readonly metrics: Metrics;
  readonly metricsUrl: string | undefined;
  /** Undefined: it is off. */
  readonly console: Console | undefined;
  refused(refusal: Refusal): void;
  /** @param at when, in ms since 1970. Default: now. */
  delivered(events: readonly { readonly createdAt: number }[], at?: number): void;
  traced: Metrics['traced'];
  close(): Promise<void>;
}

/** @throws the server's error, such as EADDRINUSE. */
export async function observe(config: Config, parts: ObservedParts): Promise<Observation> {
  const { access, reader, logger, group = ALONE } = parts;
  const metrics = createMetrics(config, parts);
  const pulse = createPulse();
  const refusals = createRefusals({ ...config, processNumber: group.number });
  const placeOf = eventPlaces(reader.db);
  const peers = group.join(
    createAnswerer(config.console.shows, { ...parts, processNumber: group.number, pulse, refusals, placeOf }),
  );
  const console =
    config.console.isOn === true ? createConsole(config, { ...parts, access, peers, version: version() }) : undefined;
  if (config.console.password && !console)
    logger.warn('CONSOLE_PASSWORD is set, and the console is off: set CONSOLE=true to have it');
  // With WORKERS the primary has that port, for all of them.
  const server =
    config.workers === 1 ? await serveMetricsAlone(config, metrics, logger, { pages: metricsPages(peers) }) : undefined;
  return {
    metrics,
    metricsUrl: server?.metricsUrl,
    console,
    refused(refusal) {
      metrics.refused(refusal.code);
      // Nobody could see them.
      if (console) refusals.note(refusal);
    },
    delivered(events, at) {
      metrics.delivered(events, at);
      pulse.delivered(events);
    },
    traced: metrics.traced,
    async close() {
      pulse.stop();
      await server?.close();
    },
  };
}
