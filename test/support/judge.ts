/**
 * The judge of a run: what each client got must be exactly what it was owed, and the table must have what publishers were told.
 *
 * What a client is owed is all that it asked for and that follows its first cursor, up to the place at which a reset met it, and again
 * all that follows the place to which that reset took it. A reset has to be justified: it is, when retention had by then
 * deleted something that followed the client's place. `unknown` never is, as clients only bring what they were given.
 */
import type { DroppingClient, Reset } from './dropping-client.js';
import type { Transaction, WriterResult } from './random-writer.js';
import type { Truth } from './truth.js';

/** What is known of a client. */
export type Account = Pick<DroppingClient, 'names' | 'startId' | 'received'> &
  Partial<Pick<DroppingClient, 'resets' | 'connections' | 'complaints'>>;

/** Retention deleted all up to and including this event. */
export interface Floor {
  readonly id: string;
  /** When it may have begun to, in milliseconds of `performance.now`. */
  readonly at: number;
}

export interface Verdict {
  readonly lost: number;
  readonly double: number;
  readonly outOfOrder: number;
  /** What was violated, and about when; empty when all is well. */
  readonly violations: readonly Violation[];
}

export interface Violation {
  readonly text: string;
  /** In milliseconds of `performance.now`. */
  readonly at?: number | undefined;
}

/** What a client is owed between two cursors, and what came between them. */
interface Span {
  readonly owed: readonly string[];
  readonly got: readonly string[];
  /** How many events had been received before. */
  readonly before: number;
}

export function judge(client: Account, truth: Truth, floors: readonly Floor[] = []): Verdict {
  const name = client.names.join(', ');
  const violations: Violation[] = (client.complaints ?? []).map((text) => ({ text: `${name}: ${text}` }));
  const sums = { lost: 0, double: 0, outOfOrder: 0 };
  if (client.startId === undefined) violations.push({ text: `${name}: never got a cursor` });
  for (const reset of client.resets ?? []) {
    const text = objection(reset, truth, floors);
    if (text !== undefined) violations.push({ text: `${name}: ${text}: ${JSON.stringify(reset)}`, at: reset.at });
  }
  for (const span of spansOf(client, truth)) {
    const { lost, double, outOfOrder } = compare(span);
    sums.lost += lost;
    sums.double += double;
    sums.outOfOrder += outOfOrder;
    const wrong = span.owed.findIndex((id, place) => span.got[place] !== id);
    const place = wrong === -1 && span.got.length > span.owed.length ? span.owed.length : wrong;
    if (place !== -1) violations.push(describe(client, span, place, { lost, double, outOfOrder }));
  }
  const again = client.received.length - new Set(client.received).size - sums.double;
  if (again > 0) violations.push({ text: `${name}: ${again} events came again after a reset` });
  sums.double += again;
  return { ...sums, violations };
}

/** What is wrong with a reset. */
function objection({ reason, from, to, at }: Reset, truth: Truth, floors: readonly Floor[]): string | undefined {
  const [old, fresh] = [truth.placeOf(from), truth.placeOf(to)];
  if (old === undefined || fresh === undefined) return 'a reset with a cursor that is no event';
  if (reason !== 'expired') return 'a reset that is never justified';
  if (fresh <= old) return 'a reset that leads back';
  const isJustified = floors.some((floor) => floor.at <= at && (truth.placeOf(floor.id) ?? -1) > old);
  return isJustified ? undefined : 'a reset though nothing was deleted that the client had yet to get';
}

