/**
 * Server: an HTTP server as each of our ports has it, with bounds on what a client may send, how
 * slowly, and on how many connections, and with an answer for whatever arrives. No request to any
 * port ends the process.
 */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import Koa from 'koa';
import type { Logger } from 'pino';
import { counted, type Counted } from '../access/client-address.js';
import { layer, type Connection } from './detachable-connection.js';
import { answerErrors, refuseRaw, refuse, type RefusalOptions } from './errors.js';
import { RequestError } from './request-error.js';
import { requireTarget } from './request-target.js';

export interface ServerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /**
   * Connections beyond the limit, and some that have not asked for anything yet, are not accepted.
   */
  readonly maxConnections: number;
  readonly maxHeaderBytes: number;
  /** Time that a client has to send its request, and in which it has to take something of the answer. */
  readonly requestTimeoutSeconds: number;
  readonly shutdownSeconds: number;
  readonly logger: Logger;
  /** How many connections an address may have open; undefined: as many as there may be. */
  readonly mostFrom?: ((address: Counted) => number) | undefined;
}

export interface HttpServer {
  /** Where it is, without a path. */
  readonly url: string;
  /**
   * Stops accepting. Resolves when every connection has ended: those idle now, those whose request
   * is on the way soon, and streams when their owner ends them.
   */
  close(): Promise<void>;
}

/** Time to answer requests that are under way when the server stops. */
const STOPPING_GRACE_MS = 1000;
/**
 * How many connections may wait to be accepted: as many as the system allows. After a cut all
 * clients come back in one moment, and whoever finds the queue full tries again after one second,
 * three, seven and more.
 */
const BACKLOG = 65_535;
/** Idle time after which the kernel probes a peer, to find one that vanished. */
const KEEP_ALIVE_MS = 30_000;
/** Shortest time between two warnings of one kind. */
const LOG_PAUSE_MS = 10_000;

/** An application that answers errors as all of ours do, and takes none but valid targets. */
export function createApp(options: RefusalOptions): Koa {
  const app = new Koa();
  app.on('error', (error: NodeJS.ErrnoException) => {
    if (!isDeparture(error)) options.logger.error({ err: error }, 'a request failed');
  });
  app.use(answerErrors(options));
  app.use(requireTarget);
  app.use(async ({ req: request }, next) => {
    if (/^(?!100-continue$)./i.test(request.headers.expect ?? '')) {
      throw new RequestError(417, 'expectation_failed', 'No expectation but 100-continue can be met.');
    }
    await next();
  });
  return app;
}

/** @throws the server's error, such as EADDRINUSE. */
export async function startServer(app: Koa, options: ServerOptions): Promise<HttpServer> {
  const { logger } = options;
  const server = http.createServer({
    maxHeaderSize: options.maxHeaderBytes,
    headersTimeout: options.requestTimeoutSeconds * 1000,
    requestTimeout: options.requestTimeoutSeconds * 1000,
    connectionsCheckingInterval: Math.min(1000, options.requestTimeoutSeconds * 250),
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
    // Its answer would have no body; ours is in `requireTarget`.
    requireHostHeader: false,
  });
  server.maxConnections = options.maxConnections;

  const connections = new Set<Duplex>();
  server.on('connection', (connection: Duplex) => {
    connections.add(connection);
    connection.once('close', () => connections.delete(connection));
  });
  const { mostFrom } = options;
  if (mostFrom) boundByAddress(server, mostFrom);
  layer(server);

  const handle = app.callback();
  // Connections on which an answer, which may become a stream, is on its way. Whatever else arrives
  // on them would be answered amid the frames.
  const answering = new WeakSet<Duplex>();
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { socket } = request;
    if (answering.has(socket)) {
      socket.destroy();
      return;
    }
    answering.add(socket);
    response.once('finish', () => answering.delete(socket));
    // Whoever takes nothing of an answer would have its connection for ever: nothing else ends it.
    response.once('prefinish', () => {
      if (!socket.timeout) socket.setTimeout(options.requestTimeoutSeconds * 1000);
    });
    try {
      await handle(request, response);
    } catch (error) {
      logger.error({ err: error }, 'a request failed');
      socket.destroy();
    }
  }
  const onRequest = (request: IncomingMessage, response: ServerResponse) => void answer(request, response);
  server.on('request', onRequest);
  // Unheard, each of these would be answered without a body, or not at all.
  server.on('checkExpectation', onRequest);
  server.on('connect', (_request, socket: Duplex) => {
    if (answering.has(socket)) socket.destroy();
    else refuseRaw(socket, '405 Method Not Allowed', 'method_not_allowed', 'This is no proxy.');
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
  // One connection could not be accepted, as where the process has all the files that it may have.
  // The next may be.
  let loggedAt = -Infinity;
  server.on('error', (error) => {
    if (Date.now() - loggedAt < LOG_PAUSE_MS) return;
    loggedAt = Date.now();
    logger.warn({ err: error }, 'a connection could not be accepted');
  });

  const address = server.address() as AddressInfo;
  const host = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `http://${host}:${address.port}`,
    close: () =>
      new Promise((closed) => {
        // A connection on which nothing was asked yet, as browsers open in advance, does not count
        // as idle.
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

/** Destroys connections beyond the limit of their address; streams do not count. */
function boundByAddress(server: http.Server, mostFrom: (address: Counted) => number): void {
  const open = new Map<string, number>();
  server.on('connection', (connection: Connection) => {
    const address = counted(connection.remoteAddress ?? '');
    const before = open.get(address.key) ?? 0;
    open.set(address.key, before + 1);
    connection.once('close', () => {
      const rest = (open.get(address.key) ?? 0) - 1;
      if (rest > 0) open.set(address.key, rest);
      else open.delete(address.key);
    });
    if (before >= mostFrom(address)) connection.destroy();
  });
}

/** A client that leaves is not an error. */
function isDeparture(error: NodeJS.ErrnoException): boolean {
  return ['ERR_STREAM_PREMATURE_CLOSE', 'ECONNRESET', 'EPIPE', 'ECANCELED'].includes(error.code ?? '');
}
