/**
 * HTTP: requests in, streams or clear answers out. Knows HTTP and who may read what; nothing imports it but the
 * composition root.
 *
 * Until the headers are out an error is a status with a JSON body, `{"error": code, "message": what to do}`. From then on
 * the connection belongs to `stream.ts`.
 */
import http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import Koa from 'koa';
import Router from 'koa-router';
import type { Logger } from 'pino';
import { ChannelError, contains, interestIn, type Interest } from './channels.js';
import { requestedCursor, SinceError, type CursorRequest } from './cursor.js';
import { STREAM_HEADERS } from './sse.js';
import type { Streams } from './stream.js';

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  readonly streams: Streams;
  readonly publicChannels: Interest;
  readonly allowedOrigins: readonly string[];
  readonly maxChannels: number;
  /** How long a client may take to send its request. */
  readonly requestTimeoutSeconds: number;
  readonly shutdownSeconds: number;
  readonly logger: Logger;
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

/** An error that the client is told of. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly status: number;
  readonly code: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(status: number, code: string, message: string, details: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
  }
}

/** Largest request line and headers together, in bytes: room for `MAX_CHANNELS` long names and for any cursor of ours. */
const MAX_HEADER_BYTES = 64 * 1024;
/** How long a client that sent too much may take to read our answer before the connection is cut. */
const REFUSED_LINGER_MS = 1000;
/** How long a request that is on the way when the relay stops may take to be answered. */
const STOPPING_GRACE_MS = 1000;
const METHODS = 'GET, HEAD, OPTIONS';
const PATHS = ['/events', '/events/', '/events/:channel'];

/** @throws the server's error, such as EADDRINUSE. */
export async function startHttp(options: HttpOptions): Promise<HttpServer> {
  const app = new Koa();
  // Strict: what a slash ends is not a channel of that name, which nobody publishes to.
  const router = new Router({ strict: true });
  const server = http.createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: options.requestTimeoutSeconds * 1000,
    requestTimeout: options.requestTimeoutSeconds * 1000,
    connectionsCheckingInterval: Math.min(1000, options.requestTimeoutSeconds * 250),
    // A peer that vanished without a word is found by the kernel; a stream would not write to it for a heartbeat.
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
  });

  app.on('error', (error: NodeJS.ErrnoException) => {
    if (!isDeparture(error)) options.logger.error({ err: error }, 'a request failed');
  });
  app.use(answerErrors);
  app.use(cors(options.allowedOrigins));
  router.get(PATHS, (context) => openStream(context, options));
  router.all(PATHS, (context) => {
    if (context.method !== 'OPTIONS') throw methodNotAllowed(METHODS);
    context.set('Allow', METHODS);
    context.status = 204;
  });
  router.get('/healthz', (context) => {
    context.body = { status: 'ok' };
  });
  router.get('/readyz', (context) => {
    const reasons = options.notReady();
    context.status = reasons.length === 0 ? 200 : 503;
    context.body = { ready: reasons.length === 0, reasons };
  });
  options.extend?.(router);
  app.use(router.routes());
  app.use((context) => {
    if (router.match(context.path, 'GET').path.length > 0) throw methodNotAllowed('GET, HEAD');
    throw new RequestError(
      404,
      'not_found',
      `Nothing is at ${context.path.slice(0, 100)}. Streams are at /events?channel=NAME.`,
    );
  });

  const handle = app.callback();
  server.on('request', (request, response) => {
    // A second request on the connection of a stream: its answer would land amid the frames.
    if (options.streams.has(request.socket)) request.socket.destroy();
    else void handle(request, response);
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (options.streams.has(socket)) socket.destroy();
    else refuse(error, socket);
  });

  await new Promise<void>((listening, failed) => {
    server.once('error', failed);
    server.listen(options.port, options.host, () => {
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
            for (const socket of sockets) if (!options.streams.has(socket)) socket.destroy();
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

async function answerErrors(context: Koa.Context, next: Koa.Next): Promise<void> {
  try {
    await next();
  } catch (error) {
    if (!(error instanceof RequestError)) {
      if (!isBadRequest(error)) throw error;
      context.status = 400;
      context.body = { error: 'bad_request', message: 'The address is not valid: check its percent-encoding.' };
      return;
    }
    context.status = error.status;
    context.body = { error: error.code, message: error.message, ...error.details };
    if (error.status === 405) context.set('Allow', String(error.details['allow']));
  }
}

function openStream(context: Koa.ParameterizedContext, options: HttpOptions): void {
  const { interest, cursor } = readRequest(context, options);
  context.status = 200;
  context.set(STREAM_HEADERS);
  if (context.method === 'HEAD') {
    context.respond = false;
    context.res.end();
    return;
  }
  // The stream ends with the connection. Not chunked: frames go out as they are.
  context.respond = false;
  const { res: response } = context;
  const socket = context.req.socket;
  response.setHeader('Connection', 'close');
  response.removeHeader('Transfer-Encoding');
  response.flushHeaders();
  options.streams.open(socket, interest, cursor);
}

function readRequest(
  context: Koa.ParameterizedContext,
  options: HttpOptions,
): { interest: Interest; cursor: CursorRequest } {
  if (Number(context.get('Content-Length')) > 0 || context.get('Transfer-Encoding')) {
    throw new RequestError(400, 'unexpected_body', 'A request for a stream has no body.');
  }
  const query = new URLSearchParams(context.querystring);
  const names = query.getAll('channel');
  // The router leaves a segment that it cannot decode as it is; a channel of that name would be silently empty for ever.
  const inPath = context.path.slice('/events/'.length);
  if (inPath !== '') names.unshift(decodeURIComponent(inPath));
  if (names.length === 0) {
    throw new RequestError(
      400,
      'no_channel',
      'Name at least one channel, as in /events?channel=orders or /events/orders.',
    );
  }
  const wanted = [...new Set(names)];
  if (wanted.length > options.maxChannels) {
    throw new RequestError(
      400,
      'too_many_channels',
      `${wanted.length} channels are asked for; one connection may have ${options.maxChannels}. Use a prefix such as user:*, or raise MAX_CHANNELS.`,
    );
  }
  try {
    const interest = interestIn(wanted);
    const refused = wanted.filter((name) => !contains(options.publicChannels, name));
    if (refused.length > 0) {
      throw new RequestError(403, 'forbidden', `Not open to you: ${refused.join(', ')}.`, { channels: refused });
    }
    return { interest, cursor: requestedCursor(context.get('Last-Event-ID') || undefined, query) };
  } catch (error) {
    if (error instanceof ChannelError) throw new RequestError(400, 'bad_channel', error.message);
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
      }
    }
    await next();
  };
}

function methodNotAllowed(allow: string): RequestError {
  return new RequestError(
    405,
    'method_not_allowed',
    `Only ${allow} work here. Publishing is an INSERT into the outbox table.`,
    { allow },
  );
}

/** Answers what the parser could not take. The client may still be sending: the rest is read and dropped, for a moment. */
function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const [status, code, message] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? [
          '431 Request Header Fields Too Large',
          'headers_too_large',
          `Address and headers together have at most ${MAX_HEADER_BYTES} bytes.`,
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
