/**
 * A subscription: one client's cursor, and what moves it.
 *
 * | state    | the client has passed     | leaves when                                                       |
 * |----------|---------------------------|-------------------------------------------------------------------|
 * | reading  | `position`                | caught up with the head (parked), or the socket is full (blocked) |
 * | waiting  | `position`                | the page it asked history for arrives, the log reaches it, or it  |
 * |          |                           | is its turn to look at more of the window                         |
 * | blocked  | `position`                | the socket has drained (reading)                                  |
 * | parked   | the log's head, always    | an append fills the socket (blocked)                              |
 * | closed   | -                         | never                                                             |
 *
 * Live delivery, resuming and a slow client are the same path: read after the cursor, from history
 * while it is older than the window, from the window after that, then park. There is no queue of
 * its own to overflow: what a client costs is one page and its socket buffer, and it takes nothing
 * more until both have gone out. While a client is fast, its next page of history is read
 * meanwhile, so that neither the database nor the socket stands idle for the other.
 *
 * A client with exclusions reads in pages of its own making until it has passed them, and does not
 * park before.
 */
import type { Budget, Room } from './page-budget.js';
import type { StreamFormat } from '../event/envelope.js';
import type { EventFilter } from '../event/event-filter.js';
import { chunkWithoutExcluded, eventsPerPage, withoutExcluded, type PlacedExclusions } from './exclusions.js';
import { createFlow } from './fair-queue.js';
import type { History, HistoryPage } from './history.js';
import type { Log, LogPage, Reader } from '../feed/log.js';
import type { Cursor, RestartReason } from '../event/event.js';
import { createRetry, type Retry } from '../postgres/retry.js';
import { turns as allTurns, type Turns } from './slices.js';

/** Where frames go. */
export interface Sink {
  /**
   * Takes a buffer of whole frames in chunks, of so many events. False when it wants no more until
   * `drained` is called on the subscription.
   */
  write(chunks: Buffer, events: number): boolean;
  /** The same for a page of history: its frames have no chunk around them. */
  writePage(frames: Buffer, events: number): boolean;
  /** Ends it: its client takes what it was given so slowly that others have no room. */
  drop?(): void;
}

export interface Subscription {
  /** Whether the client has passed everything up to the log's head. */
  readonly parked: boolean;
  /** Whether it waits for the client to take what it was given. */
  readonly blocked: boolean;
  /** What the client has passed, and the last event of it that it got or began at. */
  readonly cursor: Cursor;
  /** To be called when the sink, having refused more, has room again. */
  drained(): void;
  close(): void;
}

export interface SubscriptionOptions {
  readonly log: Log;
  /** Reads the log for many; see `createWindowPages`. Default: the log, for this one alone. */
  readonly pages?: Pick<Log, 'read'>;
  /** Of the format. */
  readonly history: Pick<History, 'read' | 'lookUpCursor'>;
  readonly budget: Budget;
  readonly filter: EventFilter;
  /** Default: data. */
  readonly format?: StreamFormat;
  /** Up to where the client has everything. */
  readonly after: Cursor;
  /** What it has of what follows. Default: nothing. */
  readonly exclusions?: PlacedExclusions | undefined;
  readonly sink: Sink;
  /**
   * What follows the client's cursor can't be told any more, or is not the cursor's: see
   * `RestartReason`. It goes on from the head, and has to be told.
   * @param lastEventId the last that it got.
   */
  readonly onReset: (reason: RestartReason, lastEventId: string) => void;
  /** Default: those of the event loop. */
  readonly turns?: Turns;
  /** A history read failed; it is tried again after a pause. Once per failure. */
  readonly onReadError: (error: unknown) => void;
}

/** Pauses before a failed read of history is retried. */
const PAUSES = { firstPauseMs: 200, longestPauseMs: 2000 };

/** A client that takes a page within this time has the next one read ahead. */
const FAST_MS = 50;
/** Time that a page that was read ahead is kept for a client that stalls. */
const AHEAD_KEPT_MS = 100;

/** A page that was read before its turn. */
interface PageAhead {
  readonly after: bigint;
  /** `log.changes` at the read; after a redaction the page is read again. */
  readonly changes: number;
  readonly page: Promise<HistoryPage>;
  /** Called when it has been taken, or is not wanted any more. */
  release: () => void;
}

