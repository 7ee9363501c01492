/**
 * Survey: who is connected now, for an operator who looks. Nothing is kept for it but what streams
 * have anyway, so it costs nothing while nobody looks; and however many there are, it goes through
 * them in slices, between which events go out.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { covers, matches, namesOf, type ChannelFilter } from '../event/channel-filter.js';
import type { StreamFormat } from '../event/envelope.js';
import { wantsName } from '../event/event-filter.js';
import type { Log } from '../feed/log.js';
import type { Stream } from './stream.js';
import { stateOf, type Streams, type StreamStates } from './streams.js';
import { createTop } from './top.js';

/** What connections are sorted by, the highest first. */
export const SORTS = ['lag', 'age', 'waiting'] as const;
export type Sort = (typeof SORTS)[number];

/** Which connections are asked for. */
export interface ConnectionSelection {
  readonly sort: Sort;
  /** Of those that get all that it has; undefined: of all. */
  readonly channel: ChannelFilter | undefined;
  readonly limit: number;
}

/** Which channels are asked for: those that most connections have asked for. */
export interface ChannelSelection {
  readonly prefix: string;
  readonly limit: number;
}

/** An event, and how far each of its readers has come with it. */
export interface DeliverySelection {
  readonly position: bigint;
  readonly channel: string;
  readonly event: string;
}

export interface SurveyRequest {
  readonly connections?: readonly ConnectionSelection[];
  readonly channels?: readonly ChannelSelection[];
  readonly delivery?: DeliverySelection | undefined;
}

/** One connection. */
export interface ConnectionFigures {
  readonly id: string;
  readonly address: string;
  readonly subject: string | null;
  /** As they were asked for, without those that others cover: the first ten. */
  readonly channels: readonly string[];
  /** How many more there are. */
  readonly moreChannels?: number;
  readonly state: 'live' | 'catching-up' | 'stalled';
  /** Id of the last event of what it has passed; null: it looks for its place. */
  readonly cursor: string | null;
  /** Positions between there and the head, whatever their channels; null: not known yet. */
  readonly lagEvents: number | null;
  readonly ageSeconds: number;
  /** Bytes that its client has not taken. */
  readonly waitingBytes: number;
  readonly format: StreamFormat;
  readonly compressed: boolean;
  /** Events that it was given. */
  readonly events: number;
}

export interface SelectedConnections {
  /** How many the selection is of. */
  readonly total: number;
  readonly connections: readonly ConnectionFigures[];
}

export interface ChannelFigures {
  /** As it was asked for, as in `orders:*`. */
  readonly channel: string;
  readonly connections: number;
  /** How many of them are not at the head. */
  readonly lagging: number;
}

export interface SelectedChannels {
  readonly total: number;
  /** Whether all have been counted. */
  readonly isComplete: boolean;
  readonly channels: readonly ChannelFigures[];
}

/**
 * Streams that are open now and want an event: those who have passed it, and those who have yet to.
 */
export interface DeliveryFigures {
  readonly open: number;
  readonly passed: number;
  readonly behind: number;
}

export interface SurveyAnswer {
  readonly states: StreamStates;
  /** For each selection that was asked for, in their order. */
  readonly connections: readonly SelectedConnections[];
  readonly channels: readonly SelectedChannels[];
  readonly delivery: DeliveryFigures | undefined;
}

/** Longest time that events wait for it. */
const SLICE_MS = 2;
/** How many streams are looked at between looks at the clock. */
const STREAMS_PER_LOOK = 32;

const CHANNELS_SHOWN = 10;
/** Names that are counted: clients may make up as many as they like. */
const MOST_CHANNELS = 100_000;

export interface SurveyParts {
  readonly streams: Pick<Streams, 'all'>;
  readonly log: Pick<Log, 'head'>;
  /** Of the ids of connections, where several processes have some. */
  readonly prefix: string;
}

