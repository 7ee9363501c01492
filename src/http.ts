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
import type { Logger } from 'pino';
import type { Access, AccessRequest, Permission } from './access.js';
import { browserScript, SCRIPT_PATH } from './browser-script.js';
import { ChannelError, interestIn } from './channels.js';
import { Connection, layer } from './connection.js';
import { requestedCursor, SinceError, type CursorRequest } from './cursor.js';
import { Denied } from './forward-auth.js';
import type { Limits } from './limits.js';
import type { Metrics } from './metrics.js';
import { RequestError } from './request-error.js';
import { encodeRetry, STREAM_HEADERS } from './sse.js';
import type { Streams } from './stream.js';

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  readonly streams: Streams;
  readonly access: Access;
  readonly limits: Limits;
  /** Connections beyond the limit, and some that have not asked for anything yet, are not accepted. */
  readonly maxConnections: number;
  /** How many proxies in front are believed about the address of the client. */
  readonly trustProxy: number;
  readonly allowedOrigins: readonly string[];
  /** Whether streams are at /{channel} too, where no other path is of that name. */
  readonly legacyPaths: boolean;
  readonly maxChannels: number;
  readonly maxHeaderBytes: number;
  /** What clients are told to wait before they reconnect. */
  readonly retrySeconds: number;
  /** How long a client may take to send its request. */
  readonly requestTimeoutSeconds: number;
  readonly shutdownSeconds: number;
  readonly logger: Logger;
  /** Told of each refusal, by the code that the client gets. */
  readonly onRefused: (code: string) => void;
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

/** How long a client that sent too much may take to read our answer before the connection is cut. */
const REFUSED_LINGER_MS = 1000;
/** How long a request that is on the way when the relay stops may take to be answered. */
const STOPPING_GRACE_MS = 1000;
/**
 * How many connections may wait to be accepted: as many as the system allows. After a cut all clients come back in one moment, and
 * whoever finds the queue full tries again after one second, three, seven and more.
 */
const BACKLOG = 65_535;
/** Connections that are not streams (yet): requests on their way, health checks, refusals. */
const SPARE_CONNECTIONS = 1000;
/** Clients that were sent away come back after a pause of once to so many times `BUSY_RETRIES` usual ones. */
const BUSY_SPREAD = 2;
const BUSY_RETRIES = 3;
const METHODS = 'GET, HEAD, OPTIONS';
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
  app.use(cors(options.allowedOrigins));
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
  router.get(SCRIPT_PATH, browserScript());
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

function routeStreams(router: Router, paths: string[], options: HttpOptions): void {
  router.get(paths, (context) => openStream(context, options));
  router.all(paths, (context) => {
    if (context.method !== 'OPTIONS') throw methodNotAllowed(METHODS);
    context.set('Allow', METHODS);
    context.status = 204;
  });
}

