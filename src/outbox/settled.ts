/**
 * What is settled: up to which position no event can appear any more that is not there yet, as
 * migrations/1_outbox.sql tells it by the commits that are under way.
 */
import { sql, type Kysely } from 'kysely';
import type { Tables } from '../postgres/pool.js';
import { refuseStandby } from '../postgres/standby.js';
import type { Settled } from './feed.js';

/** @throws what the database throws, and OperatorError `standby` */
export async function readSettled(db: Kysely<Tables>): Promise<Settled> {
  const { rows } = await sql<{
    through: string;
    process: number | null;
    drawn: string;
    quiet: boolean;
    standby: boolean;
  }>`
    SELECT through, waits_for AS process, drawn, is_quiet AS quiet, pg_is_in_recovery() AS standby
    FROM here.outbox_settled()`.execute(db);
  const [found] = rows;
  refuseStandby(found);
  if (found === undefined) throw new TypeError('a query of one row had none');
  const { through, process, drawn, quiet } = found;
  return { through: BigInt(through), process: process ?? undefined, drawn: BigInt(drawn), isQuiet: quiet };
}
