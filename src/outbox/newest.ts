/**
 * The newest events, up to a position that is known to be settled: where they end, and from where on
 * they are a given amount.
 */
import { sql, type Kysely } from 'kysely';
import type { Cursor } from '../event/event.js';
import type { Tables } from '../postgres/pool.js';
import { cursorIn, FLOOR_ID, FLOOR_POSITION } from './floor.js';

/** The newest event at or below a position; where all were deleted, the newest of these. */
export async function newestThrough(db: Kysely<Tables>, through: bigint): Promise<Cursor> {
  const { rows } = await sql<{ id: string; position: string }>`
    SELECT id, position FROM (
      -- Above the floor only: below it the index may be full of what was deleted.
      (SELECT id, position FROM here.outbox WHERE position > ${FLOOR_POSITION} AND position <= ${through}
       ORDER BY position DESC LIMIT 1)
      UNION ALL SELECT ${FLOOR_ID}, ${FLOOR_POSITION}
    ) newest ORDER BY position DESC LIMIT 1`.execute(db);
  return cursorIn(rows[0]);
}

/** As `nearHead` of a feed whose newest event is at `through`, or below. */
export async function nearNewest(
  db: Kysely<Tables>,
  through: bigint,
  { events, bytes }: { readonly events: number; readonly bytes: number },
): Promise<Cursor> {
  const { rows } = await sql<{ id: string; position: string }>`
    SELECT id, position FROM (
      SELECT id, position, sum(coalesce(pg_column_size(data), 0)) OVER (ORDER BY position DESC) AS bytes
      FROM (SELECT id, position, data FROM here.outbox
            WHERE position > ${FLOOR_POSITION} AND position <= ${through} ORDER BY position DESC LIMIT ${events}) newest
    ) sized WHERE bytes <= ${bytes} ORDER BY position LIMIT 1`.execute(db);
  return rows[0] ? cursorIn(rows[0]) : newestThrough(db, through);
}
