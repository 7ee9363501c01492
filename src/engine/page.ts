/**
 * A page: what follows a position, put together from entries of the engine's log and, where these do
 * not have it, from the archive.
 *
 * | an entry                                   | what is done                                       |
 * |--------------------------------------------|----------------------------------------------------|
 * | a run that begins where the page ends      | its events are appended                            |
 * | one that begins before it and ends above   | those above are                                    |
 * | one that ends at or below it               | nothing: they are there                            |
 * | one that begins above it                   | the gap is filled from the archive, then as above  |
 * | of a run, an event without a frame, or     | these events are read from the archive             |
 * | whose copy may be stale                    |                                                    |
 * | a begin or a restart, at a position        | the gap up to there is filled from the archive     |
 *
 * Entries that are missing or can't be read are gaps. So whatever the log has lost, doubled or cut
 * anew costs time, and no event.
 */
import type { Cursor, FreshEvent } from '../event/event.js';
import type { RunArchive } from '../outbox/archive.js';
import { through, type Entry, type RunEvent } from './entry.js';
import type { StaleCopies } from './stale-copies.js';

/** Bounds of a page, which the last event may exceed. */
const PAGE_EVENTS = 1000;
const PAGE_BYTES = 1024 * 1024;

export interface Page {
  readonly events: readonly FreshEvent[];
  /** Position through which it has all. */
  readonly at: bigint;
  isFull(): boolean;
  /** The newest deleted event that reading it has told of. */
  readonly floor: Cursor | undefined;
  /** How many events came from the archive. */
  readonly filled: number;
  /** Appends what an entry has, until the page is full. @throws what the archive throws. */
  take(entry: Entry, sequence: bigint): Promise<void>;
  /** Appends all up to a settled position from the archive. @throws what the archive throws. */
  fill(to: bigint): Promise<void>;
}

export function createPage(after: bigint, archive: Pick<RunArchive, 'run'>, stale: Pick<StaleCopies, 'has'>): Page {
  const events: FreshEvent[] = [];
  let at = after;
  let bytes = 0;
  let filled = 0;
  let floor: Cursor | undefined;
  const isFull = () => events.length >= PAGE_EVENTS || bytes >= PAGE_BYTES;

  function push(event: FreshEvent): void {
    events.push(event);
    bytes += event.frame.length;
    at = event.position;
  }

  async function fill(to: bigint): Promise<void> {
    while (at < to && !isFull()) {
      const run = await archive.run(at, to);
      if (floor === undefined || run.floor.position > floor.position) ({ floor } = run);
      run.events.forEach(push);
      filled += run.events.length;
      // The archive has nothing up to there that was not deleted.
      if (run.through > at) at = run.through;
    }
  }

  async function takeEvents(run: readonly RunEvent[], sequence: bigint): Promise<void> {
    const isCopy = (event: RunEvent | undefined): event is FreshEvent =>
      event?.frame !== undefined && !stale.has(event.position, sequence);
    for (let index = 0; index < run.length && !isFull(); index += 1) {
      const event = run[index];
      if (event === undefined || event.position <= at) continue;
      if (isCopy(event)) push(event);
      else {
        // As many as follow one another, in one read.
        while (index + 1 < run.length && !isCopy(run[index + 1])) index += 1;
        await fill(run[index]?.position ?? at);
      }
    }
  }

  return {
    events,
    get at() {
      return at;
    },
    isFull,
    get floor() {
      return floor;
    },
    get filled() {
      return filled;
    },
    async take(entry, sequence) {
      // An evict moves nothing on.
      if (entry.kind === 'evict') return;
      if (entry.kind !== 'run') return fill(entry.at.position);
      if (through(entry).position <= at) return;
      await fill(entry.prev);
      if (!isFull()) await takeEvents(entry.events, sequence);
    },
    fill,
  };
}
