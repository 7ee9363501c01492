/**
 * Holds a stream that is cut against its twin that is not: both begin at the same cursor, so
 * whatever one brings the other has to bring, in the same order, once.
 *
 * What both have brought is forgotten, but for the newest ids, by which it is told what came twice.
 * Memory is bounded.
 */

export interface Tally {
  /** Events that both have brought. */
  readonly agreed: number;
  /** Events that the twin has brought and the other has yet to. */
  readonly owed: number;
  /** Events of the twin that the other has gone past. */
  readonly lost: number;
  readonly doubled: number;
  readonly disordered: number;
  /** Whether so much is owed that no more of it is kept: from there on nothing can be said. */
  readonly isOverrun: boolean;
}

export interface TwinCheck {
  /** An event of the stream that is cut. @returns whether it is the one that was to come */
  subject(id: string): boolean;
  twin(id: string): void;
  tally(): Tally;
}

const MOST_OWED = 50_000;
const MOST_KNOWN = 20_000;

export function createTwinCheck(mostOwed = MOST_OWED): TwinCheck {
  // What one has brought and the other has not yet: one of the two is empty, as long as they agree.
  let ahead: string[] = [];
  let owed: string[] = [];
  const lost = new Set<string>();
  const known = new Set<string>();
  let [agreed, doubled, disordered] = [0, 0, 0];
  let isOverrun = false;

  function agree(id: string): void {
    agreed += 1;
    known.add(id);
    if (known.size > MOST_KNOWN) known.delete(known.values().next().value ?? '');
  }

  function keep(ids: string[], id: string): void {
    ids.push(id);
    if (ahead.length + owed.length + lost.size <= mostOwed) return;
    isOverrun = true;
    [ahead, owed] = [[], []];
  }

  return {
    subject(id) {
      if (isOverrun) return true;
      if (known.has(id) || ahead.includes(id)) {
        doubled += 1;
        return false;
      }
      // It comes after what it should have come before.
      if (lost.delete(id)) {
        disordered += 1;
        agree(id);
        return false;
      }
      const place = owed.indexOf(id);
      if (place < 0) {
        keep(ahead, id);
        return true;
      }
      for (const skipped of owed.splice(0, place + 1).slice(0, -1)) lost.add(skipped);
      agree(id);
      // What it has brought before, the twin brings later.
      if (ahead.length > 0) disordered += 1;
      return place === 0 && ahead.length === 0;
    },
    twin(id) {
      if (isOverrun) return;
      const place = ahead.indexOf(id);
      if (place >= 0) {
        ahead.splice(place, 1);
        if (place > 0) disordered += 1;
        for (const skipped of owed.splice(0)) lost.add(skipped);
        agree(id);
      } else if (ahead.length > 0) lost.add(id);
      else keep(owed, id);
    },
    tally: () => ({ agreed, owed: owed.length, lost: lost.size, doubled, disordered, isOverrun }),
  };
}
