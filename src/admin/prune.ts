/**
 * Pruning: one run that deletes what is older than it is to be kept, in the order of `position`,
 * while publishers and relays go on.
 *
 * Three rules make the boundary exact. A batch is a prefix of the positions that are left, and ends
 * before the first row that is younger: nothing is taken out of the middle, where a client before
 * it would not be told. The migrations' trigger raises the floor in the same transaction. And only
 * positions up to a head that was noted before may go: a row that a long transaction commits late
 * has an old created_at and yet is new.
 *
 * No batch goes past what is settled, so it waits for nobody: below a commit that is under way the
 * floor may rise, and not above it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { commandLine } from '../command-name.js';
import { OperatorError } from '../operator-error.js';
import type { Session } from '../postgres/session.js';
import { beginBatch, deleteBatch } from './prune-batch.js';
import { openConnection } from './prune-connection.js';

/** Shortest pause after a batch; otherwise it is as long as the batch took. */
const PAUSE_MS = 50;

/** Time after which a commit hangs that keeps due rows from being deleted, and how often to look. */
const HANGS_MS = 1000;
const HANGS_POLL_MS = 20;

export interface PruneOptions {
  readonly url: string;
  /** Age from which events are deleted. */
  readonly keepSeconds: number;
  /** Ends the run after the current batch. */
  readonly signal?: AbortSignal;
  /** Called with what each batch has deleted, once it is committed, and how long that took. */
  readonly onBatch?: (rows: number, milliseconds: number) => void;
}

/** Whether all that was due is gone, or somebody else is at it, or the signal came first. */
export type Outcome = 'done' | 'another prunes' | 'stopped';

/**
 * Deletes once what is due. A row that was committed just before may be deleted too, if its
 * transaction had been open for longer than rows are kept: no earlier head is known here.
 *
 * @throws OperatorError `may-not-delete`, `locked`, `commit-hangs`; else what the connection throws
 */
export async function prune({ url, keepSeconds, signal, onBatch }: PruneOptions): Promise<Outcome> {
  const connection = openConnection(url);
  try {
    const session = await connection.connect();
    await requireRights(session);
    const { head, cutoff } = await look(session, keepSeconds);
    return await pruneBatches(session, { cutoff, head, ground: { clear: 0n }, signal, onBatch });
  } finally {
    connection.close();
  }
}

export async function requireRights(session: Session): Promise<void> {
  const { rows } = await session.query<{ role: string; may: boolean }>(
    `SELECT current_user AS role, has_table_privilege('here.outbox', 'SELECT') AND has_table_privilege('here.outbox', 'DELETE')
       AND has_table_privilege('here.outbox_floor', 'SELECT') AS may`,
  );
  const [found] = rows;
  if (!found?.may) {
    throw new OperatorError(
      'may-not-delete',
      `Pruning needs the right to delete events, which the role ${JSON.stringify(found?.role)} does not have. Make one for it, ` +
        `as the owner of the outbox: ${commandLine('roles --retention outbox_retention')}\n` +
        'and name it in RETENTION_DATABASE_URL=postgres://outbox_retention:password@host:5432/database',
    );
  }
}

/**
 * The newest position of those that are settled, and the database's time, in s since 1970, before
 * which rows are old.
 */
export async function look(session: Session, keepSeconds: number): Promise<{ head: bigint; cutoff: number }> {
  // By itself: only a snapshot that is newer shows all that is settled.
  const settled = await session.query<{ through: string }>('SELECT through FROM here.outbox_settled()');
  // Above the floor only: below it an index may be full of what was deleted.
  const { rows } = await session.query<{ head: string; cutoff: number }>(
    `SELECT extract(epoch FROM now() - make_interval(secs => $1))::double precision AS cutoff,
       coalesce((SELECT position FROM here.outbox WHERE position > floor.position AND position <= $2 ORDER BY position DESC LIMIT 1),
         floor.position) AS head
     FROM here.outbox_floor AS floor`,
    [keepSeconds, settled.rows[0]?.through ?? '0'],
  );
  return { head: BigInt(rows[0]?.head ?? 0), cutoff: rows[0]?.cutoff ?? 0 };
}

/** What one pruner knows of the table. */
export interface Ground {
  /** Up to this position no row is left. */
  clear: bigint;
}

export interface Run {
  readonly cutoff: number;
  readonly head: bigint;
  readonly ground: Ground;
  readonly signal: AbortSignal | undefined;
  readonly onBatch: PruneOptions['onBatch'];
}

/**
 * Batch after batch, until nothing more is due: first from the floor on, then what stands below it.
 * No row stands there unless somebody else has deleted from the middle; no client can reach it.
 *
 * A batch starts where the last one ended, and never at the table's beginning: while any old
 * transaction is open, the index keeps its entries of all rows that were deleted since, and each
 * batch would walk those of all batches before.
 *
 * @throws OperatorError `locked`, `commit-hangs`; else what the connection throws
 */
export async function pruneBatches(session: Session, { cutoff, head, ground, signal, onBatch }: Run): Promise<Outcome> {
  let below = false;
  for (;;) {
    if (signal?.aborted) return 'stopped';
    const started = performance.now();
    const begun = await beginBatch(session);
    if (begun === undefined) return 'another prunes';
    const { floor, settled } = begun;
    // The database is another than it was, as after restoring a backup.
    if (ground.clear > floor) ground.clear = 0n;
    const [after, upTo] = below ? [ground.clear, floor] : [floor, head];
    const { rows, last, left } = await deleteBatch(session, after, upTo < settled ? upTo : settled, cutoff);
    if (after === ground.clear) ground.clear = last ?? (below ? (left === undefined ? floor : left - 1n) : after);
    if (rows > 0) {
      const took = performance.now() - started;
      onBatch?.(rows, took);
      await pause(Math.max(PAUSE_MS, took), signal);
    } else if (!below && ground.clear < floor) {
      below = true;
    } else {
      await requireSettled(session, cutoff, signal);
      return 'done';
    }
  }
}

/** @throws OperatorError `commit-hangs`, where that is what keeps more from being deleted */
async function requireSettled(session: Session, cutoff: number, signal: AbortSignal | undefined): Promise<void> {
  for (const end = Date.now() + HANGS_MS; !signal?.aborted; await pause(HANGS_POLL_MS, signal)) {
    const { rows } = await session.query<{ process: number | null; due: boolean | null }>(
      `SELECT waits_for AS process,
         (SELECT created_at < to_timestamp($1) FROM here.outbox WHERE position > through ORDER BY position LIMIT 1) AS due
       FROM here.outbox_settled()`,
      [cutoff],
    );
    const { process = null, due = null } = rows[0] ?? {};
    if (process === null || !due) return;
    if (Date.now() < end) continue;
    throw new OperatorError(
      'commit-hangs',
      `${process === 0 ? 'A prepared transaction' : `Process ${process}`} is committing events that may come before others that are ` +
        `due. Pruning goes on once that commit is over; ${commandLine('doctor')} says what it waits for.`,
    );
  }
}

/** Ends early when the signal comes. */
export async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await delay(milliseconds, undefined, signal ? { signal } : {}).catch(() => undefined);
}

export function secondsSince(milliseconds: number): number {
  return Math.round((Date.now() - milliseconds) / 100) / 10;
}
