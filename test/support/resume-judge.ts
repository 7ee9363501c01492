/**
 * The judge of a client that came and went: what it got must be exactly what it was owed.
 *
 * What is owed is all that it asked for and that follows its first cursor, up to the place at which a reset met it, and again
 * all that follows the place to which that reset took it. A reset has to be justified: it is, when retention had by then
 * deleted something that followed the client's place. `unknown` never is, as clients only bring what they were given.
 */
import type { DroppingClient, Reset } from './dropping-client.js';
import type { Truth } from './truth.js';

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

export function judge(client: DroppingClient, truth: Truth, floors: readonly Floor[] = []): Verdict {
  const name = client.names.join(', ');
  const violations: Violation[] = client.complaints.map((text) => ({ text: `${name}: ${text}` }));
  const sums = { lost: 0, double: 0, outOfOrder: 0 };
  if (client.startId === undefined) violations.push({ text: `${name}: never got a cursor` });
  for (const reset of client.resets) {
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

function spansOf({ startId, names, resets, received }: DroppingClient, truth: Truth): Span[] {
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
  client: DroppingClient,
  { owed, got, before }: Span,
  place: number,
  { lost, double, outOfOrder }: Pick<Verdict, 'lost' | 'double' | 'outOfOrder'>,
): Violation {
  const { connections, names } = client;
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
