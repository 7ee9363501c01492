/**
 * The log's follower: what is heard of the engine's log as it is appended, and what is read of it where
 * something was missed; and which history it is of.
 *
 * | what is heard                     | what is done                                                     |
 * |-----------------------------------|------------------------------------------------------------------|
 * | a run that follows                | kept until it is read                                            |
 * | a run after a gap, an entry that  | the next read begins with the log                                |
 * | can't be read                     |                                                                  |
 * | an evict                          | changes are to be asked for                                      |
 * | another epoch                     | the history is to be verified before anything else is read       |
 *
 * An epoch is believed once it was adopted, for which the history has to be verified; of entries of
 * other epochs nothing is read.
 */
import { commandLine } from '../command-name.js';
import type { Cursor } from '../event/event.js';
import type { RunArchive } from '../outbox/archive.js';
import type { Changes, NewEvents } from '../outbox/feed.js';
import type { EngineReader, LoggedEntry, Tip } from './engine-log.js';
import { through, type Entry } from './entry.js';
import type { Learning } from './learning.js';
import { createLiveRuns } from './live-runs.js';
import { createPage, type Page } from './page.js';
import { createStaleCopies } from './stale-copies.js';

/** What was heard that whoever reads has to look at. */
export interface LogListener {
  /** There may be new events. */
  wake(): void;
  /** Events were redacted or deleted. */
  changed(): void;
  /** The log goes on with another history. */
  recheck(): void;
}

export interface LogFollowerParts {
  readonly reader: Pick<EngineReader, 'live' | 'beats' | 'tip' | 'find' | 'read'>;
  readonly archive: Pick<RunArchive, 'run'>;
  readonly learning: Learning;
  readonly logger: Record<'warn', (fields: object, message: string) => void>;
}

/** How entries reached this relay, for metrics. */
export interface EngineStats {
  /** Entries that came live; of these, runs that were there already. */
  readonly live: number;
  readonly skipped: number;
  /** Entries that were read from the log. */
  readonly read: number;
  /** Events that were read from the archive, as the log did not have them. */
  readonly filled: number;
  /** Entries that could not be read, or that no feeder of ours has made. */
  readonly unreadable: number;
}

export interface LogFollower {
  readonly stats: EngineStats;
  /** Position that it has heard of: all up to there can be read. */
  readonly position: bigint;
  /** Sequence through which it has heard or read. */
  readonly sequence: bigint;
  /** What is heard is told from now on. */
  listener: LogListener | undefined;
  /**
   * The newest entry.
   *
   * @param adopts whether its history is believed from now on, if it is another: the caller MUST
   * verify it. Default: only the first.
   * @throws Error where there is none; what the engine throws.
   */
  newest(adopts?: boolean): Promise<Entry>;
  /** As `readNew` of a feed. */
  readNew(after: bigint): Promise<NewEvents>;
  /** The next read begins with the log. */
  miss(): void;
  /** Events were redacted or deleted: no entry up to a sequence counts for what they are. */
  outdate(changes: Changes, sequence: bigint): void;
}

/** Most bytes of live runs that wait to be read. */
const LIVE_BYTES = 16 * 1024 * 1024;
/** Of how many histories it is kept that they are over. */
const PAST_KEPT = 10;
const NOTHING: Cursor = { position: 0n, id: '0' };

