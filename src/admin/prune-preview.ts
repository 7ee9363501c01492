/**
 * What a run of `prune` would delete, counted by the same rules and with nothing deleted.
 */
import { OperatorError } from '../operator-error.js';
import type { Session } from '../postgres/session.js';
import { openConnection } from './prune-connection.js';
import { look } from './prune.js';

export interface PrunePreview {
  /** Events that would go. */
  readonly events: number;
  /** Their data, as stored. */
  readonly bytes: number;
  /** When the oldest and the newest of them were created, ISO 8601; null: there is none. */
  readonly oldest: string | null;
  readonly newest: string | null;
}

/**
 * Needs no right but to read.
 *
 * @throws OperatorError `may-not-read`; else what the connection throws
 */
export async function previewPrune(url: string, keepSeconds: number): Promise<PrunePreview> {
  const connection = openConnection(url);
  try {
    const session = await connection.connect();
    await requireSelect(session);
    const { head, cutoff } = await look(session, keepSeconds);
    return await count(session, head, cutoff);
  } finally {
    connection.close();
  }
}

/** A batch ends before the first row that is younger; what stands below the floor goes by itself. */
async function count(session: Session, head: bigint, cutoff: number): Promise<PrunePreview> {
  const due = (after: string, through: string) =>
    `SELECT created_at, data FROM here.outbox WHERE position > ${after} AND position <= ${through}
       AND position < coalesce((SELECT position FROM here.outbox WHERE position > ${after} AND position <= ${through}
         AND created_at >= to_timestamp($2) ORDER BY position LIMIT 1), 9223372036854775807)`;
  const time = (value: string) => `to_char(${value} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
  const floor = '(SELECT position FROM here.outbox_floor)';
  const { rows } = await session.query<Omit<PrunePreview, 'events' | 'bytes'> & { events: string; bytes: string }>(
    `SELECT count(*) AS events, coalesce(sum(pg_column_size(data)), 0) AS bytes,
       ${time('min(created_at)')} AS oldest, ${time('max(created_at)')} AS newest
     FROM (${due(floor, '$1')} UNION ALL ${due('0', floor)}) AS due`,
    [String(head), cutoff],
  );
  const { events = '0', bytes = '0', oldest = null, newest = null } = rows[0] ?? {};
  return { events: Number(events), bytes: Number(bytes), oldest, newest };
}

async function requireSelect(session: Session): Promise<void> {
  const { rows } = await session.query<{ role: string; may: boolean }>(
    `SELECT current_user AS role, has_table_privilege('here.outbox', 'SELECT')
       AND has_table_privilege('here.outbox_floor', 'SELECT') AS may`,
  );
  if (rows[0]?.may) return;
  const role = JSON.stringify(rows[0]?.role);
  throw new OperatorError('may-not-read', `The role ${role} may not read the outbox, so nothing can be counted.`);
}
