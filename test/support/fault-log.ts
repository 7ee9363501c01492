/**
 * The log of all faults of a run: how many of each kind there were, and what was under way when.
 */
export interface FaultLog {
  /** Names kinds of faults that the run is to have. */
  expect(kinds: readonly string[]): void;
  /** Notes that a fault begins; call what it returns when it is over, with false where it came to nothing. */
  begin(kind: string, where: string): (happened: boolean) => void;
  /** Notes an attack, which is no fault: nothing is excused by it. Call what it returns when it is over. */
  attacked(kind: string): () => void;
  readonly attacks: ReadonlyMap<string, number>;
  /** Whether a fault for which `test` holds was under way at any time from one to the other, both of `performance.now`. */
  between(from: number, to: number, test: (kind: string, where: string) => boolean): boolean;
  /** Of faults. */
  readonly total: number;
  readonly counts: ReadonlyMap<string, number>;
  /** Kinds that have not happened yet. */
  readonly missing: readonly string[];
  /** What was under way within some seconds before and after a time of `performance.now`, a line each. */
  around(at: number): string[];
}

interface Fault {
  readonly kind: string;
  readonly where: string;
  readonly began: number;
  ended: number;
}

const AROUND_MS = { before: 10_000, after: 2_000 } as const;

export function createFaultLog(): FaultLog {
  const started = performance.now();
  const faults: Fault[] = [];
  const attacks: Fault[] = [];
  const counts = new Map<string, number>();
  const attackCounts = new Map<string, number>();
  const seconds = (at: number) => ((at - started) / 1000).toFixed(2);
  return {
    expect(kinds) {
      for (const kind of kinds) counts.set(kind, counts.get(kind) ?? 0);
    },
    begin(kind, where) {
      const fault: Fault = { kind, where, began: performance.now(), ended: Infinity };
      faults.push(fault);
      return (happened) => {
        fault.ended = performance.now();
        if (happened) counts.set(kind, (counts.get(kind) ?? 0) + 1);
        else faults.splice(faults.indexOf(fault), 1);
      };
    },
    attacked(kind) {
      const attack: Fault = { kind, where: 'an attack', began: performance.now(), ended: Infinity };
      attacks.push(attack);
      attackCounts.set(kind, (attackCounts.get(kind) ?? 0) + 1);
      return () => (attack.ended = performance.now());
    },
    attacks: attackCounts,
    between: (from, to, test) =>
      faults.some(({ kind, where, began, ended }) => began <= to && ended >= from && test(kind, where)),
    get total() {
      return [...counts.values()].reduce((sum, count) => sum + count, 0);
    },
    counts,
    get missing() {
      return [...counts].flatMap(([kind, count]) => (count === 0 ? [kind] : []));
    },
    around(at) {
      const near = [...faults, ...attacks].filter(
        ({ began, ended }) => began < at + AROUND_MS.after && ended > at - AROUND_MS.before,
      );
      return near.map(
        ({ kind, where, began, ended }) => `${seconds(began)} s to ${seconds(ended)} s: ${kind}, ${where}`,
      );
    },
  };
}
