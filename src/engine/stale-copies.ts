/**
 * Stale copies: events that were redacted, and of which entries may still have what they were before.
 * Entries are copies: they are erased a while after the redaction, and what came live is in memory.
 * Whoever reads a copy asks here first, and where it is stale reads the event from the archive
 * (promise R8).
 */
export interface StaleCopies {
  /**
   * Events were redacted: those at `redacted`, and any up to `redactedThrough`.
   *
   * @param sequence entries up to here may have them as they were.
   */
  add(changes: { readonly redacted: readonly bigint[]; readonly redactedThrough: bigint }, sequence: bigint): void;
  /** Whether the copy of an event in an entry may be that of before. */
  has(position: bigint, sequence: bigint): boolean;
  /** The log has begun anew. */
  clear(): void;
}

/** Most positions that are kept: some megabytes. Of more, the lowest are not told apart any more. */
const MOST_KEPT = 20_000;

export function createStaleCopies(): StaleCopies {
  /** Sequences by position. */
  const kept = new Map<bigint, bigint>();
  let all = { position: 0n, sequence: 0n };

  function addAll(position: bigint, sequence: bigint): void {
    all = { position: max(all.position, position), sequence: max(all.sequence, sequence) };
  }

  /** Half of them go, so that it is not done each time. */
  function cut(): void {
    const positions = [...kept.keys()].sort((a, b) => (a < b ? -1 : 1));
    for (const position of positions.slice(0, positions.length / 2)) {
      addAll(position, kept.get(position) ?? 0n);
      kept.delete(position);
    }
  }

  return {
    add({ redacted, redactedThrough }, sequence) {
      if (redactedThrough > 0n) addAll(redactedThrough, sequence);
      for (const position of redacted) kept.set(position, max(kept.get(position) ?? 0n, sequence));
      if (kept.size > MOST_KEPT) cut();
    },
    has(position, sequence) {
      if (position <= all.position && sequence <= all.sequence) return true;
      const known = kept.get(position);
      return known !== undefined && sequence <= known;
    },
    clear() {
      kept.clear();
      all = { position: 0n, sequence: 0n };
    },
  };
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
