/**
 * Where metrics are served: on a port of their own, or, where that is asked for, beside the
 * streams.
 */
import type Koa from 'koa';
import type { Logger } from 'pino';
import type { Metrics } from '../metrics/metrics.js';
import { OPEN_METRICS_TYPE } from '../metrics/open-metrics.js';
import { RequestError } from './request-error.js';
import { methodNotAllowed } from './errors.js';
import { METRICS_PATH } from './paths.js';
import { createApp, startServer, type HttpServer } from './server.js';

/** As scrapers ask for it; they name its character set only where they are given it. */
const OPEN_METRICS_NAME = 'application/openmetrics-text;version=1.0.0';

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

/** What else is there: resolves with what answers at a path; undefined: nothing does. */
export type MetricsPages = (path: string, query: URLSearchParams) => Promise<object | undefined>;

/** What a process has on that port beside its metrics. */
export interface MetricsExtras {
  /** Of a process that serves nothing else: then its health is there, too. */
  readonly readiness?: () => { readonly ready: boolean; readonly reasons: readonly unknown[] };
  readonly pages?: MetricsPages;
}

/**
 * Serves metrics on a port of their own.
 *
 * @throws the server's error, such as EADDRINUSE.
 */
export async function serveMetrics(
  metrics: Pick<Metrics, 'text' | 'contentType' | 'openText'>,
  options: MetricsServerOptions,
  { readiness, pages }: MetricsExtras = {},
): Promise<HttpServer> {
  const app = createApp({ logger: options.logger, retrySeconds: 1, onRefused: () => undefined });
  const answer = answerMetrics(metrics);
  app.use(async (context) => {
    if (context.method !== 'GET' && context.method !== 'HEAD') throw methodNotAllowed('GET, HEAD');
    if (context.path === METRICS_PATH) await answer(context);
    else if (readiness === undefined || !['/healthz', '/readyz'].includes(context.path)) {
      const page = await pages?.(context.path, new URLSearchParams(context.querystring));
      if (page === undefined) throw new RequestError(404, 'not_found', 'Metrics are at /metrics.');
      context.set('Cache-Control', 'no-store');
      context.body = page;
    } else if (context.path === '/healthz') context.body = { status: 'ok' };
    else {
      const { ready, reasons } = readiness();
      context.status = ready ? 200 : 503;
      context.body = { ready, reasons };
    }
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
  metrics: Pick<Metrics, 'text' | 'contentType' | 'openText'>,
  logger: Logger,
  extras?: MetricsExtras,
): Promise<(HttpServer & { readonly metricsUrl: string }) | undefined> {
  const { metricsPort: port, host, shutdownSeconds } = settings;
  if (port === undefined) return undefined;
  const server = await serveMetrics(metrics, { host, port, shutdownSeconds, logger }, extras);
  const metricsUrl = server.url + METRICS_PATH;
  logger.info({ url: metricsUrl }, 'metrics');
  return { ...server, metricsUrl };
}

/** Answers a request for metrics. */
export function answerMetrics(
  metrics: Pick<Metrics, 'text' | 'contentType' | 'openText'>,
): (context: Koa.ParameterizedContext) => Promise<void> {
  return async (context) => {
    const { openText } = metrics;
    const isOpen = openText && context.accepts('text/plain', OPEN_METRICS_NAME) === OPEN_METRICS_NAME;
    context.body = await (isOpen ? openText() : metrics.text());
    context.set('Content-Type', isOpen ? OPEN_METRICS_TYPE : metrics.contentType);
    if (openText) context.vary('Accept');
    context.set('Cache-Control', 'no-store');
  };
}
