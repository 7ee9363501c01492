/**
 * What the console shows of the outbox: its log, and the life of one event. Both are read on one
 * connection of the console's own, so that nothing else waits for it, one question after the other.
 */
import type Koa from 'koa';
import { CompiledQuery, type Kysely } from 'kysely';
import { lookAtEvent, type EventRow, type Query } from '../admin/event-life.js';
import type { ChannelFilter } from '../event/channel-filter.js';
import { LARGEST_ID } from '../event/event.js';
import { fateOf, readersOf } from '../explain/event.js';
import type { Step } from '../explain/steps.js';
import type { Log } from '../feed/log.js';
import { RequestError } from '../http/request-error.js';
import { readDataOf } from '../outbox/log-data.js';
import { readLogPage, type LogFilter, type LogPlace } from '../outbox/log-page.js';
import { abortable, type Tables } from '../postgres/pool.js';
import { parseTime, SinceError } from '../stream/resume-point.js';
import type { DeliveryFigures } from '../stream/survey.js';
import { databaseAway } from './database-away.js';
import { readNumber } from '../http/query-number.js';
import { badParameter } from './parameters.js';
import type { Peers } from './question.js';
import type { ConsoleRouter } from './routes.js';
import { sentence } from './sentence.js';
import { deliveryOf } from './together.js';
import { maySee, type Viewer } from './viewer.js';

export interface OutboxRouteParts {
  readonly db: Kysely<Tables>;
  readonly log: Pick<Log, 'head'>;
  readonly peers: Peers;
}

export interface OutboxRouteOptions {
  readonly shows: { readonly data: boolean };
  readonly publicChannels: ChannelFilter;
}

const USUAL_LIMIT = 50;
const MOST_LIMIT = 100;
/** Questions to the database that may wait for each other. */
const MOST_WAITING = 8;

const HIDDEN = 'You may not read this channel. Bring a token that opens it, or have CONSOLE_SHOWS=data set.';
const TOO_LARGE = 'It is too large for a list. Open the event.';

export function routeOutbox(router: ConsoleRouter, options: OutboxRouteOptions, parts: OutboxRouteParts): void {
  const { log, peers } = parts;
  let waiting = 0;

  /** Asks the database for as long as the viewer is there. @throws RequestError 503 */
  async function ask<T>(context: Koa.ParameterizedContext, read: (db: Kysely<Tables>) => Promise<T>): Promise<T> {
    if (waiting >= MOST_WAITING) {
      throw new RequestError(503, 'console_busy', 'Too many questions at a time. Ask again in a second.', {
        temporary: true,
      });
    }
    const departure = new AbortController();
    const onClose = () => departure.abort();
    context.res.once('close', onClose);
    waiting += 1;
    try {
      return await read(abortable(parts.db, departure.signal));
    } catch (error) {
      throw databaseAway(error, 'Try again; with filters, choose a channel or a shorter time.');
    } finally {
      waiting -= 1;
      context.res.off('close', onClose);
    }
  }

  const isHidden = (viewer: Viewer, channel: string) =>
    !options.shows.data && !maySee(viewer, options.publicChannels, channel);

  router.get('log', async (context, viewer) => {
    const query = new URLSearchParams(context.querystring);
    const filter = readFilter(query);
    const place = readPlace(query);
    const limit = readNumber(query, {
      name: 'limit',
      default: USUAL_LIMIT,
      least: 1,
      most: MOST_LIMIT,
      code: 'bad_parameter',
    });
    const head = log.head.position;
    const { events, ...page } = await ask(context, (db) => readLogPage(db, head, filter, { place, limit }));
    context.body = {
      events: events.map(({ id, channel, event, createdAt, bytes, data, truncated }) => {
        const hidden = isHidden(viewer, channel) ? HIDDEN : data === null ? TOO_LARGE : null;
        return { id, channel, event, createdAt, bytes, data: hidden === null ? data : null, truncated, hidden };
      }),
      ...page,
    };
  });

  router.get('events/:id', async (context, viewer) => {
    const id = context.path.slice(context.path.lastIndexOf('/') + 1);
    if (!/^\d{1,19}$/.test(id) || BigInt(id) > LARGEST_ID)
      throw badParameter('id', id, 'the id of an event, in digits');
    const { life, data } = await ask(context, async (db) => {
      const query: Query = (text, values = []) => db.executeQuery(CompiledQuery.raw(text, [...values]));
      return { life: await lookAtEvent(query, id), data: await readDataOf(db, id) };
    });
    const fate = fateOf(id, life);
    const { row } = life;
    if (row === undefined || data === undefined) {
      throw new RequestError(404, 'unknown_event', `Event ${id}: ${notesOf(fate).join(' ')}`);
    }
    const hidden = isHidden(viewer, row.channel) ? HIDDEN : null;
    context.body = {
      ...timesOf(row),
      bytes: data.bytes,
      data: hidden === null ? data.data : null,
      truncated: data.truncated,
      hidden,
      delivered: await deliveryOfEvent(peers, id),
      notes: notesOf([...fate.filter(({ verdict }) => verdict !== 'yes'), ...readersOf(row, options)]),
    };
  });
}

/** Null where it can't be told now: all else that is known of the event is. */
async function deliveryOfEvent(peers: Peers, id: string): Promise<DeliveryFigures | null> {
  try {
    const { answers } = await peers.ask({ delivered: id });
    return deliveryOf(answers) ?? null;
  } catch {
    return null;
  }
}

function timesOf({ id, channel, event, createdAt, committedAt, position }: EventRow) {
  // It is placed while its transaction commits. When it was inserted nobody notes.
  const placedAt = position === null ? null : committedAt;
  return { id, channel, event, createdAt, writtenAt: null, committedAt, placedAt, position };
}

/** Each step as a sentence or two. */
function notesOf(steps: readonly Step[]): string[] {
  return steps.map(({ what, todo }) => [what, ...(todo === undefined ? [] : [todo])].map(sentence).join(' '));
}

/** @throws RequestError 400 */
function readFilter(query: URLSearchParams): LogFilter {
  const text = (name: string) => query.get(name)?.slice(0, 300) || undefined;
  const id = text('id');
  if (id !== undefined && (!/^\d{1,19}$/.test(id) || BigInt(id) > LARGEST_ID)) {
    throw badParameter('id', id, 'the id of an event, in digits');
  }
  // PostgreSQL has no text with a NUL in it.
  for (const name of ['channel', 'event']) if (text(name)?.includes('\0')) throw badParameter(name, '', 'a name');
  return {
    channel: text('channel'),
    event: text('event'),
    id,
    since: readTime(query, 'since'),
    until: readTime(query, 'until'),
  };
}

function readTime(query: URLSearchParams, name: 'since' | 'until'): Date | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  try {
    return parseTime(text);
  } catch (error) {
    if (error instanceof SinceError) throw badParameter(name, text, 'an ISO time, or milliseconds since 1970');
    throw error;
  }
}

/** @throws RequestError 400 */
function readPlace(query: URLSearchParams): LogPlace {
  const before = query.get('before') || undefined;
  const after = query.get('after') || undefined;
  if (before !== undefined && after !== undefined) throw badParameter('after', after, 'before or after, and not both');
  for (const [name, text] of [
    ['before', before],
    ['after', after],
  ] as const) {
    if (text !== undefined && (!/^\d{1,19}$/.test(text) || BigInt(text) > LARGEST_ID)) {
      throw badParameter(name, text, 'a cursor of a page before');
    }
  }
  if (after !== undefined) return { after: BigInt(after) };
  return before === undefined ? undefined : { before: BigInt(before) };
}
