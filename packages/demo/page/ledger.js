/**
 * The ledger of one subscriber: compares what arrived with what this page published. It holds the stream to every
 * publish that began after the stream's first opening (or its last reset) on a channel that the stream takes in. Rows
 * from elsewhere are only checked for duplicates, as the page can't know of the ones that don't arrive.
 */
import { covers } from './channels.js';
import { count } from './words.js';

/** A published row that has not arrived after this long on a live stream is called missing. */
export const OVERDUE_MS = 2000;

export function createLedger() {
  const arrived = new Set();
  const expected = new Map();
  let doubled = 0;
  let resets = 0;
  let since = Infinity;

  return {
    isOpen: () => since !== Infinity,
    open: () => (since = performance.now()),
    arrive(id) {
      if (arrived.has(id)) doubled += 1;
      arrived.add(id);
    },
    expect(id, { channel, startedAt }) {
      if (startedAt > since) expected.set(id, { channel, dueAt: performance.now() + OVERDUE_MS });
    },
    /** Expects nothing more on channels that the stream no longer takes in. */
    narrow(channels) {
      for (const [id, row] of expected) {
        if (!arrived.has(id) && !covers(channels, row.channel)) expected.delete(id);
      }
    },
    /** The relay has said that the past can't be had: from here on is what counts. */
    reset() {
      expected.clear();
      since = performance.now();
      resets += 1;
    },
    tally(channels) {
      const checked = [...expected.keys()].filter((id) => arrived.has(id)).length;
      const due = [...expected].filter(([id, row]) => !arrived.has(id) && covers(channels, row.channel));
      const overdue = due.filter(([, row]) => row.dueAt <= performance.now());
      return { checked, due: due.length, overdue: overdue.length, doubled, resets };
    },
  };
}

/** Puts a ledger's tally into words. */
export function judge({ checked, due, overdue, doubled, resets }, isLive) {
  if (doubled > 0) return { kind: 'bad', text: `${count(doubled, 'event')} arrived twice` };
  if (isLive && overdue > 0) return { kind: 'bad', text: `${count(overdue, 'published event')} missing` };
  if (isLive && due > 0) return { kind: 'waiting', text: `${due} on the way` };
  if (due > 0) return { kind: 'waiting', text: `Missing ${count(due, 'event')} published meanwhile` };
  if (checked === 0) {
    return {
      kind: 'idle',
      text: `${resets > 0 ? 'Counted anew since the reset: publish' : 'Publish'}, and each id is checked`,
    };
  }
  const scope = resets > 0 ? 'Since the reset' : 'No gap, no duplicate';
  return { kind: 'good', text: `${scope}: ${checked} sent, 0 missing, 0 doubled` };
}
