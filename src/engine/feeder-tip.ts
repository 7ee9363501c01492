/**
 * The tip of the log that a feeder appends to: its newest entry, as far as this feeder knows, and
 * all that is appended after it. An entry is accepted only where the one that it follows is still
 * the newest, so that of several feeders one succeeds.
 *
 * | tip     | meaning                                                   | leaves when                      |
 * |---------|-----------------------------------------------------------|----------------------------------|
 * | unknown | the log may have got entries from others, or lost some    | it was read from the log's       |
 * |         |                                                           | leader, and follows from the     |
 * |         |                                                           | database (known), or does not    |
 * |         |                                                           | (known, after a restart)         |
 * | known   | this feeder has read or appended the newest entry         | an append is refused, or its     |
 * |         |                                                           | outcome is not known; it is old; |
 * |         |                                                           | another PostgreSQL answers       |
 *
 * Where the database may not feed, it stays unknown: see fence.ts.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { commandLine } from '../command-name.js';
import type { Cursor, RestartReason } from '../event/event.js';
import type { FeedReader } from '../outbox/feed.js';
import type { Answerer, EngineLog } from './engine-log.js';
import { createdAtEnd, through, type Entry, type Origin, type Run } from './entry.js';
import type { Fencing } from './fence.js';

export interface FeederTip {
  /** Where the log ends, as far as was ever known. */
  readonly at: Cursor;
  /** Position and sequence through which it is fed; the position is 0 while the log begins anew. */
  readonly fedThrough: { readonly position: bigint; readonly sequence: bigint };
  /** When the event at the tip was inserted, while that is known. */
  readonly createdAt: number | undefined;
  /** See `Origin.state`: what is appended from now on says so. */
  state: string | undefined;
  /** The newest deleted event that is known of: what is appended from now on says so. */
  floor: Cursor;
  /**
   * Has the tip known, and following from the database. @throws FencedError; what feed and engine
   * throw.
   */
  ready(): Promise<void>;
  /** The tip is not known any more. */
  forget(): void;
  /** Whether the tip is not known, or was found to follow from what this PostgreSQL has. */
  mayBeOf(answerer: Answerer): boolean;

  // Each resolves with whether the entry was appended: not where the tip is not known, or another
  // was faster; and each rejects where that is not known. `now` is who has said what it tells of.
  run(run: Pick<Run, 'prev' | 'last' | 'events'>, now: Answerer): Promise<boolean>;
  restart(start: Cursor, reason: RestartReason, now: Answerer): Promise<boolean>;
  evict(redacted: readonly bigint[], redactedThrough: bigint, now: Answerer): Promise<boolean>;
}

export interface TipTotals {
  entries: number;
  /** Appends that were refused, as another feeder was faster. */
  refused: number;
  /** Entries at the end of the log that could not be read. */
  unreadable: number;
}

export interface FeederTipParts {
  readonly feed: FeedReader;
  readonly readAnswerer: () => Promise<Answerer>;
  readonly engine: EngineLog;
  readonly fencing: Fencing;
  readonly totals: TipTotals;
  readonly logger: Logger;
  /** The log ends before what was appended to it. */
  readonly onLost: () => void;
}

interface Known {
  readonly sequence: bigint;
  readonly at: Cursor;
  /** When the event there was inserted, where that is known. */
  readonly createdAt: number | undefined;
  readonly epoch: string;
  readonly system: string;
  readonly timeline: number;
}

/** A tip that nobody has confirmed for so long is read again: the log may have lost its end. */
const TIP_KEPT_MS = 3000;

/**
 * Whoever is refused waits for that long, doubled each time: another feeds well. Each pause is cut
 * at random, so that of several who wait one is the first.
 */
const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 400;

