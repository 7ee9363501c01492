/**
 * Refusals: the newest of them, for an operator who asks why clients get nothing. Equal ones in a
 * row are one entry, which counts them. Whoever is refused over and over does not push out what
 * others were refused. Nothing in it may be a credential: of an address the path is kept, and not
 * the query.
 */
import { clientAddress, counted } from '../access/client-address.js';
import type { Refusal } from '../http/errors.js';
import type { NotedRefusal } from './question.js';

export interface Refusals {
  note(refusal: Refusal): void;
  /** Entries that are newer than the stamp, the oldest first. */
  after(stamp: number): NotedRefusal[];
  readonly total: number;
}

/** How many entries are kept, and how long their texts may be. */
export const MOST_REFUSALS = 200;
const MOST_CHARACTERS = 300;

/**
 * Stamps are times, so that they grow over the restart of a process, with the number of the process
 * in their last digits, so that no two processes give the same.
 */
const STAMPS_PER_MS = 1024;
/**
 * More than one refusal in a millisecond have stamps ahead of the clock, by so much at most: beyond
 * that they are only counted.
 */
const MOST_AHEAD_MS = 1000;

/** Before all that come from now on. */
export const stampNow = (): number => Date.now() * STAMPS_PER_MS;
export const stampsIn = (ms: number): number => ms * STAMPS_PER_MS;
/** Which process has given it. */
export const processOf = (stamp: number): number => stamp % STAMPS_PER_MS;

export interface RefusalsOptions {
  readonly trustProxy: number;
  /** Of this process among those of a relay. */
  readonly processNumber: number;
}

export function createRefusals({ trustProxy, processNumber }: RefusalsOptions): Refusals {
  let entries: NotedRefusal[] = [];
  let total = 0;
  let lastMs = 0;

  function nextStamp(): number {
    lastMs = Math.max(Date.now(), lastMs + 1);
    return lastMs * STAMPS_PER_MS + (processNumber % STAMPS_PER_MS);
  }

  return {
    note({ status, code, message, request }) {
      total += 1;
      if (lastMs - Date.now() > MOST_AHEAD_MS) return;
      const stamp = nextStamp();
      const at = new Date().toISOString();
      const said = {
        status,
        code,
        message: withoutCredentials(message),
        method: (request.method ?? '').slice(0, 20),
        path: withoutCredentials((request.url ?? '').replace(/[?#].*$/s, '')),
        address: clientAddress(request, trustProxy).slice(0, 64),
        origin: request.headers.origin === undefined ? null : withoutCredentials(request.headers.origin),
      };
      const last = entries.at(-1);
      if (last && isSame(last, said)) {
        entries[entries.length - 1] = { ...last, stamp, at, count: last.count + 1 };
        return;
      }
      entries.push({ n: stamp, stamp, at, ...said, count: 1 });
      if (entries.length >= 2 * MOST_REFUSALS) entries = fairly(entries, MOST_REFUSALS);
    },
    after: (stamp) => fairly(entries, MOST_REFUSALS).filter((entry) => entry.stamp > stamp),
    get total() {
      return total;
    },
  };
}

function isSame(entry: NotedRefusal, said: Omit<NotedRefusal, 'n' | 'stamp' | 'at' | 'count'>): boolean {
  return (Object.keys(said) as (keyof typeof said)[]).every((name) => entry[name] === said[name]);
}

/**
 * As many as may be kept: of each client and code the newest, then of each the one before, and so
 * on. So a flood costs its own entries first.
 *
 * @param entries the oldest first; what is kept has their order.
 */
export function fairly(entries: readonly NotedRefusal[], most: number): NotedRefusal[] {
  if (entries.length <= most) return [...entries];
  const counts = new Map<string, number>();
  const ranked = [...entries].reverse().map((entry) => {
    const group = `${entry.code} ${counted(entry.address).key}`;
    const rank = counts.get(group) ?? 0;
    counts.set(group, rank + 1);
    return { entry, rank };
  });
  const kept = new Set(
    ranked
      .sort((a, b) => a.rank - b.rank)
      .slice(0, most)
      .map(({ entry }) => entry),
  );
  return entries.filter((entry) => kept.has(entry));
}

/**
 * The beginning of a text that a client has made, without what may be a token: a query whose mark
 * was encoded by mistake, and a JWT, wherever it stands.
 */
function withoutCredentials(text: string): string {
  return text
    .slice(0, MOST_CHARACTERS)
    .replace(/%3f\S*/gi, '%3F…')
    .replace(/eyJ[\w-]{8,}[\w.-]*/g, 'eyJ…');
}
