/**
 * What is settled: up to which position no event can appear any more that is not there yet, as
 * migrations/1_outbox.sql tells it by the commits that are under way.
 */
import { sql, type Kysely } from 'kysely';
import type { Tables } from '../postgres/pool.js';
import { refuseStandby } from '../postgres/standby.js';

export interface Settled {
  /**
   * Position. A read that begins after this has been read finds all events up to there that ever
   * will be visible.
   */
  readonly through: bigint;
  /** Whether a commit is under way that publishes. */
  readonly isWaiting: boolean;
  /** The process that commits, the oldest of several. */
  readonly process: number | undefined;
}

/** @throws what the database throws, and OperatorError `standby` */
export async function readSettled(db: Kysely<Tables>): Promise<Settled> {
  const { rows } = await sql<{ through: string; process: number | null; standby: boolean }>`
    SELECT through, waits_for AS process, pg_is_in_recovery() AS standby FROM here.outbox_settled()`.execute(db);
  const [found] = rows;
  refuseStandby(found);
  if (found === undefined) throw new TypeError('a query of one row had none');
  const { through, process } = found;
  return { through: BigInt(through), isWaiting: process !== null, process: process ?? undefined };
}
