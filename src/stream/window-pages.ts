/**
 * Pages of the window that readers with one filter share: of what a thousand dashboards have
 * missed, each event is matched once.
 *
 * Without sharing, a crowd of readers with a prefix looks at the whole window once for each, and a
 * fast publisher may add to it faster than they get on. Where readers begin at different cursors
 * their pages soon end at the same positions.
 */
import { LRUCache } from 'lru-cache';
import type { Log, LogPage } from '../feed/log.js';
import { LOOKS_PER_SLICE } from './slices.js';

/** Memory of all pages that are kept: only small ones, as most of a prefix with few events. */
const KEPT_BYTES = 2 * 1024 * 1024;
const LARGEST_KEPT_BYTES = 64 * 1024;
/** What a page costs beside its frames. */
const PAGE_OVERHEAD = 300;

interface Kept {
  readonly page: LogPage;
  /** The log's when it was read: once events have been redacted it is for nobody. */
  readonly changes: number;
}

/** A log whose `read` looks at nothing for a page that a reader of the same filter has had. */
export function createWindowPages(log: Log): Pick<Log, 'read'> {
  const pages = new LRUCache<string, Kept>({
    maxSize: KEPT_BYTES,
    sizeCalculation: ({ page }, key) => (page.frames?.length ?? 0) + key.length + PAGE_OVERHEAD,
  });

  return {
    read(filter, after, bytes, looks = Infinity, format = 'data') {
      // Of channels alone the window finds the events without looking at others.
      if (filter.prefixes.length === 0) return log.read(filter, after, bytes, looks, format);
      const key = `${after} ${format} ${filter.key}`;
      const kept = pages.get(key);
      const isGood = kept?.changes === log.changes && (kept.page.frames?.length ?? 0) <= bytes && after >= log.floor;
      if (kept && isGood) return { ...kept.page, looked: 0 };
      const page = log.read(filter, after, bytes, Math.min(looks, looksToNextEnd(after)), format);
      const size = page.frames?.length ?? 0;
      if (!page.needsTable && page.position > after && size <= LARGEST_KEPT_BYTES) {
        pages.set(key, { page, changes: log.changes });
      }
      return page;
    },
  };
}

/** Slices of all readers end at the same positions, where positions have no gaps. */
function looksToNextEnd(after: bigint): number {
  return LOOKS_PER_SLICE - Number(after % BigInt(LOOKS_PER_SLICE));
}
