/**
 * Polls: for clients that ask again and again, as behind a proxy that keeps streams back. What one
 * gets in its answers, from cursor to cursor, is what a stream would have brought.
 *
 * | state    | the client has passed | leaves when                                                  |
 * |----------|-----------------------|--------------------------------------------------------------|
 * | ahead    | more than the log     | the log is there (reading), or the time is over (answered)   |
 * | reading  | `position`            | a page has events (answered), or it is at the head (parked)  |
 * | parked   | the log's head        | its event comes (reading), or the time is over (answered)    |
 * | answered | what the cursor says  | never                                                        |
 *
 * Events are read from the table, in a page for each answer; of the log it only waits for them, and
 * sees by it where there are none. So an answer has nothing that was redacted before it was asked
 * for.
 */
import type { EventFilter } from '../event/event-filter.js';
import type { RestartReason } from '../event/event.js';
import type { Reader } from '../feed/log.js';
import type { Exclusions } from './exclusions.js';
import { createFlow } from './fair-queue.js';
import type { History } from './history.js';
import type { Budget } from './page-budget.js';
import type { CursorRequest, Resolved } from './resume-point.js';
import { LOOKS_PER_SLICE, turns } from './slices.js';
import { startPoint, type StartParts } from './start-point.js';

export interface PollRequest {
  readonly filter: EventFilter;
  readonly cursor: CursorRequest;
  /** Most events of the answer. */
  readonly limit: number;
  /** How long to wait for an event where there is none, in ms. */
  readonly waitMs: number;
  /** Aborted when its client is gone. */
  readonly left: AbortSignal;
}

export interface PollAnswer {
  /** Each a JSON object; see `ENVELOPE`. */
  readonly events: readonly Buffer[];
  /** The memory that they are part of, which others may share. */
  readonly buffer?: Buffer;
  /** Where to go on. */
  readonly cursor: string;
  /** Whether to ask again at once: not all that was there has been looked at. */
  readonly more: boolean;
  /** The cursor can't be honoured: what follows it is not known any more, or never was. */
  readonly reset?: { readonly reason: RestartReason; readonly lastEventId: string };
}

export interface Polls {
  /** @throws what the database throws, and the reason of `left`. */
  poll(request: PollRequest): Promise<PollAnswer>;
  /**
   * Counts an answer until its client has taken it, which is to be told of by calling what it
   * returns. To be called in the turn in which it was answered.
   *
   * @param body what is sent.
   * @param onOverdue called when others have waited for too long: the client is to be dropped.
   */
  hold(answer: PollAnswer, body: Buffer, onOverdue: () => void): () => void;
  /** How many were answered, and with how many events. */
  readonly totals: Readonly<{ answered: number; events: number; waiting: number }>;
  /** Answers all that wait; from now on none does. */
  close(): void;
}

const ID = 'id: ';
const DATA = 'data: ';
const BLANK_LINE = '\n\n';

export interface PollParts extends StartParts {
  /** Of an archive with the format `ENVELOPE`. Cursors are looked up with those of streams. */
  readonly envelopes: Pick<History, 'read'>;
  readonly budget: Pick<Budget, 'hold'>;
}

