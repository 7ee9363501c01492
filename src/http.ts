/**
 * HTTP: requests in, streams or clear answers out. Knows HTTP and who may read what; nothing imports it but the
 * composition root.
 *
 * Until the headers are out an error is a status with a JSON body, `{"error": code, "message": what to do}`. From then on
 * the connection belongs to `stream.ts`.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import Koa from 'koa';
import Router from 'koa-router';
import { browserScript, SCRIPTS } from './browser-script.js';
import { layer } from './connection.js';
import { cors } from './cors.js';
import type { Metrics } from './metrics.js';
import { answerErrors, methodNotAllowed, notFound, refuse, type RefusalOptions } from './refusal.js';
import { RequestError } from './request-error.js';
import { METHODS, routeStreams, type StreamRequestOptions } from './stream-request.js';

export interface HttpOptions extends StreamRequestOptions, RefusalOptions {
  readonly host: string;
  readonly port: number;
  /** Connections beyond the limit, and some that have not asked for anything yet, are not accepted. */
  readonly maxConnections: number;
  /** How many proxies in front are believed about the address of the client. */
  readonly trustProxy: number;
  readonly allowedOrigins: readonly string[];
  /** Whether streams are at /{channel} too, where no other path is of that name. */
  readonly legacyPaths: boolean;
  readonly maxHeaderBytes: number;
  /** How long a client may take to send its request. */
  readonly requestTimeoutSeconds: number;
  readonly shutdownSeconds: number;
  /** Served at /metrics; undefined: nothing is there. */
  readonly metrics: Pick<Metrics, 'text' | 'contentType'> | undefined;
  /** What keeps the relay from delivering, in words; empty when it is ready. */
  readonly notReady: () => string[];
  /** Adds routes, as the demo does. */
  readonly extend?: (router: Router) => void;
}

export interface HttpServer {
  readonly url: string;
  /**
   * Stops accepting. Resolves when every connection has ended: those idle now, those whose request is on the way soon, and
   * streams when their owner ends them.
   */
  close(): Promise<void>;
}

/** How long a request that is on the way when the relay stops may take to be answered. */
const STOPPING_GRACE_MS = 1000;
/**
 * How many connections may wait to be accepted: as many as the system allows. After a cut all clients come back in one moment, and
 * whoever finds the queue full tries again after one second, three, seven and more.
 */
const BACKLOG = 65_535;
/** Connections that are not streams (yet): requests on their way, health checks, refusals. */
const SPARE_CONNECTIONS = 1000;
const PATHS = ['/events', '/events/', '/events/:channel'];
const LEGACY_PATH = '/:channel';

/** @throws the server's error, such as EADDRINUSE. */
export async function startHttp(options: HttpOptions): Promise<HttpServer> {
  const app = new Koa();
  // Strict: what a slash ends is not a channel of that name, which nobody publishes to.
  const router = new Router({ strict: true });
  const server = http.createServer({
    maxHeaderSize: options.maxHeaderBytes,
    headersTimeout: options.requestTimeoutSeconds * 1000,
    requestTimeout: options.requestTimeoutSeconds * 1000,
    connectionsCheckingInterval: Math.min(1000, options.requestTimeoutSeconds * 250),
    // A peer that vanished without a word is found by the kernel; a stream would not write to it for a heartbeat.
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
    // Its answer would have no body; ours is in `requireHost`.
    requireHostHeader: false,
  });

  const connections = new Set<Duplex>();
  server.on('connection', (connection: Duplex) => {
    connections.add(connection);
    connection.once('close', () => connections.delete(connection));
  });
  layer(server);
  server.maxConnections = options.maxConnections + SPARE_CONNECTIONS;
  app.proxy = options.trustProxy > 0;
  app.maxIpsCount = options.trustProxy;

  app.on('error', (error: NodeJS.ErrnoException) => {
    if (!isDeparture(error)) options.logger.error({ err: error }, 'a request failed');
  });
  app.use(answerErrors(options));
  app.use(requireHost);
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
  const { metrics } = options;
  if (metrics) {
    router.get('/metrics', async (context) => {
      context.body = await metrics.text();
      context.set('Content-Type', metrics.contentType);
    });
  }
  for (const name of SCRIPTS) router.get(`/${name}`, browserScript(name));
  options.extend?.(router);
  app.use(router.routes());
  app.use(async (context, next) => {
    if (router.match(context.path, 'GET').path.length > 0) throw methodNotAllowed('GET, HEAD');
    // They may have a port of their own: who asks for them here is to learn that, and not to wait for events.
    if (context.path.toLowerCase() === '/metrics') throw notFound(context.path);
    await next();
  });
  if (options.legacyPaths) {
    // Asked last: what has a path of its own is never shadowed, whatever the method.
    const legacy = new Router({ strict: true });
    routeStreams(legacy, [LEGACY_PATH], options);
    app.use(legacy.routes());
  }
  app.use((context) => {
    throw notFound(context.path);
  });

  const handle = app.callback();
  // Connections on which an answer, which may become a stream, is on its way. Whatever else arrives on them would be
  // answered amid the frames.
  const answering = new WeakSet<Duplex>();
  server.on('request', (request, response) => {
    const { socket } = request;
    if (answering.has(socket)) {
      socket.destroy();
      return;
    }
    answering.add(socket);
    response.once('finish', () => answering.delete(socket));
    void handle(request, response);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    if (answering.has(socket)) socket.destroy();
    else refuse(error, socket, options.maxHeaderBytes);
  });

  await new Promise<void>((listening, failed) => {
    server.once('error', failed);
    server.listen({ port: options.port, host: options.host, backlog: BACKLOG }, () => {
      server.off('error', failed);
      listening();
    });
  });
  const address = server.address() as AddressInfo;
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${host}:${address.port}`,
    close: () =>
      new Promise((closed) => {
        // A connection on which nothing was asked yet, as browsers open in advance, does not count as idle.
        const grace = setTimeout(
          () => {
            for (const connection of connections) connection.destroy();
          },
          Math.min(STOPPING_GRACE_MS, options.shutdownSeconds * 800),
        );
        server.close(() => {
          clearTimeout(grace);
          closed();
        });
        server.closeIdleConnections();
      }),
  };
}

/** Source: RFC 9112, section 3.2. */
const requireHost: Koa.Middleware = async ({ req: request }, next) => {
  if (request.headers.host === undefined && request.httpVersion === '1.1') {
    throw new RequestError(400, 'bad_request', 'A request in HTTP/1.1 has a header "Host".');
  }
  await next();
};

/** A client that leaves is not an error. */
function isDeparture(error: NodeJS.ErrnoException): boolean {
  return ['ERR_STREAM_PREMATURE_CLOSE', 'ECONNRESET', 'EPIPE', 'ECANCELED'].includes(error.code ?? '');
}
