/**
 * Where a time stands in the order of the outbox: before the first event that was created then or
 * later.
 *
 * Events mostly stand in the order in which they were created, but not all: a long transaction is
 * created at its beginning and placed at its end. So it takes a look at all that was created at
 * that time or later, or at all that stands before the one looked for. Both are walked at once,
 * some of each at a time, and the one that is shorter ends the search.
 */
import { sql, type Kysely } from 'kysely';
import type { Tables } from '../postgres/pool.js';
import type { Cursor } from '../event/event.js';
import { FLOOR_ID, FLOOR_POSITION } from './floor.js';
import { refuseStandby, type StandbyRule } from '../postgres/standby.js';

/** What has been looked at of events from `time` on, without an end. */
export interface Search {
  readonly time: Date;
  /** Position that is known to be settled: what is above it is not looked for. */
  readonly head: bigint;
  /**
   * The latest of those created at `time` or later, in the order of creation. By the microsecond.
   */
  readonly created: string;
  readonly createdPosition: string;
  /** The first of them in the order of positions. */
  readonly first: string | undefined;
  /** No event up to here was created at `time` or later. */
  readonly passed: string;
  readonly steps: number;
}

/** PostgreSQL has no year 0, and nothing was published in it. */
const FIRST_TIME = Date.parse('0001-01-01T00:00:00Z');

/**
 * @param head a position that the caller knows to be settled. Above it an event may yet appear
 * before the one that would be found.
 */
export function searchSince(asked: Date, head: bigint): Search {
  const time = new Date(Math.max(asked.getTime(), FIRST_TIME));
  return { time, head, created: time.toISOString(), createdPosition: '0', first: undefined, passed: '0', steps: 0 };
}

/**
 * Rows by one look at an index. So few that the planner can't think of another way, whatever it
 * knows of the table.
 */
const BLOCK_ROWS = 500;
/**
 * Looks of each walk in a step: a step is a statement, and takes some milliseconds. The first
 * mostly suffices.
 */
const FIRST_BLOCKS = 2;
const BLOCKS = 40;
/**
 * The next step. Resolves with where to go on, or with the cursor that was looked for: where there
 * is no such event, that of the newest at or below `head`.
 */
export async function stepSince(
  db: Kysely<Tables>,
  search: Search,
  rule: StandbyRule = refuseStandby,
): Promise<Search | Cursor> {
  const blocks = search.steps === 0 ? FIRST_BLOCKS : BLOCKS;
  const { rows } = await sql<Step>`
    WITH RECURSIVE floor AS MATERIALIZED (SELECT ${FLOOR_ID} AS id, ${FLOOR_POSITION} AS position),
    newer (created_at, position, first, found, block) AS (
      SELECT ${search.created}::timestamptz, ${search.createdPosition}::bigint, ${search.first ?? null}::bigint,
        ${sql.lit(BLOCK_ROWS)}::bigint, 0
      UNION ALL
      SELECT next.created_at, next.position, least(newer.first, next.first), next.found, block + 1
      FROM newer CROSS JOIN LATERAL (
        SELECT max(created_at) AS created_at, (array_agg(position))[count(*)] AS position, count(*) AS found,
          min(position) FILTER (WHERE position > (SELECT position FROM floor) AND position <= ${search.head}) AS first
        FROM (SELECT created_at, position FROM here.outbox
              WHERE (created_at, position) > (newer.created_at, newer.position) AND position IS NOT NULL
              ORDER BY created_at, position LIMIT ${sql.lit(BLOCK_ROWS)}) ahead
      ) next WHERE newer.found = ${sql.lit(BLOCK_ROWS)} AND block < ${blocks}
    ),
    newest AS MATERIALIZED (SELECT * FROM newer ORDER BY block DESC LIMIT 1),
    older (position, first, found, block) AS (
      SELECT greatest(floor.position, ${search.passed}::bigint), NULL::bigint, ${sql.lit(BLOCK_ROWS)}::bigint, 0 FROM floor
      UNION ALL
      SELECT coalesce(next.position, older.position), next.first, next.found, block + 1
      FROM older CROSS JOIN LATERAL (
        SELECT max(position) AS position, count(*) AS found,
          min(position) FILTER (WHERE created_at >= ${search.time}) AS first
        FROM (SELECT created_at, position FROM here.outbox WHERE position > older.position AND position <= ${search.head}
              ORDER BY position LIMIT ${sql.lit(BLOCK_ROWS)}) ahead
      ) next WHERE older.found = ${sql.lit(BLOCK_ROWS)} AND older.first IS NULL AND block < ${blocks}
        -- Where all that is newer has been seen.
        AND (SELECT found FROM newest) = ${sql.lit(BLOCK_ROWS)}
    ),
    oldest AS MATERIALIZED (SELECT * FROM older ORDER BY block DESC LIMIT 1),
    result AS MATERIALIZED (
      SELECT newest.created_at, newest.position AS created_position, newest.first AS newest_first, oldest.position AS passed,
        newest.found < ${sql.lit(BLOCK_ROWS)} OR oldest.first IS NOT NULL OR oldest.found < ${sql.lit(BLOCK_ROWS)} AS done,
        coalesce(oldest.first, newest.first) AS first
      FROM newest, oldest
    )
    SELECT result.created_at::text AS created, created_position AS "createdPosition", newest_first AS first, passed, done,
      before.id, before.position, pg_is_in_recovery() AS standby
    FROM result LEFT JOIN LATERAL (
      (SELECT id, position FROM here.outbox
       WHERE position < coalesce(result.first, ${search.head}::bigint + 1) AND position > (SELECT position FROM floor)
       ORDER BY position DESC LIMIT 1)
      UNION ALL SELECT id, position FROM floor
      ORDER BY position DESC LIMIT 1
    ) before ON result.done`.execute(db);
  const [step] = rows;
  rule(step);
  if (step?.done !== false) return { id: step?.id ?? '0', position: BigInt(step?.position ?? 0) };
  const { created, createdPosition, first, passed } = step;
  return { ...search, created, createdPosition, first: first ?? undefined, passed, steps: search.steps + 1 };
}

interface Step {
  readonly created: string;
  readonly createdPosition: string;
  readonly first: string | null;
  readonly passed: string;
  readonly done: boolean;
  readonly id: string | null;
  readonly position: string | null;
  readonly standby: boolean;
}
