/**
 * Redaction: what has been changed or deleted of events that were read before, by the table that
 * keeps account of it.
 *
 * An answer names the snapshot that it is of, and the next asks for what that did not show: the
 * transactions that were under way then, and all later ones. So nothing is missed and nothing comes
 * twice, however long a transaction stays open, and whether anybody was notified or not.
 */
import { sql, type Kysely, type RawBuilder } from 'kysely';
import type { Tables } from '../postgres/pool.js';
import { refuseStandby } from '../postgres/standby.js';
import type { Changes } from './feed.js';
import { FLOOR_ID, FLOOR_POSITION } from './floor.js';

/** Most positions of an answer: some 100 kB. Of more, the lowest are not named one by one. */
const MOST_POSITIONS = 10_000;

/**
 * @param state of an earlier answer by the same database; undefined: whatever was ever redacted.
 * @param above positions up to here are not named.
 * @throws what the database throws, and OperatorError `standby`
 */
export async function changesSince(db: Kysely<Tables>, state: string | undefined, above: bigint): Promise<Changes> {
  const redacted = state === undefined ? everRedacted(above) : redactedSince(state);
  const { rows } = await sql<{
    state: string;
    count: number;
    positions: string | null;
    floorId: string;
    floor: string;
    isFloorMissing: boolean;
    standby: boolean;
  }>`
    SELECT pg_current_snapshot()::text AS state, count(*)::integer AS count,
      string_agg(position::text, ' ' ORDER BY position DESC) FILTER (WHERE position > ${above}) AS positions,
      ${FLOOR_ID} AS "floorId", ${FLOOR_POSITION} AS floor,
      NOT EXISTS (SELECT FROM here.outbox_floor) AS "isFloorMissing", pg_is_in_recovery() AS standby
    FROM (${redacted} ORDER BY position DESC LIMIT ${MOST_POSITIONS + 1}) redacted`.execute(db);
  const [found] = rows;
  refuseStandby(found);
  if (found === undefined) throw new TypeError('a query of one row had none');
  const positions = found.positions === null ? [] : found.positions.split(' ').map(BigInt);
  const isCut = positions.length > MOST_POSITIONS;
  return {
    state: found.state,
    redacted: isCut ? positions.slice(0, MOST_POSITIONS) : positions,
    redactedThrough: (isCut ? positions.at(-1) : undefined) ?? 0n,
    hasRedacted: found.count > 0,
    floor: { id: found.floorId, position: BigInt(found.floor) },
    isFloorMissing: found.isFloorMissing,
  };
}

function everRedacted(above: bigint): RawBuilder<unknown> {
  return sql`SELECT position FROM here.outbox_redaction WHERE position > ${above}`;
}

/**
 * Bounded above as well: a table that was restored into another server may name transactions that
 * there have yet to be.
 */
function redactedSince(state: string): RawBuilder<unknown> {
  return sql`
    SELECT position FROM here.outbox_redaction
    WHERE changed_by = ANY (ARRAY(SELECT pg_snapshot_xip(${state}::pg_snapshot)))
    UNION ALL
    SELECT position FROM here.outbox_redaction
    WHERE changed_by >= pg_snapshot_xmax(${state}::pg_snapshot) AND changed_by < pg_snapshot_xmax(pg_current_snapshot())`;
}
