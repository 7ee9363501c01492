/**
 * Learning: what a relay has heard of PostgreSQL by way of the engine: which server events come from,
 * and how far an archive has to be to show all that is known.
 *
 * A server that was deposed has an older timeline. It is not believed; nor is another system, until
 * the log has begun anew with it.
 */
import type { LastRead } from '../outbox/feed.js';
import type { Known } from '../outbox/proof.js';
import type { Answerer } from './engine-log.js';
import { through, type Entry } from './entry.js';

export interface Learning {
  /** Undefined: nothing yet. */
  readonly known: Known | undefined;
  /** Takes what a believed entry says. */
  entry(entry: Entry): void;
  /**
   * Takes where an answer is from. @throws Error where that is another server than events come from,
   * or one that was deposed: then the answer must not be believed.
   */
  answer(from: Answerer): void;
  /** The log goes on with another history: what was known is forgotten, and this is what is known. */
  begin(entry: Entry): void;
}

export function createLearning(): Learning {
  let known: Known | undefined;

  function take({ system, timeline, wal }: Answerer, newest: LastRead | undefined): void {
    if (known === undefined || timeline > known.timeline) {
      // Places of an older timeline may be ahead: what was written there is lost.
      known = { system, timeline, wal, newest: newest ?? known?.newest };
    } else if (timeline === known.timeline) {
      const isNewer = newest !== undefined && newest.position >= (known.newest?.position ?? 0n);
      known = { system, timeline, wal: wal > known.wal ? wal : known.wal, newest: isNewer ? newest : known.newest };
    }
  }

  return {
    get known() {
      return known;
    },
    entry(entry) {
      if (entry.system === known?.system) take(entry, newestIn(entry));
    },
    answer(from) {
      if (known && from.system !== known.system) {
        throw new Error(
          `a feeder reads another PostgreSQL (system ${from.system}) than the log is from (system ${known.system})`,
        );
      }
      if (known && from.timeline < known.timeline) {
        throw new Error(
          `a feeder reads a PostgreSQL that was deposed: it is on timeline ${from.timeline}, and the log on ${known.timeline}`,
        );
      }
      take(from, undefined);
    },
    begin(entry) {
      known = undefined;
      take(entry, newestIn(entry));
    },
  };
}

/** The newest event of an entry, as an archive that is far enough shows it. */
function newestIn(entry: Entry): LastRead | undefined {
  if (entry.kind === 'run') return { ...entry.last, createdAt: entry.events.at(-1)?.createdAt };
  return { ...through(entry), createdAt: undefined };
}
