/**
 * Traceparents: which span has published an event.
 *
 * The table takes any text there, so whatever is not of that form is passed by; and none of it is
 * read with the events, whose way it must not make longer.
 */
import { sql, type Kysely } from 'kysely';
import { TRACEPARENT_BYTES, TRACEPARENT_FORM } from '../event/traceparent.js';
import { abortable, type Tables } from '../postgres/pool.js';

/**
 * The traceparents of the events at `positions`, by position; of those that have none, or one of
 * another form, nothing.
 *
 * @throws what the database throws; the signal's reason
 */
export async function readTraceparents(
  db: Kysely<Tables>,
  positions: readonly bigint[],
  signal: AbortSignal,
): Promise<Map<bigint, string>> {
  // The length is known without the text, which may have been given a gigabyte.
  const { rows } = await sql<{ position: string; traceparent: string }>`
    SELECT position, traceparent FROM here.outbox
    WHERE position = ANY (${positions.map(String)}::bigint[])
      AND CASE WHEN octet_length(traceparent) = ${sql.lit(TRACEPARENT_BYTES)}
        THEN traceparent ~ ${sql.lit(TRACEPARENT_FORM)} END`.execute(abortable(db, signal));
  return new Map(rows.map(({ position, traceparent }) => [BigInt(position), traceparent]));
}