function answerErrors({ retrySeconds, logger, onRefused }: HttpOptions): Koa.Middleware {
  return async (context, next) => {
    try {
      await next();
    } catch (error) {
      const refused = refusalOf(error);
      const reason = refused instanceof Denied ? 'denied' : refused.code;
      logger.debug({ status: refused.status, code: reason }, 'refused');
      onRefused(reason);
      context.set({ 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' });
      if (refused instanceof Denied) {
        context.status = refused.status;
        context.body = refused.body;
        context.set('Content-Type', refused.contentType);
        return;
      }
      const pause = retrySeconds * BUSY_RETRIES * (1 + Math.random() * (BUSY_SPREAD - 1));
      if (refused.temporary && /\btext\/event-stream\b/i.test(context.get('Accept'))) {
        context.set(STREAM_HEADERS);
        context.body = `: ${refused.message}\n${encodeRetry(pause * 1000).toString()}`;
        return;
      }
      context.status = refused.status;
      context.set(refused.headers);
      if (refused.temporary) context.set('Retry-After', String(Math.max(1, Math.ceil(pause))));
      const { code, message, channels } = refused;
      context.body = { error: code, message, ...(channels ? { channels } : {}) };
    }
  };
}

/** Source: RFC 9112, section 3.2. */
const requireHost: Koa.Middleware = async ({ req: request }, next) => {
  if (request.headers.host === undefined && request.httpVersion === '1.1') {
    throw new RequestError(400, 'bad_request', 'A request in HTTP/1.1 has a header "Host".');
  }
  await next();
};

/** @throws what is not the client's business. */
function refusalOf(error: unknown): RequestError | Denied {
  if (error instanceof RequestError || error instanceof Denied) return error;
  if (isBadRequest(error)) {
    return new RequestError(400, 'bad_request', 'The address is not valid: check its percent-encoding.');
  }
  throw error;
}

async function openStream(context: Koa.ParameterizedContext, options: HttpOptions): Promise<void> {
  const { req: request, res: response } = context;
  const connection: Duplex = request.socket;
  const asked = readRequest(context, options);
  const place = options.limits.enter(context.ip);
  let isOpen = false;
  try {
    const permission: Permission = await options.access.permit(asked);
    const cursor = readCursor(context);
    if (permission.subject !== undefined) place.takenBy(permission.subject);
    context.status = 200;
    context.set(STREAM_HEADERS);
    // From here on the answer is ours: frames go out as they are, not chunked, and end with the connection.
    context.respond = false;
    if (context.method === 'HEAD') {
      response.end();
    } else if (!connection.destroyed) {
      response.setHeader('Connection', 'close');
      response.removeHeader('Transfer-Encoding');
      response.flushHeaders();
      const socket = connection instanceof Connection ? connection.release() : undefined;
      if (socket === undefined) return;
      isOpen = true;
      options.streams.open(socket, {
        interest: asked.wanted,
        cursor,
        expiresAt: permission.expiresAt,
        onGone: () => place.leave(),
      });
    }
  } finally {
    if (!isOpen) place.leave();
  }
}

/** What is asked for. @throws RequestError 400 where that is nothing that there could be. */
function readRequest(context: Koa.ParameterizedContext, options: HttpOptions): AccessRequest {
  if (Number(context.get('Content-Length')) > 0 || context.get('Transfer-Encoding')) {
    throw new RequestError(400, 'unexpected_body', 'A request for a stream has no body.');
  }
  const query = new URLSearchParams(context.querystring);
  const inQuery = query.getAll('channel');
  // The router leaves a segment that it cannot decode as it is; a channel of that name would be silently empty for ever.
  const inPath = context.path.replace(/^\/events(\/|$)|^\//i, '');
  const names = [...new Set(inPath === '' ? inQuery : [decodeURIComponent(inPath), ...inQuery])];
  if (names.length === 0) {
    throw new RequestError(
      400,
      'no_channel',
      'Name at least one channel, as in /events?channel=orders or /events/orders.',
    );
  }
  if (names.length > options.maxChannels) {
    throw new RequestError(
      400,
      'too_many_channels',
      `${names.length} channels are asked for; one connection may have ${options.maxChannels}. Use a prefix such as user:*, or raise MAX_CHANNELS.`,
    );
  }
  try {
    return {
      names,
      wanted: interestIn(names),
      headers: context.req.headers,
      host: context.host,
      queryToken: query.get('token'),
    };
  } catch (error) {
    if (error instanceof ChannelError) throw new RequestError(400, 'bad_channel', error.message);
    throw error;
  }
}

/** Where it is to start. @throws RequestError 400 where that is no time that there could be. */
function readCursor(context: Koa.ParameterizedContext): CursorRequest {
  try {
    return requestedCursor(context.get('Last-Event-ID') || undefined, new URLSearchParams(context.querystring));
  } catch (error) {
    if (error instanceof SinceError) throw new RequestError(400, 'bad_since', error.message);
    throw error;
  }
}

/** Source: Fetch, "CORS protocol". Credentials only for origins that are named. */
function cors(allowed: readonly string[]): Koa.Middleware {
  const any = allowed.includes('*');
  return async (context, next) => {
    const origin = context.get('Origin');
    if (!any) context.vary('Origin');
    if (origin && (any || allowed.includes(origin))) {
      context.set('Access-Control-Allow-Origin', any ? '*' : origin);
      if (!any) context.set('Access-Control-Allow-Credentials', 'true');
      if (context.method === 'OPTIONS' && context.get('Access-Control-Request-Method')) {
        context.set('Access-Control-Allow-Methods', METHODS);
        context.set('Access-Control-Allow-Headers', 'Authorization, Cache-Control, Last-Event-ID');
        context.set('Access-Control-Max-Age', '7200');
      } else {
        context.set('Access-Control-Expose-Headers', 'Retry-After, WWW-Authenticate');
      }
    }
    await next();
  };
}

function notFound(path: string): RequestError {
  return new RequestError(
    404,
    'not_found',
    `Nothing is at ${path.slice(0, 100)}. Streams are at /events?channel=NAME.`,
  );
}

function methodNotAllowed(allow: string): RequestError {
  return new RequestError(
    405,
    'method_not_allowed',
    `Only ${allow} work here. Publishing is an INSERT into the outbox table.`,
    { headers: { Allow: allow } },
  );
}

/** Answers what the parser could not take. The client may still be sending: the rest is read and dropped, for a moment. */
function refuse(error: NodeJS.ErrnoException, socket: Duplex, maxHeaderBytes: number): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const [status, code, message] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? [
          '431 Request Header Fields Too Large',
          'headers_too_large',
          `Address and headers together have at most ${maxHeaderBytes} bytes.`,
        ]
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ['408 Request Timeout', 'request_timeout', 'The request was not complete in time.']
        : ['400 Bad Request', 'bad_request', 'This is not a valid HTTP request.'];
  const body = JSON.stringify({ error: code, message });
  socket.removeAllListeners('data');
  socket.on('error', () => undefined);
  socket.resume();
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  setTimeout(() => socket.destroy(), REFUSED_LINGER_MS).unref();
}

function isBadRequest(error: unknown): boolean {
  return error instanceof URIError || (error instanceof Error && (error as { status?: unknown }).status === 400);
}

/** A client that leaves is not an error. */
function isDeparture(error: NodeJS.ErrnoException): boolean {
  return ['ERR_STREAM_PREMATURE_CLOSE', 'ECONNRESET', 'EPIPE', 'ECANCELED'].includes(error.code ?? '');
}
