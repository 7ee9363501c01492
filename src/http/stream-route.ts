/**
 * A request for a stream: what it asks for, whether it may, and the handing over of its connection,
 * which then belongs to `stream/stream.ts`.
 */
import type { Duplex } from 'node:stream';
import type Koa from 'koa';
import type Router from 'koa-router';
import type { Access, AccessRequest, Permission } from '../access/access.js';
import { ChannelError, channelFilter } from '../event/channel-filter.js';
import { setEndless } from '../event/chunk.js';
import { clientAddress, counted } from '../access/client-address.js';
import { Connection } from './detachable-connection.js';
import { requestedCursor, SinceError, type CursorRequest } from '../stream/resume-point.js';
import type { Limits } from '../access/connection-limits.js';
import { methodNotAllowed } from './errors.js';
import { RequestError } from './request-error.js';
import { STREAM_HEADERS } from '../event/sse.js';
import type { Streams } from '../stream/streams.js';

export interface StreamRequestOptions {
  readonly streams: Streams;
  readonly access: Access;
  readonly limits: Limits;
  readonly maxChannels: number;
  /** How many proxies in front are believed about the address of the client. */
  readonly trustProxy: number;
}

/** What may be asked of a stream's address. */
export const METHODS = 'GET, HEAD, OPTIONS';

/** Serves streams at these paths. */
export function routeStreams(router: Router, paths: string[], options: StreamRequestOptions): void {
  router.get(paths, (context) => openStream(context, options));
  router.all(paths, (context) => {
    if (context.method !== 'OPTIONS') throw methodNotAllowed(METHODS);
    context.set('Allow', METHODS);
    context.status = 204;
  });
}

async function openStream(context: Koa.ParameterizedContext, options: StreamRequestOptions): Promise<void> {
  const { req: request, res: response } = context;
  const connection: Duplex = request.socket;
  const departure = new AbortController();
  const asked = { ...readRequest(context, options), left: departure.signal };
  const slot = options.limits.take(asked.address);
  let isOpen = false;
  const onClose = () => departure.abort();
  connection.once('close', onClose);
  try {
    const permission: Permission = await options.access.permit(asked);
    const cursor = readCursor(context);
    if (permission.subject !== undefined) slot.assignTo(permission.subject);
    context.status = 200;
    context.set(STREAM_HEADERS);
    // From here on the answer is ours: it goes out in chunks that are made elsewhere, and breaks
    // off with the connection.
    context.respond = false;
    if (context.method === 'HEAD') {
      response.end();
    } else if (!connection.destroyed) {
      const isChunked = setEndless(request, response);
      response.flushHeaders();
      const socket = connection instanceof Connection ? connection.release() : undefined;
      // For HTTP that was all, and what it writes now, which is the last chunk, goes nowhere.
      // Without this its end would be an error to HTTP, with a stack that costs more than the
      // request. It would then keep the connection for another request.
      response.once('finish', () => connection.destroy());
      response.end();
      if (socket === undefined) return;
      isOpen = true;
      options.streams.open(socket, {
        filter: asked.wanted,
        cursor,
        client: permission.subject ?? asked.address.key,
        expiresAt: permission.expiresAt,
        isChunked,
        onGone: slot.release,
      });
    }
  } catch (error) {
    if (!departure.signal.aborted) throw error;
    // There is nobody to be answered.
    context.respond = false;
  } finally {
    connection.off('close', onClose);
    if (!isOpen) slot.release();
  }
}

/** What is asked for. @throws RequestError 400 where that is nothing that there could be. */
function readRequest(context: Koa.ParameterizedContext, options: StreamRequestOptions): Omit<AccessRequest, 'left'> {
  if (Number(context.get('Content-Length')) > 0 || context.get('Transfer-Encoding')) {
    throw new RequestError(400, 'unexpected_body', 'A request for a stream has no body.');
  }
  const query = new URLSearchParams(context.querystring);
  const inQuery = query.getAll('channel');
  // The router leaves a segment that it cannot decode as it is; a channel of that name would be
  // silently empty for ever.
  const inPath = context.path.replace(/^\/events(\/|$)|^\//, '');
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
      wanted: channelFilter(names),
      headers: context.req.headers,
      host: context.req.headers.host ?? '',
      address: counted(clientAddress(context.req, options.trustProxy)),
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
