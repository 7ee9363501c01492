/**
 * Answers: what a feeder asks PostgreSQL for relays. Those who ask the same while the question is
 * under way share its answer only where it was asked after they were: of each question there is one
 * under way, and one that waits for it.
 */
import type { Tail } from '../feed/tail.js';
import type { Changes, FeedReader, LastRead } from '../outbox/feed.js';
import type { Answerer, FeederQuestions, KnownChanges } from './engine-log.js';
import type { Feeder } from './feeder.js';

export interface AnswersParts {
  readonly feed: Pick<FeedReader, 'changesSince' | 'isSameHistory'>;
  readonly feeder: Pick<Feeder, 'readAnswerer' | 'fedThrough' | 'fence'>;
  readonly tail: Pick<Tail, 'upToDate'>;
}

/** Both reject while nothing may be fed from here. */
export function createAnswers({ feed, feeder, tail }: AnswersParts): FeederQuestions {
  const shared = createShared();
  /** The floor up to which the log is known to have no entry that was made before. */
  let floorKnown = 0n;

  function requireFed(): void {
    if (feeder.fence) throw new Error('this feeder is fenced: another has to answer');
  }

  async function askChanges(state: string | undefined, above: bigint): Promise<KnownChanges> {
    requireFed();
    const changes: Changes = await feed.changesSince(state, above);
    const answerer: Answerer = await feeder.readAnswerer();
    // What this relay learns now no entry may have that comes after: there has to be an evict first.
    if (changes.hasRedacted || changes.floor.position > floorKnown) {
      await tail.upToDate();
      floorKnown = changes.floor.position;
    }
    requireFed();
    return { ...changes, ...pick(answerer), sequence: feeder.fedThrough.sequence };
  }

  async function askHistory(read: LastRead) {
    requireFed();
    const isSame = await feed.isSameHistory(read);
    const answerer = await feeder.readAnswerer();
    return { ...pick(answerer), isSame };
  }

  return {
    changesSince: (state, above) => shared(`${above} ${state ?? ''}`, () => askChanges(state, above)),
    isSameHistory: (read) =>
      shared(`history ${read.position} ${read.id} ${read.createdAt ?? ''}`, () => askHistory(read)),
  };
}

function pick({ system, timeline, wal }: Answerer): Answerer {
  return { system, timeline, wal };
}

/** Work by name: one under way and one that waits, for all who ask meanwhile. */
function createShared(): <T>(name: string, work: () => Promise<T>) => Promise<T> {
  const underWay = new Map<string, Promise<unknown>>();
  const waiting = new Map<string, Promise<unknown>>();
  function begin<T>(name: string, work: () => Promise<T>): Promise<T> {
    const begun = work().finally(() => {
      if (underWay.get(name) === begun) underWay.delete(name);
    });
    underWay.set(name, begun);
    return begun;
  }
  return <T>(name: string, work: () => Promise<T>) => {
    const before = underWay.get(name);
    if (before === undefined) return begin(name, work);
    const next = (waiting.get(name) ??
      before.then(
        () => begin(name, work),
        () => begin(name, work),
      )) as Promise<T>;
    if (!waiting.has(name)) {
      waiting.set(name, next);
      const forget = () => waiting.get(name) === next && waiting.delete(name);
      before.then(forget, forget);
    }
    return next;
  };
}
