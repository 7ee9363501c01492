/**
 * Where metrics are served: on a port of their own, or, where that is asked for, beside the
 * streams.
 */
import type Koa from 'koa';
import type { Logger } from 'pino';
import type { Metrics } from '../metrics/metrics.js';
import { RequestError } from './request-error.js';
import { methodNotAllowed } from './errors.js';
import { createApp, startServer, type HttpServer } from './server.js';

export const METRICS_PATH = '/metrics';

/** Scrapers are few, and ask for little. */
const MAX_CONNECTIONS = 100;
const MAX_HEADER_BYTES = 16 * 1024;
const REQUEST_TIMEOUT_SECONDS = 15;

export interface MetricsServerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly shutdownSeconds: number;
  readonly logger: Logger;
}

/** Serves metrics on a port of their own. @throws the server's error, such as EADDRINUSE. */
export async function serveMetrics(
  metrics: Pick<Metrics, 'text' | 'contentType'>,
  options: MetricsServerOptions,
): Promise<HttpServer> {
  const app = createApp({ logger: options.logger, retrySeconds: 1, onRefused: () => undefined });
  const answer = answerMetrics(metrics);
  app.use(async (context) => {
    if (context.path !== METRICS_PATH) throw new RequestError(404, 'not_found', 'Metrics are at /metrics.');
    if (context.method !== 'GET' && context.method !== 'HEAD') throw methodNotAllowed('GET, HEAD');
    await answer(context);
  });
  return startServer(app, {
    ...options,
    maxConnections: MAX_CONNECTIONS,
    maxHeaderBytes: MAX_HEADER_BYTES,
    requestTimeoutSeconds: REQUEST_TIMEOUT_SECONDS,
  });
}

/**
 * The same where a port is configured, and logs where; else undefined.
 *
 * @throws the server's error, such as EADDRINUSE.
 */
export async function serveMetricsAlone(
  settings: { readonly metricsPort: number | undefined; readonly host: string; readonly shutdownSeconds: number },
  metrics: Pick<Metrics, 'text' | 'contentType'>,
  logger: Logger,
): Promise<(HttpServer & { readonly metricsUrl: string }) | undefined> {
  const { metricsPort: port, host, shutdownSeconds } = settings;
  if (port === undefined) return undefined;
  const server = await serveMetrics(metrics, { host, port, shutdownSeconds, logger });
  const metricsUrl = server.url + METRICS_PATH;
  logger.info({ url: metricsUrl }, 'metrics');
  return { ...server, metricsUrl };
}

/** Answers a request for metrics. */
export function answerMetrics(
  metrics: Pick<Metrics, 'text' | 'contentType'>,
): (context: Koa.ParameterizedContext) => Promise<void> {
  return async (context) => {
    context.body = await metrics.text();
    context.set('Content-Type', metrics.contentType);
    context.set('Cache-Control', 'no-store');
  };
}
