/**
 * HTTP: requests in, streams or clear answers out. Knows HTTP and who may read what; nothing
 * imports it but relay.ts, and the rehearsal of `explain`.
 *
 * Until the headers are out an error is a status with a JSON body, `{"error": code, "message": what
 * to do}`. From then on the connection belongs to `stream/stream.ts`.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type Koa from 'koa';
import Router from 'koa-router';
import { browserScript, SCRIPTS } from './client-module.js';
import { cors } from './cors.js';
import type { Metrics } from '../metrics/metrics.js';
import type { Polls } from '../stream/polls.js';
import type { Streams } from '../stream/streams.js';
import { answerMetrics } from './metrics-route.js';
import { isOfConsole, METRICS_PATH } from './paths.js';
import { OPENAPI_PATH, serveDescription, type ApiSettings } from './openapi.js';
import { mostFrom, type LimitsOptions } from '../access/connection-limits.js';
import { METHODS } from './channel-request.js';
import { routeHistory, type HistoryRequestOptions } from './history-route.js';
import { methodNotAllowed, notFound, type RefusalOptions } from './errors.js';
import { RequestError } from './request-error.js';
import { createApp, startServer, type HttpServer, type ServerOptions } from './server.js';
import { routeStreams, type StreamRequestOptions } from './stream-route.js';

/** What the demo adds. */
export interface Extension {
  /** Asked before all else whether there is to be an answer. */
  readonly guard: Koa.Middleware;
  routes(router: Router): void;
}

/** What is configured of HTTP. */
export interface HttpSettings
  extends
    Pick<HistoryRequestOptions, 'maxChannels' | 'trustProxy' | 'stallSeconds'>,
    Pick<StreamRequestOptions, 'compression'>,
    Pick<RefusalOptions, 'retrySeconds'>,
    Omit<ServerOptions, 'logger' | 'mostFrom'>,
    Pick<LimitsOptions, 'maxConnectionsPerAddress'>,
    ApiSettings {
  readonly allowedOrigins: readonly string[];
  /** Whether streams are at /{channel} too, where no other path is of that name. */
  readonly legacyPaths: boolean;
}

/** The parts that HTTP leads to. */
export interface HttpParts
  extends Pick<StreamRequestOptions, 'access' | 'limits'>, Pick<RefusalOptions, 'logger' | 'onRefused'> {
  readonly streams: StreamRequestOptions['streams'] & Pick<Streams, 'close'>;
  readonly polls: HistoryRequestOptions['polls'] & Pick<Polls, 'close'>;
  /** Served at /metrics to all who reach it; undefined: nothing is there. */
  readonly metrics: Pick<Metrics, 'text' | 'contentType'> | undefined;
  /** Whether it delivers, and what keeps it from delivering all that there is. */
  readonly readiness: () => { readonly ready: boolean; readonly reasons: readonly object[] };
  readonly extend?: Extension | undefined;
  /** What answers under /console; undefined: it is off. */
  readonly console?: { install(app: Koa): void; close(): Promise<void> } | undefined;
}

/** Connections that are not streams (yet): requests on their way, health checks, refusals. */
const SPARE_CONNECTIONS = 1000;
/** Strict, so that a path has one spelling. */
const ROUTING = { strict: true, sensitive: true };

/**
 * Parts of SHUTDOWN_SECONDS after which streams are cut off, and connections are not waited for.
 */
const STREAMS_WITHIN = 0.8;
const CONNECTIONS_WITHIN = 0.9;

/**
 * Serves until `close`, which stops accepting, ends all streams and resolves within
 * SHUTDOWN_SECONDS.
 *
 * @throws the server's error, such as EADDRINUSE.
 */
export async function startHttp(settings: HttpSettings, parts: HttpParts): Promise<HttpServer> {
  const { maxChannels, trustProxy, stallSeconds, shutdownSeconds, compression } = settings;
  const { streams, polls, access, limits, logger, onRefused } = parts;
  const app = createApp({ retrySeconds: settings.retrySeconds, logger, onRefused });
  const router = new Router(ROUTING);
  const options = { access, limits, maxChannels, trustProxy };
  if (parts.extend) app.use(parts.extend.guard);
  // Ahead of CORS, which is for those who read streams.
  if (parts.console) parts.console.install(app);
  else app.use(refuseConsole);
  app.use(cors(settings.allowedOrigins, METHODS));
  routeStreams(router, '/events', { ...options, streams, compression });
  routeHistory(router, { ...options, polls, stallSeconds, logger });
  router.get('/healthz', (context) => {
    context.body = { status: 'ok' };
  });
  router.get('/readyz', (context) => {
    const { ready, reasons } = parts.readiness();
    context.status = ready ? 200 : 503;
    context.body = { ready, reasons };
  });
  if (parts.metrics) router.get(METRICS_PATH, answerMetrics(parts.metrics));
  router.get(OPENAPI_PATH, serveDescription(settings));
  for (const name of SCRIPTS) router.get(`/${name}`, browserScript(name));
  parts.extend?.routes(router);
  app.use(router.routes());
  app.use(async (context, next) => {
    if (router.match(context.path, 'GET').path.length > 0) throw methodNotAllowed('GET, HEAD');
    // They may have a port of their own: who asks for them here is to learn that, and not to wait
    // for events.
    if (context.path === METRICS_PATH) throw notFound(context.path);
    await next();
  });
  if (settings.legacyPaths) {
    // Asked last: what has a path of its own is never shadowed, whatever the method.
    const legacy = new Router(ROUTING);
    routeStreams(legacy, '', { ...options, streams, compression });
    app.use(legacy.routes());
  }
  app.use((context: Koa.Context) => {
    throw notFound(context.path);
  });
  const server = await startServer(app, {
    host: settings.host,
    port: settings.port,
    maxConnections: settings.maxConnections + SPARE_CONNECTIONS,
    maxHeaderBytes: settings.maxHeaderBytes,
    requestTimeoutSeconds: settings.requestTimeoutSeconds,
    shutdownSeconds,
    logger,
    mostFrom: trustProxy === 0 ? (address) => mostFrom(settings, address) : undefined,
  });
  return {
    url: server.url,
    async close() {
      const deadline = delay(shutdownSeconds * CONNECTIONS_WITHIN * 1000, undefined, { ref: false });
      const closed = server.close();
      polls.close();
      const consoleClosed = parts.console?.close();
      await streams.close(shutdownSeconds * STREAMS_WITHIN * 1000);
      await Promise.race([consoleClosed, deadline]);
      await Promise.race([closed, deadline]);
    },
  };
}

/** Who asks for it is to learn that it is off, and not to wait for the events of a channel. */
const refuseConsole: Koa.Middleware = (context, next) => {
  if (!isOfConsole(context.path)) return next();
  throw new RequestError(404, 'not_found', 'The console is off here. CONSOLE=true turns it on.');
};
