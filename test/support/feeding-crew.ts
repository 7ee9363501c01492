/**
 * Feeders of one outbox into one engine's log, both in memory, that die at any step and are replaced; and what is owed of the log
 * that they feed.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { Answerer, LoggedEntry } from '../../src/engine/engine-log.js';
import { through } from '../../src/engine/entry.js';
import { startFeeding, type Feeding } from '../../src/engine/feeding.js';
import type { FakeEngine } from './fake-engine-log.js';
import { createMemoryFeed, type Faults, type MemoryOutbox } from './memory-outbox.js';

const logger = pino({ level: process.env['TEST_LOG'] === '1' ? 'debug' : 'silent' });

const SETTINGS = { sweepSeconds: 0.05, pollSeconds: 0.05, glanceSeconds: 0.05 };
/** Most looks at what is waited for: 20 s, and as much longer as the machine keeps this process from its work. */
const MOST_LOOKS = 4000;
const LOOK_MS = 5;

export interface Member {
  readonly feeding: Feeding;
  /** Ends it at whatever it is: nothing of it reaches the engine any more. */
  die(): Promise<void>;
}

/** @param origin what the database says of itself, now. */
export async function startMember(
  outbox: MemoryOutbox,
  faults: Faults,
  engine: FakeEngine,
  origin: () => Answerer = () => ({ system: 's', timeline: 1, wal: 1n }),
): Promise<Member> {
  const log = engine.open();
  const feed = createMemoryFeed(outbox, faults);
  const feeding = await startFeeding(SETTINGS, {
    feed,
    readAnswerer: () => faults.read(origin),
    engine: log,
    logger,
  });
  return {
    feeding,
    async die() {
      await log.close();
      await feeding.stop();
    },
  };
}

/** Resolves once `isDone`. @throws Error where it takes too long. */
export async function until(isDone: () => boolean, what: string): Promise<void> {
  for (let looks = 0; !isDone(); looks += 1) {
    if (looks === MOST_LOOKS) throw new Error(`it takes too long until ${what}`);
    await delay(LOOK_MS);
  }
}

/** Whether the log leads through the outbox's head. */
export function leadsThrough(engine: FakeEngine, outbox: MemoryOutbox): boolean {
  const last = engine.entries.at(-1)?.entry;
  return last !== undefined && through(last).position === outbox.head.position && through(last).id === outbox.head.id;
}

/**
 * What is wrong with a log, read whole; empty: each entry follows from the one before, and its runs have what was ever published at
 * their positions.
 */
export function faultsOf(entries: readonly LoggedEntry[], published: ReadonlyMap<bigint, string>): string[] {
  const found: string[] = [];
  let at: bigint | undefined;
  let epoch: string | undefined;
  for (const { sequence, entry } of entries) {
    if (entry === undefined) continue;
    const where = `${entry.kind} ${sequence}`;
    if (entry.kind === 'begin' || entry.kind === 'restart') {
      if (epoch === entry.epoch && entry.kind === 'begin') found.push(`${where}: begins again`);
      ({ position: at } = entry.at);
    } else if (entry.epoch !== epoch && epoch !== undefined) found.push(`${where}: of another history`);
    ({ epoch } = entry);
    if (entry.kind === 'evict' && at !== undefined && entry.last.position !== at)
      found.push(`${where}: at ${entry.last.position}, after ${at}`);
    if (entry.kind !== 'run') continue;
    if (at !== undefined && entry.prev !== at) found.push(`${where}: follows ${entry.prev}, after ${at}`);
    for (let position = entry.prev + 1n; position <= entry.last.position; position += 1n) {
      const event = entry.events.find((one) => one.position === position);
      const id = published.get(position);
      if (event?.id !== id && position > entry.floor.position)
        found.push(`${where}: has ${event?.id ?? 'nothing'} at ${position}, and not ${id ?? 'nothing'}`);
    }
    ({ position: at } = entry.last);
  }
  return found;
}