export function createLogFollower({ reader, archive, learning, logger }: LogFollowerParts): LogFollower {
  const live = createLiveRuns(LIVE_BYTES);
  const stale = createStaleCopies();
  const stats = { live: 0, skipped: 0, read: 0, filled: 0, unreadable: 0 };
  /** The history that is believed. */
  let epoch: string | undefined;
  /** Those that were before: what is late of them is nothing new. */
  let past: readonly string[] = [];
  /** The newest deleted event that is known of. */
  let floor = NOTHING;
  let seen = 0n;
  /** Position that a feeder has said to be in the log. */
  let fed = 0n;
  /** Sequences of the last evict, and of the last unreadable entry, that were told of. */
  let evicted = 0n;
  let unreadable = 0n;
  /** Something was missed, or nothing was read yet. */
  let isBehind = true;
  /** Where the log goes on after a position. */
  let next: { readonly position: bigint; readonly sequence: bigint } | undefined;
  let listener: LogListener | undefined;

  function raiseFloor(to: Cursor | undefined): void {
    if (to && to.position > floor.position) floor = to;
  }

  /** Believes the history of an entry. */
  function adopt(entry: Entry): void {
    if (epoch !== undefined) past = [...past, epoch].slice(-PAST_KEPT);
    ({ epoch } = entry);
    live.clear();
    stale.clear();
    floor = NOTHING;
    next = undefined;
    fed = 0n;
    isBehind = true;
    learning.begin(entry);
    learn(entry);
  }

  function learn(entry: Entry): void {
    learning.entry(entry);
    if (entry.kind === 'run' || entry.kind === 'evict') raiseFloor(entry.floor);
    else if (entry.kind === 'restart' && entry.reason === 'expired') raiseFloor(entry.at);
  }

  function takeEvict(entry: Entry | undefined, sequence: bigint): void {
    if (entry?.kind !== 'evict' || entry.epoch !== epoch || sequence <= evicted) return;
    evicted = sequence;
    stale.add(entry, sequence);
    listener?.changed();
  }

  function passBy(sequence: bigint): void {
    if (sequence === unreadable) return;
    unreadable = sequence;
    stats.unreadable += 1;
    logger.warn(
      { sequence: String(sequence) },
      'an entry of the log cannot be read, or no feeder of ours has made it: it is passed by, and what it should have is read ' +
        'from the database',
    );
  }

  function hear({ sequence, entry }: LoggedEntry): void {
    stats.live += 1;
    if (sequence > seen) seen = sequence;
    if (entry === undefined) {
      passBy(sequence);
      isBehind = true;
    } else if (entry.epoch !== epoch) {
      if (past.includes(entry.epoch)) return;
      if (epoch !== undefined) listener?.recheck();
    } else {
      learn(entry);
      takeEvict(entry, sequence);
      if (entry.kind === 'run') stats.skipped += live.add(entry, sequence) === 'known' ? 1 : 0;
      else if (entry.kind !== 'evict') isBehind = true;
    }
    listener?.wake();
  }

  async function tip(): Promise<Tip & { readonly entry: Entry }> {
    const { entry, ...rest } = await reader.tip();
    if (entry) return { ...rest, entry };
    throw new Error(
      rest.sequence === 0n
        ? `the log of the engine is empty: no feeder has begun it. Run ${commandLine('feed')}`
        : 'the end of the log cannot be read: no feeder of ours has made it',
    );
  }

  async function readLive(after: bigint): Promise<Page | undefined> {
    const runs = live.after(after);
    // What was heard of by a beat alone was missed.
    if (runs === undefined || (runs.length === 0 && fed > after)) return undefined;
    const page = createPage(after, archive, stale);
    for (const { run, sequence } of runs) if (!page.isFull()) await page.take(run, sequence);
    return page;
  }

  /** Where the log was cut off, or begun anew, its sequences begin lower. */
  function see(sequence: bigint, before: bigint): void {
    if (seen === before || sequence > seen) seen = sequence;
    if (sequence < evicted) evicted = sequence;
  }

  async function readLog(after: bigint): Promise<Page> {
    const before = seen;
    const end = await tip();
    if (epoch === undefined) adopt(end.entry);
    // Whoever reads verifies the history after that.
    if (end.entry.epoch !== epoch) throw new Error('the log goes on with another history');
    takeEvict(end.entry, end.sequence);
    const page = createPage(after, archive, stale);
    let sequence = next?.position === after ? next.sequence : await reader.find(after);
    while (sequence < end.sequence && !page.isFull()) {
      const entries = await reader.read(sequence);
      // A replica lags, or they are gone: the archive has them.
      if (entries.length === 0) break;
      stats.read += entries.length;
      // What is to be outdated in a moment need not go out first.
      for (const { sequence: at, entry } of entries) takeEvict(entry, at);
      for (const { sequence: at, entry } of entries) {
        if (entry === undefined) passBy(at);
        else if (entry.epoch === epoch) {
          learn(entry);
          await page.take(entry, at);
        } else if (at > end.sequence) throw new Error('the log goes on with another history');
        if (page.isFull()) break;
        sequence = at;
      }
    }
    learn(end.entry);
    if (!page.isFull()) await page.fill(higher(through(end.entry).position, live.span?.from));
    next = page.isFull() ? { position: page.at, sequence } : undefined;
    see(page.isFull() ? sequence : end.sequence, before);
    // A feeder that said more has lost it, or is of another history.
    if (!page.isFull() && fed > page.at) fed = page.at;
    live.goOnAt(page.at);
    return page;
  }

  reader.live(hear);
  reader.beats(({ position }) => {
    fed = higher(position, fed);
  });

  return {
    stats,
    get position() {
      return higher(fed, live.span?.to);
    },
    get sequence() {
      return seen;
    },
    get listener() {
      return listener;
    },
    set listener(given) {
      listener = given;
    },

    async newest(adopts = false) {
      const { entry } = await tip();
      if (epoch === undefined || (adopts && entry.epoch !== epoch)) adopt(entry);
      return entry;
    },

    async readNew(after) {
      let page = isBehind ? undefined : await readLive(after);
      if (page === undefined) {
        // Cleared before the read: what is missed during it asks for another.
        isBehind = false;
        try {
          page = await readLog(after);
        } catch (error) {
          isBehind = true;
          throw error;
        }
        // It goes on from there with the log.
        isBehind ||= page.isFull();
      }
      stats.filled += page.filled;
      raiseFloor(page.floor);
      live.dropThrough(page.at);
      return {
        events: page.events,
        through: page.at,
        more: page.isFull() || isBehind,
        // What is settled is for feeders to know.
        held: undefined,
        floor,
      };
    },

    miss() {
      isBehind = true;
    },

    outdate(changes, sequence) {
      stale.add(changes, sequence);
      raiseFloor(changes.floor);
    },
  };
}

function higher(a: bigint, b = 0n): bigint {
  return a > b ? a : b;
}
