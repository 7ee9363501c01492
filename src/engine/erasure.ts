/**
 * Erasure: takes out of the engine's log what was redacted or deleted in the outbox. An entry goes
 * as a whole: relays read from the archive what they lack of it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { EngineLog } from './engine-log.js';
import { through } from './entry.js';

/** What was redacted or deleted, of what the log may have. */
export interface Gone {
  readonly redacted: readonly bigint[];
  /** All up to there; 0: none. */
  readonly redactedThrough: bigint;
}

/** Most positions that are looked for one by one; of more all entries up to the highest go. */
const MOST_SOUGHT = 50;

/** How long a replica may lag: as long as all of these. */
const MOST_WAITS = 50;
const WAIT_MS = 100;

type Log = Pick<EngineLog, 'read' | 'find' | 'erase' | 'purge'>;

/**
 * Leaves out what came before all that is left in the log.
 *
 * @throws Error where a replica answers that has nothing of a log that is not empty.
 */
export async function newestGone(log: Log, redacted: readonly bigint[], redactedThrough: bigint): Promise<Gone> {
  if (redacted.length === 0 && redactedThrough === 0n) return { redacted, redactedThrough };
  const [first] = await log.read(0n);
  if (first === undefined) throw new Error('the log is read from a replica that has nothing of it yet');
  const { entry } = first;
  const from = entry === undefined ? 0n : entry.kind === 'run' ? entry.prev : through(entry).position;
  return {
    redacted: redacted.filter((position) => position > from),
    redactedThrough: redactedThrough > from ? redactedThrough : 0n,
  };
}

/**
 * Erases all entries with any of them.
 *
 * @param before a sequence that no such entry comes after.
 * @returns how many; those that were erased together count as one.
 */
export async function eraseChanged(log: Log, { redacted, redactedThrough }: Gone, before: bigint): Promise<number> {
  let erased = 0;
  const isMany = redacted.length > MOST_SOUGHT;
  const highest = isMany ? redacted.reduce((most, one) => (one > most ? one : most), redactedThrough) : redactedThrough;
  if (highest > 0n) {
    await log.purge(await lastWith(log, highest, before));
    erased += 1;
  }
  if (isMany) return erased;
  const sequences = new Set<bigint>();
  for (const position of redacted) {
    if (position <= highest) continue;
    const found = await lastWith(log, position, before, true);
    if (found > 0n) sequences.add(found);
  }
  await log.erase([...sequences]);
  return erased + sequences.size;
}

/**
 * The sequence of the entry with the event at a position; or else, unless it has to be `exact`, of
 * the one before it.
 *
 * @param before a sequence that is there: a replica without it lags.
 */
async function lastWith(log: Log, position: bigint, before: bigint, exact = false): Promise<bigint> {
  const start = await log.find(position - 1n);
  let waits = 0;
  for (let at = start; at < before;) {
    const page = await log.read(at);
    if (page.length === 0) {
      if (waits === MOST_WAITS) throw new Error('the log is read from a replica that does not catch up');
      waits += 1;
      await delay(WAIT_MS);
    }
    for (const { sequence, entry } of page) {
      at = sequence;
      if (entry?.kind !== 'run') continue;
      if (entry.prev >= position) return exact ? 0n : start;
      if (entry.last.position >= position) return sequence;
    }
  }
  return exact ? 0n : start;
}
