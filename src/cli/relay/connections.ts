/**
 * Who is connected to a relay, and who of them has got an event, as its metrics port tells.
 */
import * as z from 'zod';
import { isOperatorError } from '../../operator-error.js';
import { askRelay, textOf } from './request.js';

const count = z.number().nonnegative();

/** One connection. Of another relay there may be more. */
const connection = z.object({
  id: z.string(),
  /** Its network alone, unless CONSOLE_SHOWS has addresses. */
  address: z.string(),
  channels: z.array(z.string()),
  /** How many it has beside them. */
  moreChannels: count.optional(),
  state: z.enum(['live', 'catching-up', 'stalled']),
  /** Positions between its cursor and the newest event; null: it looks for its place. */
  lagEvents: count.nullable(),
  ageSeconds: count,
  /** Bytes that its client has not taken. */
  waitingBytes: count,
});

const connections = z.object({
  total: count,
  /** Those that are furthest behind, the first one most. */
  connections: z.array(connection),
  /** Those that most connections have asked for. */
  channels: z.array(z.object({ channel: z.string(), connections: count, lagging: count })),
  channelsTotal: count,
});

const delivery = z.object({ open: count, passed: count, behind: count });

export type RelayConnection = z.infer<typeof connection>;
export type RelayConnections = z.infer<typeof connections>;
/**
 * Of the streams that are open now and want an event, how many have passed it, and how many have
 * not.
 */
export type EventDelivery = z.infer<typeof delivery>;

/** Most that an answer may take. */
const MAX_CHARACTERS = 1024 * 1024;

export interface ConnectionsQuestion {
  /** How many connections are told of. */
  readonly limit: number;
  /** Those alone that get all of this channel. */
  readonly channel?: string;
}

/**
 * @param url of the metrics port.
 * @returns undefined where the relay does not tell, as where metrics are on PORT.
 * @throws OperatorError `relay-unreachable`; and the reason of the signal.
 */
export function askConnections(
  url: string,
  { limit, channel }: ConnectionsQuestion,
  signal: AbortSignal,
): Promise<RelayConnections | undefined> {
  const address = new URL(`${url}/connections`);
  address.searchParams.set('sort', 'lag');
  address.searchParams.set('limit', String(limit));
  if (channel !== undefined) address.searchParams.set('channel', channel);
  return ask(address, connections, signal);
}

/**
 * @param url of the metrics port.
 * @returns undefined where the relay does not tell, or has no such event.
 * @throws OperatorError `relay-unreachable`; and the reason of the signal.
 */
export function askDelivery(url: string, id: string, signal: AbortSignal): Promise<EventDelivery | undefined> {
  return ask(new URL(`${url}/delivered/${id}`), delivery, signal);
}

async function ask<T>(url: URL, shape: z.ZodType<T>, signal: AbortSignal): Promise<T | undefined> {
  let text: string;
  try {
    text = await textOf(await askRelay(url, { signal }), MAX_CHARACTERS);
  } catch (error) {
    if (isOperatorError(error, 'relay-refused')) return undefined;
    throw error;
  }
  try {
    return shape.parse(JSON.parse(text));
  } catch {
    // It is no relay, or one of another version.
    return undefined;
  }
}