export function subscribe(options: SubscriptionOptions): Subscription {
  const { log, history, budget, filter, after, sink, onReset, onReadError, turns = allTurns } = options;
  const { pages = log, format = 'data' } = options;
  let { position, id: lastId } = after;
  /** Undefined once the client has passed them all. */
  let { exclusions } = options;
  /** In which `position` counts. */
  let { epoch } = log;
  let state: 'reading' | 'waiting' | 'blocked' | 'parked' | 'closed' = 'reading';
  let release: (() => void) | undefined;
  let cancel: (() => void) | undefined;
  /** Made at the first failure: most clients never have one. */
  let retry: Retry | undefined;
  let ahead: PageAhead | undefined;
  let blockedAt = 0;
  /** Whether the client was fast to take the last page. */
  let isFast = false;

  const flow = createFlow(() => state === 'waiting' || ahead !== undefined);
  /** For the next event, which is larger than its page. */
  let room: Room | undefined;
  /**
   * Whether the log had yet to come to the cursor's event, or to the newest of the exclusions, which
   * a failover may lose meanwhile.
   */
  let mustVerify = mustReach() > log.head.position;

  const reader: Reader = {
    filter,
    format,
    sink,
    full() {
      log.unpark(reader);
      ({ position, id: lastId } = log.head);
      state = 'blocked';
    },
    readOn(passed) {
      log.unpark(reader);
      ({ position, id: lastId } = passed);
      state = 'reading';
      read();
    },
    restarted(reason, passed) {
      if (state !== 'parked') return;
      state = 'reading';
      lastId = passed.id;
      reset(reason);
      read();
    },
  };

  /** Goes on from the head: what lies between the cursor and there can't be told. */
  function reset(reason: RestartReason): void {
    const lastEventId = lastId;
    dropRoom();
    mustVerify = false;
    exclusions = undefined;
    ({ epoch } = log);
    ({ position, id: lastId } = log.head);
    onReset(reason, lastEventId);
  }

  /** Reads on until parked, blocked or waiting. */
  function read(): void {
    while (state === 'reading') {
      if (epoch !== log.epoch) reset('unknown');
      // A cursor that another relay handed out may be ahead of us: nothing that we have is news to
      // this client.
      if (mustReach() > log.head.position) return waitFor((done) => log.whenReached(mustReach(), done));
      if (mustVerify && !marks().every((mark) => log.positionOf(mark.id) === mark.position)) return verifyCursor();
      mustVerify = false;
      if (position < log.floor) {
        dropRoom();
        return readHistory();
      }
      dropAhead();
      const looks = turns.allowance();
      if (looks === 0) return waitFor(turns.wait);
      const bytes = budget.pageBytes();
      const page = exclusions
        ? log.read(filter, position, bytes, Math.min(looks, eventsPerPage(exclusions, bytes)), format)
        : pages.read(filter, position, bytes, looks, format);
      if (page.needsTable && page.position === position) {
        turns.spend(page.looked, 0);
        dropRoom();
        return readHistory();
      }
      const { frames } = page;
      const isLarge = frames !== undefined && frames.length > bytes;
      turns.spend(page.looked, isLarge ? 0 : (frames?.length ?? 0));
      // Without exclusions it is the window's own buffer, which may be held for others already.
      if (isLarge && room === undefined && (exclusions || !budget.holds(frames))) {
        return waitFor((admitted) =>
          budget.whenRoom(frames.length, (forIt) => {
            room = forIt;
            admitted();
          }),
        );
      }
      const given = exclusions && frames ? chunkWithoutExcluded(frames, exclusions, isPastExclusions) : page;
      moveTo(page);
      if (given.frames && !sink.write(given.frames, given.events)) {
        block(given.frames, room);
        room = undefined;
        return;
      }
      dropRoom();
      if (position === log.head.position) {
        state = 'parked';
        log.park(reader);
      }
    }
  }

  function moveTo(page: LogPage | HistoryPage): void {
    position = page.position;
    lastId = page.lastId ?? lastId;
    if (exclusions && position >= exclusions.through) exclusions = undefined;
  }

  /** Of an event in the window. */
  function isPastExclusions(id: string): boolean {
    const at = log.positionOf(id);
    return at !== undefined && exclusions !== undefined && at > exclusions.through;
  }

  /** Up to where the log has to have come before anything is read. */
  function mustReach(): bigint {
    return exclusions?.through ?? position;
  }

  /** Suspends reading until `start`, later, calls back; `start` returns how to cancel. */
  function waitFor(start: (done: () => void) => () => void): void {
    state = 'waiting';
    // Called back at once, it may wait for something else by the time that we know how to cancel
    // this.
    const wait: { isOver?: true } = {};
    const undo = start(() => {
      wait.isOver = true;
      cancel = undefined;
      if (state !== 'waiting') return;
      state = 'reading';
      read();
    });
    if (!wait.isOver) cancel = undo;
  }

  /** The page stays in memory until the client takes it. */
  function block(frames: Buffer, admittedBy?: Room): void {
    state = 'blocked';
    blockedAt = performance.now();
    release = budget.hold(frames, { room: admittedBy, onOverdue: () => sink.drop?.() });
  }

  function dropRoom(): void {
    room?.release();
    room = undefined;
  }

  /** The events that the client's cursor stands on. */
  function marks(): Cursor[] {
    const at = { position, id: lastId };
    return exclusions ? [at, { position: exclusions.through, id: exclusions.newestId }] : [at];
  }

  /** Resets the client unless its events are at their positions: else others may have taken those. */
  function verifyCursor(): void {
    state = 'waiting';
    const asked = marks();
    Promise.all(asked.map(({ id }) => history.lookUpCursor(id, flow))).then((lookups) => {
      if (state !== 'waiting') return;
      retry?.succeeded();
      state = 'reading';
      mustVerify = false;
      const isLost = lookups.some(
        (lookup, n) => lookup.kind === 'unknown' || (lookup.kind === 'found' && lookup.position !== asked[n]?.position),
      );
      if (isLost && epoch === log.epoch) reset('unknown');
      read();
    }, readAgain);
  }

  function readPage(): Promise<HistoryPage> {
    if (exclusions === undefined) return history.read(filter, position, log.head.position, flow);
    const events = eventsPerPage(exclusions, budget.pageBytes());
    const { through } = exclusions;
    // Others' pages may go on above what is left out.
    return history.read({ ...filter, key: `${filter.key} ${through}` }, position, through, flow, events);
  }

  /** Reads the next page while the client takes this one. */
  function readAhead(): void {
    const started: PageAhead = { after: position, changes: log.changes, page: readPage(), release: () => undefined };
    ahead = started;
    started.page.then(
      (page) => {
        if (ahead !== started) return;
        const letGo = budget.hold(page.buffer);
        const timer = setTimeout(dropAhead, AHEAD_KEPT_MS);
        started.release = () => {
          clearTimeout(timer);
          letGo();
        };
      },
      // Whoever takes it is told; else there is nobody to tell.
      () => undefined,
    );
  }

  function dropAhead(): void {
    ahead?.release();
    ahead = undefined;
  }

  function readHistory(): void {
    state = 'waiting';
    const isAsRead = ahead?.after === position && log.isUnchanged(position, ahead.changes);
    const next = isAsRead && ahead ? ahead.page : readPage();
    dropAhead();
    next.then((page) => {
      if (state !== 'waiting') return;
      retry?.succeeded();
      state = 'reading';
      // It was read after a position of another table.
      if (epoch !== log.epoch) return read();
      if (page.expired) {
        reset('expired');
        return read();
      }
      const isShared = exclusions === undefined;
      const given = exclusions && page.frames ? withoutExcluded([page.frames], exclusions) : page;
      moveTo(page);
      if (given.frames && !sink.writePage(given.frames, given.events)) {
        block(isShared ? page.buffer : given.frames);
        if (position < log.floor && isFast && budget.isRoomy) readAhead();
      } else read();
    }, readAgain);
  }

  /** After a read that failed: tries again after a pause. */
  function readAgain(error: unknown): void {
    if (state !== 'waiting') return;
    onReadError(error);
    retry ??= createRetry(PAUSES);
    const delay = retry.failed(error);
    waitFor((again) => {
      const timer = setTimeout(again, delay);
      return () => clearTimeout(timer);
    });
  }

  read();

  return {
    get parked() {
      return state === 'parked';
    },
    get blocked() {
      return state === 'blocked';
    },
    get cursor() {
      return state === 'parked' ? log.head : { position, id: lastId };
    },
    drained() {
      if (state !== 'blocked') return;
      release?.();
      release = undefined;
      isFast = performance.now() - blockedAt < FAST_MS;
      state = 'reading';
      read();
    },
    close() {
      if (state === 'closed') return;
      log.unpark(reader);
      state = 'closed';
      release?.();
      dropAhead();
      dropRoom();
      cancel?.();
      flow.leave();
    },
  };
}
