/**
 * Which PostgreSQL answers: the system that was made by initdb once, of which copies have the same,
 * and the timeline, which is a new one after each promotion. So one that was deposed is told from
 * its successor. The tables can't tell: both have them.
 */
import { sql, type Kysely } from 'kysely';
import type { Tables } from '../postgres/pool.js';
import { refuseStandby } from '../postgres/standby.js';

export interface DatabaseOrigin {
  readonly system: string;
  readonly timeline: number;
  /**
   * How far the write-ahead log goes, in bytes: whoever has replayed it shows all that was to be
   * seen here before.
   */
  readonly wal: bigint;
}

/** @throws what the database throws, and OperatorError `standby` */
export async function readOrigin(db: Kysely<Tables>): Promise<DatabaseOrigin> {
  // The first eight digits of a WAL file's name are its timeline. Neither function is for standbys.
  const { rows } = await sql<{ system: string; timeline: number | null; wal: string | null; standby: boolean }>`
    SELECT system_identifier::text AS system, ('x' || left(pg_walfile_name(lsn), 8))::bit(32)::integer AS timeline,
      (lsn - '0/0')::text AS wal, standby
    FROM pg_control_system(), pg_is_in_recovery() AS standby,
      LATERAL (SELECT CASE WHEN NOT standby THEN pg_current_wal_insert_lsn() END AS lsn) AS newest`.execute(db);
  const [found] = rows;
  refuseStandby(found);
  if (found?.timeline == null || found.wal === null) throw new TypeError('a query of one row had none');
  return { system: found.system, timeline: found.timeline, wal: BigInt(found.wal) };
}
