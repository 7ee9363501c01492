/** What one process of a relay answers about itself. */
import { ChannelError, channelFilter, type ChannelFilter } from '../event/channel-filter.js';
import type { Log } from '../feed/log.js';
import type { Readiness } from '../feed/readiness.js';
import type { Budget } from '../stream/page-budget.js';
import type { Streams } from '../stream/streams.js';
import { survey, type DeliverySelection } from '../stream/survey.js';
import { masked } from './masking.js';
import type { Pulse } from './pulse.js';
import type { Answer, Answerer, OverviewAnswer, Question } from './question.js';
import type { Refusals } from './refusals.js';

export interface AnswererParts {
  readonly streams: Pick<Streams, 'all' | 'byState' | 'totals'>;
  readonly log: Log;
  readonly budget: Pick<Budget, 'heldBytes'>;
  readonly readiness: () => Readiness;
  /** Which of several it is; 0: the only one. */
  readonly processNumber: number;
  readonly pulse: Pulse;
  readonly refusals: Refusals;
  /** Where an event stands; undefined: it is not there. */
  readonly placeOf: (id: string) => Promise<DeliverySelection | undefined>;
}

export function createAnswerer(shows: { readonly addresses: boolean }, parts: AnswererParts): Answerer {
  const { log, streams, refusals, processNumber } = parts;
  const prefix = processNumber === 0 ? '' : `${processNumber}-`;

  async function answer(question: Question): Promise<Answer> {
    const { connections = [], channels = [], delivered, refusalsAfter } = question;
    const delivery = delivered === undefined ? undefined : await parts.placeOf(delivered);
    const isSurvey = connections.length > 0 || channels.length > 0 || delivery !== undefined;
    const request = {
      connections: connections.map(({ sort, channel, limit }) => ({ sort, limit, channel: wantedChannel(channel) })),
      channels,
      delivery,
    };
    const surveyed = isSurvey ? await survey({ streams, log, prefix }, request) : {};
    return {
      ...surveyed,
      ...(question.overview && { overview: overview(parts) }),
      ...(refusalsAfter !== undefined && { refusals: refusals.after(refusalsAfter) }),
      ...(delivered !== undefined && { isKnown: delivery !== undefined }),
    };
  }

  return async (question) => (shows.addresses ? answer(question) : masked(await answer(question)));
}

/** No connection asks for what can be no channel. */
const NO_CHANNEL = channelFilter([]);

function wantedChannel(channel: string | undefined): ChannelFilter | undefined {
  if (channel === undefined) return undefined;
  try {
    return channelFilter([channel]);
  } catch (error) {
    if (error instanceof ChannelError) return NO_CHANNEL;
    throw error;
  }
}

function overview({ log, streams, budget, readiness, pulse, refusals }: AnswererParts): OverviewAnswer {
  const { ready, reasons } = readiness();
  const { heapUsed, rss } = process.memoryUsage();
  const { totals } = streams;
  return {
    uptimeSeconds: Math.round(process.uptime()),
    ready,
    reasons: reasons.map(({ since, ...reason }) => ({ ...reason, since: since.toISOString() })),
    head: { id: log.head.id, position: String(log.head.position) },
    states: streams.byState(),
    totals: { events: pulse.events, deliveries: totals.events, bytes: totals.bytes, refusals: refusals.total },
    ...pulse.take(),
    memory: { heapBytes: heapUsed, rssBytes: rss, windowBytes: log.size.bytes, replayBytes: budget.heldBytes },
  };
}