function spansOf({ startId, names, resets = [], received }: Account, truth: Truth): Span[] {
  if (startId === undefined) return [];
  const wanted = truth.wanted(names);
  /** How many of them stand at this place or before it. */
  const countThrough = (place: number) => {
    let [low, high] = [0, wanted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((wanted[middle]?.place ?? Infinity) <= place) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  const starts = [startId, ...resets.map(({ to }) => to)];
  return starts.map((start, n) => {
    const [first, reset] = [truth.placeOf(start) ?? -1, resets[n]];
    const last = reset === undefined ? Infinity : (truth.placeOf(reset.from) ?? Infinity);
    const before = resets[n - 1]?.before ?? 0;
    return {
      before,
      owed: wanted.slice(countThrough(first), countThrough(last)).map(({ id }) => id),
      got: received.slice(before, reset?.before),
    };
  });
}

function compare({ owed, got }: Span): Pick<Verdict, 'lost' | 'double' | 'outOfOrder'> {
  const different = new Set(got);
  const places = new Map(owed.map((id, place) => [id, place]));
  let outOfOrder = 0;
  let highest = -1;
  for (const id of different) {
    const place = places.get(id);
    if (place !== undefined && place < highest) outOfOrder += 1;
    highest = Math.max(highest, place ?? -1);
  }
  return { lost: owed.filter((id) => !different.has(id)).length, double: got.length - different.size, outOfOrder };
}

function describe(
  client: Account,
  { owed, got, before }: Span,
  place: number,
  { lost, double, outOfOrder }: Pick<Verdict, 'lost' | 'double' | 'outOfOrder'>,
): Violation {
  const { connections = [], names } = client;
  const next = connections.findIndex((connection) => connection.before > before + place);
  const end = next === -1 ? connections.length : next;
  const near = connections.slice(Math.max(0, end - 2), end + 1);
  const around = (ids: readonly string[]) => ids.slice(Math.max(0, place - 2), place + 4).join(' ');
  return {
    text:
      `${names.join(', ')}: ${lost} lost, ${double} double, ${outOfOrder} out of order. As event ${place} of ` +
      `${owed.length} came ${got[place] ?? 'nothing'} instead of ${owed[place] ?? 'nothing'} ` +
      `(owed ${around(owed)}, got ${around(got)}). Connections then: ${JSON.stringify(near)}`,
    at: near.at(-1)?.at,
  };
}

export interface Settlement {
  readonly committed: number;
  readonly rolledBack: number;
  /** Of those whose outcome nobody was told, how many are in the table, and how many are not. */
  readonly unknown: { readonly kept: number; readonly gone: number };
  /** In words; empty when all is well. */
  readonly violations: readonly string[];
}

/**
 * Settles what publishers were told with what the table has: all rows of what was committed, in the order in which they were
 * inserted and after those of the publisher's last commit (promise R1), none of what was rolled back, and all or none where
 * the server went away amid the commit.
 */
export function settle(results: readonly WriterResult[], truth: Truth): Settlement {
  const violations = results.flatMap(({ failures }) =>
    failures.map((text) => `a publisher's transaction failed: ${text}`),
  );
  if (truth.unplaced > 0) violations.push(`${truth.unplaced} committed rows have no position`);

  const found = new Map<string, { readonly id: string; readonly place: number }[]>();
  for (const [place, { by, id }] of truth.events.entries()) {
    if (by === null) continue;
    const rows = found.get(by);
    if (rows) rows.push({ id, place });
    else found.set(by, [{ id, place }]);
  }

  const sums = { committed: 0, 'rolled back': 0, kept: 0, gone: 0 };
  for (const { transactions } of results) {
    let last = -1;
    for (const { name, rows, outcome } of transactions) {
      const there = found.get(name) ?? [];
      found.delete(name);
      if (!expected({ name, rows, outcome }).includes(there.length)) {
        violations.push(`transaction ${name} was ${outcome}: of its ${rows} rows the table has ${there.length}`);
      }
      if (there.some(({ id }, n) => BigInt(id) < BigInt(there[n - 1]?.id ?? 0))) {
        violations.push(`the rows of transaction ${name} are not in the order in which they were inserted`);
      }
      if (outcome === 'committed') {
        if ((there[0]?.place ?? Infinity) < last)
          violations.push(`transaction ${name} stands before one that was over`);
        last = there.at(-1)?.place ?? last;
      }
      if (outcome === 'unknown') sums[there.length > 0 ? 'kept' : 'gone'] += 1;
      else sums[outcome] += 1;
    }
  }
  for (const [name, { length }] of found)
    violations.push(`${length} rows are of a transaction that nobody made: ${name}`);
  return {
    committed: sums.committed,
    rolledBack: sums['rolled back'],
    unknown: { kept: sums.kept, gone: sums.gone },
    violations,
  };
}

/** How many of its rows may be there. */
function expected({ rows, outcome }: Transaction): number[] {
  if (outcome === 'unknown') return [0, rows];
  return [outcome === 'committed' ? rows : 0];
}
