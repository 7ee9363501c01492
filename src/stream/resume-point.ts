/**
 * The cursor that a request brings: where it may stand, which one counts, and what it comes to.
 */
import { MARK, parseExclusions, type PlacedExclusions } from './exclusions.js';
import type { Flow } from './fair-queue.js';
import type { History } from './history.js';
import type { Log } from '../feed/log.js';
import type { Cursor } from '../event/event.js';
import type { CursorLookup } from '../outbox/archive.js';

/** What a client asked to start at. */
export type CursorRequest =
  | { readonly kind: 'now' | 'earliest' }
  | { readonly kind: 'id'; readonly id: string }
  | { readonly kind: 'since'; readonly time: Date };

/** Where the stream starts, and the reset that the client must be told of. */
export interface Resolved extends Cursor {
  /** What is left out of it. */
  readonly exclusions?: PlacedExclusions;
  readonly reset?: { readonly reason: 'expired' | 'unknown'; readonly lastEventId: string };
}

/** `since=` is neither an ISO 8601 time nor epoch milliseconds. */
export class SinceError extends Error {
  override readonly name = 'SinceError';
}

/** The names under which clients and polyfills send the cursor where they cannot set the header. */
const QUERY_NAMES = new Set(['last_event_id', 'lastEventId', 'lastEventID', 'Last-Event-ID']);

/** How much of a cursor that we don't know is sent back with the reset. */
const ECHO_LENGTH = 200;

/** Largest difference, in ms, between the clocks of relay and database that is expected. */
const CLOCK_LEEWAY_MS = 3_600_000;

/**
 * The header counts before the query, and of several names in the query the last that is not empty,
 * since clients append theirs to whatever the page's address had; so do those that were joined to
 * one. `since` is looked at only where there is no cursor: a client that comes back has one, and
 * must not be refused for what its address says.
 *
 * @param otherwise where to start if nothing says where.
 * @throws SinceError
 */
export function requestedCursor(
  header: string | undefined,
  query: URLSearchParams,
  otherwise: 'now' | 'earliest' = 'now',
): CursorRequest {
  let cursor = lastOf(header ?? '');
  if (!cursor) for (const [name, value] of query) if (QUERY_NAMES.has(name)) cursor = lastOf(value) || cursor;
  if (cursor) return cursor === 'now' || cursor === 'earliest' ? { kind: cursor } : { kind: 'id', id: cursor };
  const since = query.get('since');
  return since ? { kind: 'since', time: parseTime(since) } : { kind: otherwise };
}

/**
 * The last of cursors that were joined to one: HTTP takes several headers of a name for one list
 * (RFC 9110, section 5.3), and a client that adds its own to what is there has the newest behind
 * the others. Empty where there is none.
 *
 * A comma with a space behind it always parts two cursors; one alone does not where a mark stands
 * before it, as in `41!43,44`.
 */
function lastOf(joined: string): string {
  const parts = joined.split(',');
  const end = parts.findLastIndex((part) => part.trim() !== '');
  const last = parts[end] ?? '';
  const isNewOrMarked = (part: string) => part.includes(MARK) || /^\s/.test(part);
  const begin = parts.findLastIndex((part, index) => index <= end && isNewOrMarked(part));
  return (parts[begin]?.includes(MARK) ? parts.slice(begin, end + 1).join(',') : last).trim();
}

/**
 * Turns a request into a place in commit order. A cursor in the window, or a time that has yet to
 * come, costs no read.
 *
 * @throws what the database throws.
 */
export async function resolve(request: CursorRequest, log: Log, history: History, flow: Flow): Promise<Resolved> {
  switch (request.kind) {
    case 'now':
      return log.head;
    case 'earliest': {
      // What stands before all events that there ever were, or before those that are left.
      const id = '0';
      const lookup = await history.lookUpCursor(id, flow);
      if (lookup.kind === 'expired') return lookup.floor;
      return { position: lookup.kind === 'found' ? lookup.position : 0n, id };
    }
    case 'since':
      if (request.time.getTime() > Date.now() + CLOCK_LEEWAY_MS) return log.head;
      return history.since(request.time, flow);
    case 'id':
      return resolveId(request.id, log, history, flow);
  }
}

async function resolveId(cursor: string, log: Log, history: History, flow: Flow): Promise<Resolved> {
  const lookUp = async (id: string): Promise<CursorLookup> => {
    const position = log.positionOf(id);
    return position === undefined ? history.lookUpCursor(id, flow) : { kind: 'found', position };
  };
  const { id, exclusions } = parseExclusions(cursor) ?? { id: cursor };
  const [at, newest] = await Promise.all([lookUp(id), exclusions && lookUp(exclusions.newestId)]);
  if (at.kind === 'found' && newest === undefined) return { position: at.position, id };
  if (exclusions && at.kind === 'found' && newest?.kind === 'found') {
    const { position } = at;
    const { position: through } = newest;
    return { position, id, ...(through > position && { exclusions: { ...exclusions, through } }) };
  }
  const lastEventId = cursor.length > ECHO_LENGTH ? `${cursor.slice(0, ECHO_LENGTH)}…` : cursor;
  // What a page shows and the table has lost, or has never had, is no better than a lost cursor.
  const lookup = at.kind === 'found' ? newest : at;
  if (lookup?.kind !== 'expired') return { ...log.head, reset: { reason: 'unknown', lastEventId } };
  // Where the log has yet to hear of what was deleted, its head may be behind the client: nothing
  // is to come twice.
  const to = lookup.floor.position > log.head.position ? lookup.floor : log.head;
  return { ...to, reset: { reason: 'expired', lastEventId } };
}

const ISO_TIME = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?$/i;

/** A time without an offset is UTC. An unescaped `+` of a query arrives as a space. */
export function parseTime(text: string): Date {
  let time = new Date(Number.NaN);
  if (/^\d{1,16}$/.test(text)) time = new Date(Number(text));
  else {
    const iso = text.replace(/ (\d\d:?(?:\d\d)?)$/, (match, offset: string) =>
      /T/i.test(text) ? `+${offset}` : match,
    );
    if (ISO_TIME.test(iso)) {
      const [date = '', clock] = iso.toUpperCase().split(/[T ]/);
      const zoned = clock === undefined || /Z$|[+-]\d\d(:?\d\d)?$/.test(clock) ? clock : `${clock}Z`;
      const padded = zoned
        ?.replace(',', '.')
        .replace(/([+-]\d\d):?(\d\d)?$/, (_, h: string, m?: string) => `${h}:${m ?? '00'}`);
      // The 30th of February would read as the 2nd of March.
      const exists = new Date(`${date}T00:00Z`).getUTCDate() === Number(date.slice(8));
      if (exists) time = new Date(padded === undefined ? date : `${date}T${padded}`);
    }
  }
  if (Number.isNaN(time.getTime())) {
    throw new SinceError(
      `since=${text.slice(0, 50)} is no time. Give ISO 8601, as in 2026-01-31T12:00:00Z, or milliseconds since 1970, as in 1769860800000.`,
    );
  }
  return time;
}
