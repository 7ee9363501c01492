/**
 * HTTP: requests in, streams or clear answers out. Knows HTTP and who may read what; nothing imports it but the
 * composition root.
 *
 * Until the headers are out an error is a status with a JSON body, `{"error": code, "message": what to do}`. From then on
 * the connection belongs to `stream/stream.ts`.
 */
import type Koa from 'koa';
import Router from 'koa-router';
import { browserScript, SCRIPTS } from './client-module.js';
import { cors } from './cors.js';
import type { Metrics } from '../metrics/metrics.js';
import { answerMetrics, METRICS_PATH } from './metrics-route.js';
import { mostFrom, type LimitsOptions } from '../access/connection-limits.js';
import { methodNotAllowed, notFound, type RefusalOptions } from './errors.js';
import { createApp, startServer, type HttpServer, type ServerOptions } from './server.js';
import { METHODS, routeStreams, type StreamRequestOptions } from './stream-route.js';

/** Something that keeps the relay from delivering. What the database said of it is for the log, and not for who asks. */
export interface Trouble {
  readonly code: 'not_listening' | 'cannot_read' | 'behind' | 'floor_missing';
  readonly since: Date;
}

/** What the demo adds. */
export interface Extension {
  /** Asked before all else whether there is to be an answer. */
  readonly guard: Koa.Middleware;
  routes(router: Router): void;
}

export interface HttpOptions
  extends StreamRequestOptions, RefusalOptions, ServerOptions, Pick<LimitsOptions, 'maxConnectionsPerAddress'> {
  readonly allowedOrigins: readonly string[];
  /** Whether streams are at /{channel} too, where no other path is of that name. */
  readonly legacyPaths: boolean;
  /** Served at /metrics to all who reach it; undefined: nothing is there. */
  readonly metrics: Pick<Metrics, 'text' | 'contentType'> | undefined;
  /** What keeps the relay from delivering; empty when it is ready. */
  readonly notReady: () => Trouble[];
  readonly extend?: Extension;
}

/** Connections that are not streams (yet): requests on their way, health checks, refusals. */
const SPARE_CONNECTIONS = 1000;
const PATHS = ['/events', '/events/', '/events/:channel'];
const LEGACY_PATH = '/:channel';
/** Strict: what a slash ends is not a channel of that name, which nobody publishes to. A path has one spelling. */
const ROUTING = { strict: true, sensitive: true };

/** @throws the server's error, such as EADDRINUSE. */
export async function startHttp(options: HttpOptions): Promise<HttpServer> {
  const app = createApp(options);
  const router = new Router(ROUTING);
  if (options.extend) app.use(options.extend.guard);
  app.use(cors(options.allowedOrigins, METHODS));
  routeStreams(router, PATHS, options);
  router.get('/healthz', (context) => {
    context.body = { status: 'ok' };
  });
  router.get('/readyz', (context) => {
    const reasons = options.notReady();
    context.status = reasons.length === 0 ? 200 : 503;
    context.body = { ready: reasons.length === 0, reasons };
  });
  if (options.metrics) router.get(METRICS_PATH, answerMetrics(options.metrics));
  for (const name of SCRIPTS) router.get(`/${name}`, browserScript(name));
  options.extend?.routes(router);
  app.use(router.routes());
  app.use(async (context, next) => {
    if (router.match(context.path, 'GET').path.length > 0) throw methodNotAllowed('GET, HEAD');
    // They may have a port of their own: who asks for them here is to learn that, and not to wait for events.
    if (context.path === METRICS_PATH) throw notFound(context.path);
    await next();
  });
  if (options.legacyPaths) {
    // Asked last: what has a path of its own is never shadowed, whatever the method.
    const legacy = new Router(ROUTING);
    routeStreams(legacy, [LEGACY_PATH], options);
    app.use(legacy.routes());
  }
  app.use((context: Koa.Context) => {
    throw notFound(context.path);
  });
  return startServer(app, {
    ...options,
    maxConnections: options.maxConnections + SPARE_CONNECTIONS,
    mostFrom: options.trustProxy === 0 ? (address) => mostFrom(options, address) : undefined,
  });
}
