/**
 * A request for a stream: what it asks for, whether it may, and the handing over of its connection,
 * which then belongs to `stream/stream.ts`.
 */
import type { Duplex } from 'node:stream';
import type Koa from 'koa';
import type Router from 'koa-router';
import type { Access, Permission } from '../access/access.js';
import { clientAddress } from '../access/client-address.js';
import { setEndless } from '../event/chunk.js';
import { readCursor, readFormat, readRequest, routeChannels, type ChannelRequestOptions } from './channel-request.js';
import { Connection } from './detachable-connection.js';
import type { Limits } from '../access/connection-limits.js';
import { STREAM_HEADERS } from '../event/sse.js';
import type { Streams } from '../stream/streams.js';

export interface StreamRequestOptions extends ChannelRequestOptions {
  readonly streams: Pick<Streams, 'open'>;
  readonly access: Pick<Access, 'permit'>;
  readonly limits: Limits;
  /** Whether streams are compressed for clients that take it. */
  readonly compression: 'none' | 'gzip';
}

/** A proxy may tell anything for an address. */
const MAX_ADDRESS_LENGTH = 64;

/** Whether a client takes gzip. Source: RFC 9110, section 12.5.3. */
function takesGzip(accepted: string): boolean {
  return accepted
    .split(',')
    .map((item) => item.split(';').map((part) => part.trim().toLowerCase()))
    .some(
      ([coding, ...rest]) => (coding === 'gzip' || coding === 'x-gzip') && !rest.some((q) => /^q=0(\.0*)?$/.test(q)),
    );
}

/** Serves streams at `base`, and those of one channel below it. */
export function routeStreams(router: Router, base: '/events' | '', options: StreamRequestOptions): void {
  routeChannels(router, base, (context) => openStream(context, base, options));
}

async function openStream(
  context: Koa.ParameterizedContext,
  base: string,
  options: StreamRequestOptions,
): Promise<void> {
  const { req: request, res: response } = context;
  const connection: Duplex = request.socket;
  const departure = new AbortController();
  const asked = { ...readRequest(context, base, options), left: departure.signal };
  const format = readFormat(context);
  const slot = options.limits.take(asked.address);
  let isOpen = false;
  const onClose = () => departure.abort();
  connection.once('close', onClose);
  try {
    const permission: Permission = await options.access.permit(asked);
    const cursor = readCursor(context, null, 'now');
    if (permission.subject !== undefined) slot.assignTo(permission.subject);
    context.status = 200;
    context.set(STREAM_HEADERS);
    const isCompressed =
      options.compression === 'gzip' &&
      request.httpVersion === '1.1' &&
      takesGzip(request.headers['accept-encoding'] ?? '');
    if (options.compression !== 'none') context.vary('Accept-Encoding');
    if (isCompressed) context.set('Content-Encoding', 'gzip');
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
        filter: asked.filter,
        format,
        cursor,
        client: permission.subject ?? asked.address.key,
        address: clientAddress(request, options.trustProxy).slice(0, MAX_ADDRESS_LENGTH),
        subject: permission.subject,
        expiresAt: permission.expiresAt,
        isChunked,
        isCompressed,
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
