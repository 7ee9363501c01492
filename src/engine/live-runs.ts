/**
 * Live runs: what came from the engine as it was appended and has yet to be read, as one part of the
 * order without a gap, and bounded in bytes. What does not follow begins the part anew, as the newest
 * is what is read again and again; what is lost by that the log has.
 */
import type { Run } from './entry.js';

export interface HeldRun {
  readonly run: Run;
  readonly sequence: bigint;
}

export interface LiveRuns {
  /** Positions between which it has all; undefined: nothing is known yet. */
  readonly span: { readonly from: bigint; readonly to: bigint } | undefined;
  /** Adds a run. Returns what it is: one that follows, one that is there already, or one after a gap. */
  add(run: Run, sequence: bigint): 'next' | 'known' | 'gap';
  /** All runs that lead beyond a position, in order; undefined: what follows it is not all here. */
  after(position: bigint): readonly HeldRun[] | undefined;
  /** Lets go of what ends at or below a position. */
  dropThrough(position: bigint): void;
  /** All up to a position was read elsewhere: what comes next follows it. */
  goOnAt(position: bigint): void;
  clear(): void;
}

/** @param limit most bytes; one run stays whatever its size. */
export function createLiveRuns(limit: number): LiveRuns {
  let runs: HeldRun[] = [];
  let bytes = 0;
  let span: { from: bigint; to: bigint } | undefined;

  function shift(): void {
    const first = runs.shift();
    if (first === undefined || span === undefined) return;
    bytes -= bytesOf(first.run);
    span.from = first.run.last.position;
  }

  function begin(at: bigint): void {
    runs = [];
    bytes = 0;
    span = { from: at, to: at };
  }

  return {
    get span() {
      return span;
    },
    add(run, sequence) {
      const end = run.last.position;
      if (span && end <= span.to) return 'known';
      const follows = span !== undefined && run.prev <= span.to;
      if (span === undefined || !follows) begin(run.prev);
      runs.push({ run, sequence });
      bytes += bytesOf(run);
      if (span) span.to = end;
      while (bytes > limit && runs.length > 1) shift();
      return follows ? 'next' : 'gap';
    },
    after(position) {
      if (span === undefined || position < span.from || position > span.to) return undefined;
      return runs.filter(({ run }) => run.last.position > position);
    },
    dropThrough(position) {
      for (let first = runs[0]; first && first.run.last.position <= position; [first] = runs) shift();
    },
    goOnAt(position) {
      if (span === undefined || span.to < position) begin(position);
    },
    clear() {
      runs = [];
      bytes = 0;
      span = undefined;
    },
  };
}

/** What an event takes in memory beside its frame. */
const EVENT_BYTES = 200;

function bytesOf({ events }: Run): number {
  return events.reduce((sum, { frame }) => sum + EVENT_BYTES + (frame?.length ?? 0), 0);
}