/** Looks at all streams once, for all that is asked. */
export async function survey({ streams, log, prefix }: SurveyParts, request: SurveyRequest): Promise<SurveyAnswer> {
  const states = { live: 0, catchingUp: 0, stalled: 0 };
  const selections = (request.connections ?? []).map((selection) => ({
    ...selection,
    total: 0,
    top: createTop<Stream>(selection.limit),
  }));
  const counts = new Map<string, { connections: number; lagging: number }>();
  const isCounting = (request.channels ?? []).length > 0;
  const delivery = { open: 0, passed: 0, behind: 0 };

  let began = performance.now();
  let looked = 0;
  for (const stream of streams.all()) {
    look(stream);
    looked += 1;
    if (looked % STREAMS_PER_LOOK === 0 && performance.now() - began > SLICE_MS) {
      await nextTurn();
      began = performance.now();
    }
  }

  function look(stream: Stream): void {
    const { filter } = stream.request;
    const state = stateOf(stream.subscription);
    states[state] += 1;
    for (const selection of selections) {
      if (selection.channel && !covers(filter, selection.channel)) continue;
      selection.total += 1;
      selection.top.add(RANKS[selection.sort](stream, log), stream);
    }
    if (isCounting) {
      for (const name of filter.channels) count(name, state !== 'live');
      for (const prefix of filter.prefixes) count(`${prefix}*`, state !== 'live');
    }
    if (request.delivery) lookForDelivery(stream, request.delivery);
  }

  function count(channel: string, isLagging: boolean): void {
    let known = counts.get(channel);
    if (known === undefined && counts.size >= MOST_CHANNELS) return;
    if (known === undefined) counts.set(channel, (known = { connections: 0, lagging: 0 }));
    known.connections += 1;
    if (isLagging) known.lagging += 1;
  }

  function lookForDelivery({ request: { filter }, subscription }: Stream, wanted: DeliverySelection): void {
    if (!matches(filter, wanted.channel) || !wantsName(filter, () => wanted.event)) return;
    delivery.open += 1;
    if (subscription && subscription.cursor.position >= wanted.position) delivery.passed += 1;
    else delivery.behind += 1;
  }

  return {
    states,
    connections: selections.map(({ total, top }) => ({
      total,
      connections: top.list().map((stream) => figuresOf(stream, log, prefix)),
    })),
    channels: (request.channels ?? []).map((selection) => mostWanted(counts, selection)),
    delivery: request.delivery && delivery,
  };
}

/** The higher, the sooner it is shown. */
const RANKS: Readonly<Record<Sort, (stream: Stream, log: Pick<Log, 'head'>) => number>> = {
  // Who looks for its place may lag by anything.
  lag: (stream, log) => lagOf(stream, log) ?? Infinity,
  age: ({ openedAt }) => -openedAt,
  waiting: ({ socket }) => socket.writableLength,
};

function lagOf({ subscription }: Stream, { head }: Pick<Log, 'head'>): number | null {
  if (subscription === undefined) return null;
  return Math.max(0, Number(head.position - subscription.cursor.position));
}

function figuresOf(stream: Stream, log: Pick<Log, 'head'>, prefix: string): ConnectionFigures {
  const { request, subscription, socket } = stream;
  const names = namesOf(request.filter);
  const state = stateOf(subscription);
  return {
    id: `${prefix}${stream.number}`,
    address: request.address,
    subject: request.subject ?? null,
    channels: names.slice(0, CHANNELS_SHOWN),
    ...(names.length > CHANNELS_SHOWN ? { moreChannels: names.length - CHANNELS_SHOWN } : {}),
    state: state === 'catchingUp' ? 'catching-up' : state,
    cursor: subscription?.cursor.id ?? null,
    lagEvents: lagOf(stream, log),
    ageSeconds: Math.round(Math.max(0, Date.now() - stream.openedAt) / 100) / 10,
    waitingBytes: socket.writableLength,
    format: request.format,
    compressed: request.isCompressed,
    events: stream.events,
  };
}

function mostWanted(
  counts: ReadonlyMap<string, Omit<ChannelFigures, 'channel'>>,
  { prefix, limit }: ChannelSelection,
): SelectedChannels {
  const top = createTop<ChannelFigures>(limit);
  let total = 0;
  for (const [channel, { connections, lagging }] of counts) {
    if (!channel.startsWith(prefix)) continue;
    total += 1;
    top.add(connections, { channel, connections, lagging });
  }
  return { total, isComplete: counts.size < MOST_CHANNELS, channels: top.list() };
}
