/**
 * Refusals: how a client is told that it gets no stream, before the headers are out: a status with
 * a JSON body, `{"error": code, "message": what to do}`.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type Koa from 'koa';
import type { Logger } from 'pino';
import { BREAK_OFF_MS, setEndless } from '../event/chunk.js';
import { Denied, type DenialCode } from '../access/denied.js';
import { RequestError } from './request-error.js';
import { pauseText, STREAM_HEADERS } from '../event/sse.js';

/** What a client was told, and what it had asked. */
export interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  /** May hold a credential, in its address too. */
  readonly request: IncomingMessage;
}

export interface RefusalOptions {
  /** What clients are told to wait before they reconnect. */
  readonly retrySeconds: number;
  readonly logger: Logger;
  /** Told of each refusal. */
  readonly onRefused: (refusal: Refusal) => void;
}

/** Time that a client has to read a refusal before its connection is destroyed. */
const REFUSED_LINGER_MS = 1000;
/**
 * A client that is sent away comes back after 1 to `BUSY_SPREAD` times `BUSY_RETRIES` usual pauses.
 */
const BUSY_SPREAD = 2;
const BUSY_RETRIES = 3;

interface Answer {
  readonly status: number;
  /** What the client is told, where that is not the code. */
  readonly error?: string;
  /** Source: RFC 6750, section 3. */
  readonly challenge?: string;
  readonly temporary?: boolean;
}

const INVALID_TOKEN = 'Bearer error="invalid_token"';

/** How each denial is answered; `denied` by the application's own answer. */
export const DENIALS: Readonly<Record<Exclude<DenialCode, 'denied'>, Answer>> = {
  unauthorized: { status: 401, challenge: 'Bearer' },
  invalid_token: { status: 401, challenge: INVALID_TOKEN },
  expired_token: { status: 401, challenge: INVALID_TOKEN },
  forbidden: { status: 403 },
  foreign_origin: { status: 403 },
  auth_unavailable: { status: 503, temporary: true },
  auth_busy: { status: 503, temporary: true },
  relay_full: { status: 503, error: 'too_many_connections', temporary: true },
  address_full: { status: 429, error: 'too_many_connections', temporary: true },
  subject_full: { status: 429, error: 'too_many_connections', temporary: true },
};

/** Answers what the next throws. */
export function answerErrors({ retrySeconds, logger, onRefused }: RefusalOptions): Koa.Middleware {
  function note(context: Koa.Context, status: number, { code, message }: Denied | RequestError): void {
    logger.debug({ status, code }, 'refused');
    onRefused({ status, code, message, request: context.req });
    context.set({ 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' });
  }

  return async (context, next) => {
    try {
      await next();
    } catch (error) {
      if (error instanceof Denied && error.answer) {
        const { status, contentType, body } = error.answer;
        note(context, status, error);
        context.status = status;
        context.body = body;
        context.set('Content-Type', contentType);
        return;
      }
      const refused = refusalOf(error);
      note(context, refused.status, refused);
      const pause = retrySeconds * BUSY_RETRIES * (1 + Math.random() * (BUSY_SPREAD - 1));
      if (refused.temporary && /\btext\/event-stream\b/i.test(context.get('Accept'))) {
        answerBusy(context, refused, pause * 1000);
        return;
      }
      context.status = refused.status;
      context.set(refused.headers);
      if (refused.temporary) context.set('Retry-After', String(Math.max(1, Math.ceil(pause))));
      const { code, message, channels, details } = refused;
      context.body = { error: code, message, ...(channels ? { channels } : {}), ...details };
    }
  };
}

/**
 * To an EventSource any other status than 200 would be the end. To other clients it would be the
 * end of a complete answer: so this one breaks off, as a stream does.
 */
function answerBusy(context: Koa.Context, { code, message }: RequestError, pause: number): void {
  const { req: request, res: response } = context;
  context.status = 200;
  context.set(STREAM_HEADERS);
  context.respond = false;
  if (context.method === 'HEAD') {
    response.end();
    return;
  }
  setEndless(request, response);
  response.write(pauseText('busy', pause, { error: code, message }));
  const { socket } = response;
  setTimeout(() => socket?.destroySoon(), BREAK_OFF_MS).unref();
}

/**
 * What the client is told of an error. @throws the error, where that is not the client's business.
 */
export function refusalOf(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  if (error instanceof Denied && error.code !== 'denied') {
    const { status, error: code = error.code, challenge, temporary = false } = DENIALS[error.code];
    const headers = challenge === undefined ? {} : { 'WWW-Authenticate': challenge };
    return new RequestError(status, code, error.message, {
      headers,
      temporary,
      cause: error,
      ...(error.channels && { channels: error.channels }),
    });
  }
  if (isBadRequest(error)) {
    return new RequestError(400, 'bad_request', 'The address is not valid: check its percent-encoding.');
  }
  throw error;
}

export function notFound(path: string): RequestError {
  return new RequestError(
    404,
    'not_found',
    `Nothing is at ${path.slice(0, 100)}. Streams are at /events?channel=NAME.`,
  );
}

export function methodNotAllowed(allow: string): RequestError {
  return new RequestError(
    405,
    'method_not_allowed',
    `Only ${allow} work here. Publishing is an INSERT into the outbox table.`,
    { headers: { Allow: allow } },
  );
}

/** Answers a request that Node's parser could not read. */
export function refuse(error: NodeJS.ErrnoException, socket: Duplex, maxHeaderBytes: number): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  if (error.code === 'HPE_HEADER_OVERFLOW') {
    const message = `Address and headers together have at most ${maxHeaderBytes} bytes.`;
    refuseRaw(socket, '431 Request Header Fields Too Large', 'headers_too_large', message);
  } else if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    refuseRaw(socket, '408 Request Timeout', 'request_timeout', 'The request was not complete in time.');
  } else {
    refuseRaw(socket, '400 Bad Request', 'bad_request', 'This is not a valid HTTP request.');
  }
}

/** Answers on the socket and ends the connection; what still arrives is read and dropped. */
export function refuseRaw(socket: Duplex, status: string, code: string, message: string): void {
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
