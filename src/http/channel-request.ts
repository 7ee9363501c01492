/**
 * A request for channels, for a stream of them or for a page: what it asks for, and from where on.
 */
import type Koa from 'koa';
import type Router from 'koa-router';
import type { AccessRequest } from '../access/access.js';
import { clientAddress, counted } from '../access/client-address.js';
import { ChannelError, channelFilter } from '../event/channel-filter.js';
import type { StreamFormat } from '../event/envelope.js';
import { eventFilter, EventNameError, MAX_EVENT_NAMES, type EventFilter } from '../event/event-filter.js';
import { requestedCursor, SinceError, type CursorRequest } from '../stream/resume-point.js';
import { methodNotAllowed } from './errors.js';
import { RequestError } from './request-error.js';

export interface ChannelRequestOptions {
  readonly maxChannels: number;
  /** How many proxies in front are believed about the address of the client. */
  readonly trustProxy: number;
}

/** What may be asked of such an address. */
export const METHODS = 'GET, HEAD, OPTIONS';

/** Serves GET and HEAD of channels in the query of `base`, and of one below it. */
export function routeChannels(router: Router, base: string, answer: (context: Koa.ParameterizedContext) => unknown) {
  const paths = base === '' ? ['/:channel'] : [base, `${base}/`, `${base}/:channel`, `${base}/:channel/`];
  router.get(paths, answer);
  router.all(paths, (context) => {
    if (context.method !== 'OPTIONS') throw methodNotAllowed(METHODS);
    context.set('Allow', METHODS);
    context.status = 204;
  });
}

/** What is asked for. */
export interface ChannelRequest extends Omit<AccessRequest, 'left'> {
  readonly filter: EventFilter;
}

/**
 * Reads what is asked for.
 *
 * @param base what stands before a channel in the path, as in `/events`.
 * @throws RequestError 400 where that is nothing that there could be.
 */
export function readRequest(
  context: Koa.ParameterizedContext,
  base: string,
  options: ChannelRequestOptions,
): ChannelRequest {
  if (Number(context.get('Content-Length')) > 0 || context.get('Transfer-Encoding')) {
    throw new RequestError(400, 'unexpected_body', 'A request for events has no body.');
  }
  const query = new URLSearchParams(context.querystring);
  const inQuery = query.getAll('channel');
  // The router leaves a segment that it cannot decode as it is; a channel of that name would be
  // silently empty for ever.
  const inPath = context.path.slice(base.length + 1).replace(/\/$/, '');
  const names = [...new Set(inPath === '' ? inQuery : [decodeURIComponent(inPath), ...inQuery])];
  if (names.length === 0) {
    throw new RequestError(
      400,
      'no_channel',
      `Name at least one channel, as in ${base}?channel=orders or ${base}/orders.`,
    );
  }
  if (names.length > options.maxChannels) {
    throw new RequestError(
      400,
      'too_many_channels',
      `${names.length} channels are asked for; one connection may have ${options.maxChannels}. Use a prefix such as user:*, or raise MAX_CHANNELS.`,
    );
  }
  const events = query.getAll('event');
  if (events.length > MAX_EVENT_NAMES) {
    throw new RequestError(
      400,
      'too_many_events',
      `${events.length} events are asked for by name; one request may name ${MAX_EVENT_NAMES}. Leave event= out for all.`,
    );
  }
  try {
    const wanted = channelFilter(names);
    return {
      names,
      wanted,
      filter: eventFilter(wanted, events),
      headers: context.req.headers,
      host: context.req.headers.host ?? '',
      address: counted(clientAddress(context.req, options.trustProxy)),
      queryToken: query.get('token'),
    };
  } catch (error) {
    if (error instanceof ChannelError) throw new RequestError(400, 'bad_channel', error.message);
    if (error instanceof EventNameError) throw new RequestError(400, 'bad_event', error.message);
    throw error;
  }
}

/**
 * What the events of a stream are to have in them.
 *
 * @throws RequestError 400 where there is no such format.
 */
export function readFormat(context: Koa.ParameterizedContext): StreamFormat {
  const text = new URLSearchParams(context.querystring).get('format');
  if (text === null || text === '') return 'data';
  if (text === 'data' || text === 'envelope') return text;
  throw new RequestError(
    400,
    'bad_format',
    `format=${text.slice(0, 20)}: give envelope, or data, which is the default.`,
  );
}

/**
 * Where it is to start.
 *
 * @param first a cursor that counts before all others.
 * @param otherwise where it is to start if nothing says where.
 * @throws RequestError 400 where that is no time that there could be.
 */
export function readCursor(
  context: Koa.ParameterizedContext,
  first: string | null,
  otherwise: 'now' | 'earliest',
): CursorRequest {
  try {
    const header = first || context.get('Last-Event-ID') || undefined;
    return requestedCursor(header, new URLSearchParams(context.querystring), otherwise);
  } catch (error) {
    if (error instanceof SinceError) throw new RequestError(400, 'bad_since', error.message);
    throw error;
  }
}
