/**
 * History: events that the window no longer holds, read from the table in pages, a bounded number at a time.
 *
 * Reads wait their turn, first come, first served, so every replay moves on at the same pace and none starves. Readers that
 * ask for the same page share one read and one buffer. A read whose readers have all left is never made.
 */
import type { Budget } from './budget.js';
import type { Interest } from './channels.js';
import type { HistoryPage, Source } from './outbox.js';

export interface History {
  /**
   * The next page after `after` for `interest`; see `Source.page`.
   *
   * @param isWanted whether the reader is still there; asked when the read's turn comes.
   * @throws what the database throws.
   */
  read(interest: Interest, after: bigint, head: bigint, isWanted: () => boolean): Promise<HistoryPage>;
  /** Reads made, pages that others shared, and events read. */
  readonly stats: { readonly reads: number; readonly shared: number; readonly events: number };
}

/** A page that was asked for and has not come yet. */
interface Read {
  readonly page: Promise<HistoryPage>;
  readonly wantedBy: (() => boolean)[];
}

export function createHistory(source: Source, budget: Budget, { connections }: { connections: number }): History {
  const reads = new Map<string, Read>();
  const queue: (() => void)[] = [];
  let running = 0;
  const stats = { reads: 0, shared: 0, events: 0 };

  async function turn(): Promise<void> {
    if (running >= connections) await new Promise<void>((resolve) => queue.push(resolve));
    else running += 1;
  }

  /** Hands the place to the next in the queue, if there is one. */
  function done(): void {
    const next = queue.shift();
    if (next) next();
    else running -= 1;
  }

  async function fetch(
    interest: Interest,
    after: bigint,
    head: bigint,
    wantedBy: Read['wantedBy'],
  ): Promise<HistoryPage> {
    await turn();
    try {
      if (!wantedBy.some((isWanted) => isWanted())) {
        return { frames: undefined, events: 0, position: after, lastId: undefined, expired: false };
      }
      stats.reads += 1;
      // The size is settled now and not when the page was asked for: a thousand that queue would all have found room.
      const page = await source.page(interest, after, head, budget.pageBytes());
      stats.events += page.events;
      return page;
    } finally {
      done();
    }
  }

  return {
    read(interest, after, head, isWanted) {
      const key = `${after} ${interest.key}`;
      const existing = reads.get(key);
      if (existing) {
        // Another's page ends at a head that was committed when it asked, which is as good as ours.
        stats.shared += 1;
        existing.wantedBy.push(isWanted);
        return existing.page;
      }
      const wantedBy = [isWanted];
      const page = fetch(interest, after, head, wantedBy).finally(() => reads.delete(key));
      reads.set(key, { page, wantedBy });
      return page;
    },
    stats,
  };
}