export function createPolls(parts: PollParts): Polls {
  const { log, envelopes, budget } = parts;
  const waiting = new Set<() => void>();
  const totals = {
    answered: 0,
    events: 0,
    get waiting() {
      return waiting.size;
    },
  };
  let isClosed = false;

  /** Waits until `start` calls back, or for `waitMs`, or until nobody may wait any more. */
  async function waitFor(start: (done: () => void) => () => void, waitMs: number, left: AbortSignal): Promise<void> {
    if (waitMs <= 0 || isClosed || left.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        left.removeEventListener('abort', done);
        waiting.delete(done);
        cancel();
        resolve();
      };
      const timer = setTimeout(done, waitMs);
      left.addEventListener('abort', done);
      waiting.add(done);
      const cancel = start(done);
    });
  }

  async function answer({ filter, cursor, limit, waitMs, left }: PollRequest): Promise<PollAnswer> {
    const until = performance.now() + waitMs;
    const flow = createFlow(() => !left.aborted);
    left.addEventListener('abort', flow.leave, { once: true });

    let start = await startPoint(cursor, parts, flow);
    for (let mark = markOf(start); !start.reset && mark > log.head.position; mark = markOf(start)) {
      await waitFor((done) => log.whenReached(mark, done), until - performance.now(), left);
      if (mark > log.head.position) return nothing(`${start.id}${start.exclusions?.suffix ?? ''}`);
      // A failover may have lost the event meanwhile, and another have taken its place.
      start = await startPoint(cursor, parts, flow);
    }
    if (start.reset) return { ...nothing(start.id), reset: start.reset };

    const { epoch } = log;
    let { id, position, exclusions } = start;
    const moveTo = (passed: bigint) => {
      position = passed;
      if (exclusions && position >= exclusions.through) exclusions = undefined;
    };
    for (;;) {
      left.throwIfAborted();
      if (epoch !== log.epoch) return resetTo('unknown', id);
      moveTo(pastOthers(filter, position));
      const { head } = log;
      if (position === head.position) {
        const restMs = until - performance.now();
        if (restMs <= 0 || isClosed) return nothing(head.id);
        await waitFor((done) => park(filter, done), restMs, left);
        continue;
      }
      const through = exclusions && exclusions.through < head.position ? exclusions.through : head.position;
      // Others' pages may go on above what is left out.
      const wanted = exclusions ? { ...filter, key: `${filter.key} ${through}` } : filter;
      const page = await envelopes.read(wanted, position, through, flow, limit);
      if (epoch !== log.epoch) continue;
      if (page.expired) return resetTo('expired', id);
      const events = page.frames ? objectsIn(page.frames, exclusions) : [];
      moveTo(page.position);
      id = page.lastId ?? id;
      if (events.length === 0) continue;
      const isAtHead = position === head.position;
      return {
        events,
        buffer: page.buffer,
        cursor: isAtHead ? head.id : `${id}${exclusions?.suffix ?? ''}`,
        more: position < log.head.position,
      };
    }
  }

  /**
   * Up to where the window has nothing for `filter`, of so many events. Of others' events the table
   * is not asked: where they come faster than it answers, that would have no end.
   */
  function pastOthers(filter: EventFilter, position: bigint): bigint {
    if (position < log.floor || position >= log.head.position) return position;
    const found = log.read(filter, position, 0, LOOKS_PER_SLICE);
    turns.spend(found.looked, 0);
    return found.frames === undefined ? found.position : position;
  }

  function park(filter: EventFilter, done: () => void): () => void {
    const sink = {
      write() {
        done();
        return true;
      },
    };
    // Woken, it reads the table in any case.
    const reader: Reader = { filter, format: 'data', sink, full: done, readOn: done, restarted: done };
    log.park(reader);
    return () => log.unpark(reader);
  }

  function resetTo(reason: RestartReason, lastEventId: string): PollAnswer {
    return { ...nothing(log.head.id), reset: { reason, lastEventId } };
  }

  return {
    hold({ events, buffer }, body, onOverdue) {
      const letGo = budget.hold(body, { onOverdue });
      if (buffer === undefined || events.length > 1) return letGo;
      // One that was larger than its page has been given room, which goes with the page.
      const letGoOfPage = budget.hold(buffer, { onOverdue });
      return () => {
        letGo();
        letGoOfPage();
      };
    },
    totals,
    async poll(request) {
      const answered = await answer(request);
      request.left.throwIfAborted();
      totals.answered += 1;
      totals.events += answered.events.length;
      return answered;
    },
    close() {
      isClosed = true;
      for (const done of [...waiting]) done();
    },
  };
}

/** What the log has to have reached before anything is read. */
function markOf({ position, exclusions }: Resolved): bigint {
  return exclusions?.through ?? position;
}

function nothing(cursor: string): PollAnswer {
  return { events: [], cursor, more: false };
}

/** The objects of envelopes, without those of events that the client has. */
function objectsIn(envelopes: Buffer, exclusions: Exclusions | undefined): Buffer[] {
  const objects: Buffer[] = [];
  for (let begin = 0; begin < envelopes.length;) {
    const idEnd = envelopes.indexOf('\n', begin);
    const end = envelopes.indexOf(BLANK_LINE, idEnd);
    const id = envelopes.toString('latin1', begin + ID.length, idEnd);
    if (!exclusions?.has(BigInt(id))) objects.push(envelopes.subarray(idEnd + 1 + DATA.length, end));
    begin = end + BLANK_LINE.length;
  }
  return objects;
}