export function createFeederTip(parts: FeederTipParts): FeederTip {
  const { feed, readAnswerer, engine, fencing, totals, logger, onLost } = parts;
  let known: Known | undefined;
  let confirmedAt = 0;
  let position = 0n;
  let sequence = 0n;
  let at: Cursor = { position: 0n, id: '0' };
  let floor: Cursor = at;
  let state: string | undefined;
  let pauseMs = 0;
  let unreadableAt = 0n;

  function set(next: Known): void {
    known = next;
    confirmedAt = performance.now();
    if (next.at.position < position) onLost();
    ({ at, sequence } = next);
    ({ position } = at);
  }

  function forget(): void {
    known = undefined;
  }

  /** Appends an entry after the tip, which is known. Resolves with whether it was. */
  async function put(entry: Entry): Promise<boolean> {
    if (known === undefined) return false;
    const after = known;
    // What comes of it is not known until it is answered.
    known = undefined;
    const appended = await engine.append(entry, after.sequence);
    if (appended === undefined) {
      totals.refused += 1;
      pauseMs = Math.min(Math.max(pauseMs * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
      return false;
    }
    pauseMs = 0;
    totals.entries += 1;
    const { epoch, system, timeline } = entry;
    set({
      sequence: appended,
      at: through(entry),
      createdAt: entry.kind === 'evict' ? after.createdAt : createdAtEnd(entry),
      epoch,
      system,
      timeline,
    });
    return true;
  }

  function originOf(epoch: string, { system, timeline, wal }: Answerer): Origin {
    return { epoch, system, timeline, wal, state };
  }

  /** Has the tip known, and following from the database; or rejects. */
  async function ready(): Promise<void> {
    do {
      // Whoever was refused last lets the other go first, and finds what that has fed.
      if (pauseMs > 0) {
        await delay(pauseMs * (0.5 + Math.random() / 2));
        forget();
      }
      if (known && performance.now() - confirmedAt < TIP_KEPT_MS) return;
    } while (!(await learn()));
  }

  /** Resolves with whether the tip is known now; false: others have appended meanwhile. */
  async function learn(): Promise<boolean> {
    const tip = await engine.tip();
    const { entry } = tip;
    if (known && entry && tip.sequence === known.sequence && isAt(entry, known)) {
      confirmedAt = performance.now();
      return true;
    }
    forget();
    if (tip.unreadable > 0 && tip.sequence !== unreadableAt) {
      totals.unreadable += tip.unreadable;
      unreadableAt = tip.sequence;
      logger.error(
        { sequence: String(tip.sequence), entries: tip.unreadable },
        'the end of the stream has entries that cannot be read: they are cut, forged, of another version, or sealed with another ' +
          'NATS_SECRET. Relays pass them by',
      );
    }
    const now = await readAnswerer();
    return entry ? follow(entry, tip.sequence, now) : begin(tip.sequence);
  }

  async function begin(last: bigint): Promise<boolean> {
    const start = await feed.head();
    // Asked after that: whoever has replayed up to there shows the event where it begins.
    const now = await readAnswerer();
    // The log has nothing that could have been redacted.
    state = undefined;
    const epoch = randomUUID();
    known = { sequence: last, at: start, createdAt: undefined, epoch, system: now.system, timeline: now.timeline };
    logger.info({ at: start.id }, 'the stream has no entry to follow: it begins here');
    return put({ ...originOf(epoch, now), kind: 'begin', at: start });
  }

  async function follow(entry: Entry, last: bigint, now: Answerer): Promise<boolean> {
    const { epoch, system, timeline } = entry;
    const end = through(entry);
    const createdAt = createdAtEnd(entry);
    await fencing.check(entry, now);
    const isSame = await feed.isSameHistory({ ...end, createdAt });
    fencing.lift();
    const isSameServer = system === now.system && now.timeline === timeline;
    // A log that lost its end may have got back what was erased.
    if (!isSameServer) state = undefined;
    else if (state === undefined || last < sequence) ({ state } = entry);
    known = { sequence: last, at: end, createdAt, epoch, system: now.system, timeline: now.timeline };
    if (isSame) {
      set(known);
      // So that a primary which was deposed is fenced before there is anything to feed.
      return isSameServer || putEvict([], 0n, now);
    }
    logger.error(
      { from: end.id },
      'the database is not the one that the stream was fed from, as after a restore or a failover that lost commits: all ' +
        `clients are reset. Run \`${commandLine('advance-ids')}\` once, so that no id is given to a second event`,
    );
    return putRestart(await feed.head(), 'unknown', await readAnswerer());
  }

  async function putRestart(start: Cursor, reason: RestartReason, now: Answerer): Promise<boolean> {
    if (known === undefined) return false;
    const epoch = reason === 'unknown' ? randomUUID() : known.epoch;
    // A state of another history says nothing of this one.
    if (reason === 'unknown') state = undefined;
    // What was appended leads nowhere: that the position goes back is no loss.
    position = 0n;
    return put({ ...originOf(epoch, now), kind: 'restart', at: start, reason });
  }

  async function putEvict(redacted: readonly bigint[], redactedThrough: bigint, now: Answerer): Promise<boolean> {
    if (known === undefined) return false;
    const origin = originOf(known.epoch, now);
    return put({ ...origin, kind: 'evict', last: known.at, redacted, redactedThrough, floor });
  }

  return {
    get at() {
      return at;
    },
    get fedThrough() {
      return { position, sequence };
    },
    get createdAt() {
      return known?.createdAt;
    },
    get state() {
      return state;
    },
    set state(given) {
      state = given;
    },
    get floor() {
      return floor;
    },
    set floor(given) {
      floor = given;
    },
    ready,
    forget,
    mayBeOf: ({ system, timeline }) => known === undefined || (known.system === system && known.timeline === timeline),
    run: async (run, now) =>
      known !== undefined && (await put({ ...originOf(known.epoch, now), kind: 'run', ...run, floor })),
    restart: putRestart,
    evict: putEvict,
  };
}

function isAt(entry: Entry, { epoch, at }: Known): boolean {
  const end = through(entry);
  return entry.epoch === epoch && end.position === at.position && end.id === at.id;
}
