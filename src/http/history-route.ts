/**
 * A request for a page of events as JSON, for programs, and for clients behind a proxy that keeps
 * streams back. Rights and cursors are those of a stream.
 */
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type Koa from 'koa';
import type Router from 'koa-router';
import type { Logger } from 'pino';
import type { Access } from '../access/access.js';
import type { Limits } from '../access/connection-limits.js';
import type { PollAnswer, Polls } from '../stream/polls.js';
import { readCursor, readRequest, routeChannels, type ChannelRequestOptions } from './channel-request.js';
import { readNumber, type NumberParameter } from './query-number.js';
import { RequestError } from './request-error.js';

export interface HistoryRequestOptions extends ChannelRequestOptions {
  readonly polls: Pick<Polls, 'poll' | 'hold'>;
  readonly access: Pick<Access, 'permit'>;
  readonly limits: Limits;
  /** A client that takes nothing of its answer for so long is dropped. */
  readonly stallSeconds: number;
  readonly logger: Pick<Logger, 'debug'>;
}

const HISTORY_PATH = '/history';

export const LIMIT: NumberParameter = { name: 'limit', default: 100, least: 1, most: 1000, code: 'bad_limit' };
export const WAIT_SECONDS: NumberParameter = { name: 'wait', default: 0, least: 0, most: 60, code: 'bad_wait' };

/** Serves pages. */
export function routeHistory(router: Router, options: HistoryRequestOptions): void {
  routeChannels(router, HISTORY_PATH, (context) => answerPage(context, options));
}

async function answerPage(context: Koa.ParameterizedContext, options: HistoryRequestOptions): Promise<void> {
  const connection: Duplex = context.req.socket;
  const departure = new AbortController();
  const asked = { ...readRequest(context, HISTORY_PATH, options), left: departure.signal };
  const query = new URLSearchParams(context.querystring);
  const limit = readNumber(query, LIMIT);
  const waitSeconds = readNumber(query, WAIT_SECONDS);
  const slot = options.limits.take(asked.address);
  const onClose = () => departure.abort();
  connection.once('close', onClose);
  try {
    const permission = await options.access.permit(asked);
    const cursor = readCursor(context, query.get('after'), 'earliest');
    if (permission.subject !== undefined) slot.assignTo(permission.subject);
    const waitMs = Math.min(waitSeconds * 1000, permission.expiresAt - Date.now());
    const request = { filter: asked.filter, cursor, limit, waitMs, left: departure.signal };
    const answer = await options.polls.poll(request).catch((error: unknown) => refuse(error, options));
    const body = jsonOf(answer);
    // By whom it may be read depends on who asks, and an event may be redacted.
    context.set({ 'Cache-Control': 'private, no-cache', 'X-Content-Type-Options': 'nosniff' });
    context.vary('Authorization, Cookie');
    context.type = 'application/json; charset=utf-8';
    context.etag = createHash('sha256').update(body).digest('base64url').slice(0, 22);
    context.status = 200;
    if (context.fresh) {
      context.status = 304;
      return;
    }
    context.body = body;
    const drop = () => connection.destroy();
    context.res.once('close', options.polls.hold(answer, body, drop));
    context.res.setTimeout(options.stallSeconds * 1000, drop);
  } catch (error) {
    if (!departure.signal.aborted) throw error;
    // There is nobody to be answered.
    context.respond = false;
  } finally {
    connection.off('close', onClose);
    if (context.res.writableEnded || context.respond === false) slot.release();
    else context.res.once('close', slot.release);
  }
}

function jsonOf({ events, cursor, more, reset }: PollAnswer): Buffer {
  const parts: Buffer[] = [Buffer.from('{"events":[')];
  for (const [index, event] of events.entries()) parts.push(Buffer.from(index === 0 ? '\n' : ',\n'), event);
  const rest = JSON.stringify({ cursor, more, ...(reset && { reset }) });
  parts.push(Buffer.from(`${events.length === 0 ? '' : '\n'}],${rest.slice(1)}\n`));
  return Buffer.concat(parts);
}

/** No stream is open yet that could wait. @throws RequestError 503 */
function refuse(error: unknown, { logger }: HistoryRequestOptions): never {
  logger.debug({ err: error }, 'a page of history could not be read');
  throw new RequestError(503, 'database_unavailable', 'The database does not answer. Ask again with the same cursor.', {
    temporary: true,
    cause: error,
  });
}
