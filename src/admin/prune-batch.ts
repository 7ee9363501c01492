/**
 * One batch of a pruning: a transaction that deletes what is due after a position, up to the first
 * row that is too young, and commits.
 */
import pg from 'pg';
import { OperatorError } from '../operator-error.js';
import type { Session } from '../postgres/session.js';

/** Most rows of a batch (some 20 ms). More are no cheaper each, and hold their locks for longer. */
const BATCH_ROWS = 2000;
/** About the most data of a batch: a large value is thousands of rows in its TOAST table. */
const BATCH_BYTES = 16 * 1024 * 1024;

/**
 * Begins a batch's transaction. Resolves with the floor and with what is settled; undefined, and
 * ends the transaction, while another prunes.
 *
 * The lock is the transaction's and not the session's, so it passes a pooler in transaction mode;
 * its key is that of the awake relay, but for the second number. It yields within half a second to
 * whoever holds rows that are due, and before PostgreSQL looks for a deadlock and may fail the
 * other one. The commit does not wait for the disk, because it notifies, and PostgreSQL has such
 * commits queue for one another, those of publishers that ring among them: what a crash brings back
 * is deleted again. The plan is pinned, since statistics say little about a table's end that moves
 * on all the time.
 */
export async function beginBatch(session: Session): Promise<{ floor: bigint; settled: bigint } | undefined> {
  const results = await session.begin(
    'READ WRITE',
    `SELECT pg_try_advisory_xact_lock('here.outbox'::regclass::oid::integer, 1) AS mine, position AS floor, through AS settled
       FROM here.outbox_floor, here.outbox_settled();
     SET LOCAL lock_timeout = '500ms';
     SET LOCAL statement_timeout = '30s';
     SET LOCAL idle_in_transaction_session_timeout = '10s';
     SET LOCAL synchronous_commit = off;
     SET LOCAL enable_seqscan = off;
     SET LOCAL enable_bitmapscan = off;
     SET LOCAL enable_sort = off;
     SET LOCAL jit = off`,
  );
  const found = results.flatMap(({ rows }) => rows as { mine: boolean; floor: string; settled: string }[])[0];
  if (found?.mine) return { floor: BigInt(found.floor), settled: BigInt(found.settled) };
  await session.query('ROLLBACK');
  return undefined;
}

export interface Batch {
  readonly rows: number;
  /** Of the last row that was deleted. */
  readonly last: bigint | undefined;
  /** Of the first row that is too young, if the batch came so far. */
  readonly left: bigint | undefined;
}

/** Deletes what is due after `after`, and commits. On an error the connection must be closed. */
export async function deleteBatch(session: Session, after: bigint, upTo: bigint, cutoff: number): Promise<Batch> {
  try {
    const { rows } = await session.query<{ rows: number; last: string | null; left: string | null }>(
      `WITH page AS MATERIALIZED (
         SELECT position, bool_and(created_at < to_timestamp($3)) OVER (ORDER BY position) AS due,
           sum(pg_column_size(data)) OVER (ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
         FROM (SELECT position, created_at, data FROM here.outbox
               WHERE position > $1 AND position <= $2 ORDER BY position LIMIT ${BATCH_ROWS}) AS first
       ), deleted AS (
         DELETE FROM here.outbox WHERE position > $1 AND position <=
           (SELECT max(position) FROM page WHERE due AND coalesce(before, 0) < ${BATCH_BYTES})
         RETURNING position
       )
       SELECT count(*)::integer AS rows, max(position) AS last, (SELECT min(position) FROM page WHERE NOT due) AS left
       FROM deleted`,
      [String(after), String(upTo), cutoff],
    );
    await session.query('COMMIT');
    const [found] = rows;
    return { rows: found?.rows ?? 0, last: toBigInt(found?.last), left: toBigInt(found?.left) };
  } catch (error) {
    if (!(error instanceof pg.DatabaseError && error.code === '55P03')) throw error; // lock_not_available
    throw new OperatorError(
      'locked',
      'Somebody holds a lock on events that are due, as a redaction does until it is committed. Pruning goes on once it is.',
      { cause: error },
    );
  }
}

function toBigInt(text: string | null | undefined): bigint | undefined {
  return text === null || text === undefined ? undefined : BigInt(text);
}
