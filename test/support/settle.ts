/**
 * Settles what publishers were told about their transactions with what the table has: all rows of what was committed, none
 * of what was rolled back, and all or none where the server went away amid the commit.
 */
import type { Transaction, WriterResult } from './random-writer.js';
import type { Truth } from './truth.js';

export interface Settlement {
  readonly committed: number;
  readonly rolledBack: number;
  /** Of those whose outcome nobody was told, how many are in the table, and how many are not. */
  readonly unknown: { readonly kept: number; readonly gone: number };
  /** In words; empty when all is well. */
  readonly violations: readonly string[];
}

export function settle(results: readonly WriterResult[], truth: Truth): Settlement {
  const violations = results.flatMap(({ failures }) =>
    failures.map((text) => `a publisher's transaction failed: ${text}`),
  );
  if (truth.unplaced > 0) violations.push(`${truth.unplaced} committed rows have no position`);

  const found = new Map<string, number>();
  for (const { by } of truth.events) if (by !== null) found.set(by, (found.get(by) ?? 0) + 1);

  const sums = { committed: 0, 'rolled back': 0, kept: 0, gone: 0 };
  for (const { name, rows, outcome } of results.flatMap(({ transactions }) => transactions)) {
    const there = found.get(name) ?? 0;
    found.delete(name);
    if (!expected({ name, rows, outcome }).includes(there)) {
      violations.push(`transaction ${name} was ${outcome}: of its ${rows} rows the table has ${there}`);
    }
    if (outcome === 'unknown') sums[there > 0 ? 'kept' : 'gone'] += 1;
    else sums[outcome] += 1;
  }
  for (const [name, there] of found) violations.push(`${there} rows are of a transaction that nobody made: ${name}`);
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
