/**
 * Advancing ids: for a database that went back in time, by a restore or by a failover that lost
 * commits. It would hand out ids and positions once more, and a cursor from before would name
 * another event and skip what lies between, in silence. Past all that can have been handed out such
 * a cursor names nothing, and its client is told so.
 */
import pg from 'pg';
import { OperatorError } from '../operator-error.js';
import { withSession } from '../postgres/pool.js';
import type { Session } from '../postgres/session.js';

/** Over a hundred days at 100 events a second. Ids have room for 9 billion such steps. */
export const DEFAULT_STEP = 1_000_000_000n;

export interface Advance {
  readonly sequence: string;
  readonly from: string;
  readonly to: string;
}

/**
 * Moves both sequences on by `step`, from what they have handed out or from the highest number that
 * is in use, whichever is more. Never back, whoever else publishes or advances meanwhile.
 *
 * @throws OperatorError `standby`, `no-outbox`, `not-owner`; else what PostgreSQL throws
 */
export async function advanceIds(url: string, step: bigint = DEFAULT_STEP): Promise<Advance[]> {
  return withSession(url, 'outbox-relay advance-ids', async (session) => {
    const { rows } = await session.query<{ isStandby: boolean; owner: string | null; role: string; mayMove: boolean }>(
      `SELECT pg_is_in_recovery() AS "isStandby", current_user AS role, pg_get_userbyid(relowner) AS owner,
         coalesce(pg_has_role(relowner, 'USAGE'), false) AS "mayMove"
       FROM (VALUES (to_regclass($1))) AS found(oid) LEFT JOIN pg_class USING (oid)`,
      [session.schema === undefined ? null : `${pg.escapeIdentifier(session.schema)}.outbox_floor`],
    );
    const { isStandby = false, owner = null, role = '', mayMove = false } = rows[0] ?? {};
    if (isStandby) throw new OperatorError('standby', 'DATABASE_URL leads to a standby: run it on the primary.');
    if (owner === null) {
      throw new OperatorError(
        'no-outbox',
        'The database has no outbox, or the search_path does not lead to it. Check DATABASE_URL.',
      );
    }
    if (!mayMove) {
      throw new OperatorError(
        'not-owner',
        `Role ${role} may not do that: run it as ${owner}, the owner of the outbox, or as a superuser.`,
      );
    }

    await session.begin('READ WRITE');
    // The lock of outbox_place(): positions are drawn under it, so that their order is that of
    // commits. No other of our kind gets between reading and setting either.
    await session.query(`SELECT pg_advisory_xact_lock('here.outbox_pending'::regclass::oid::integer, 0)`);
    const advances = [
      await advance(session, 'outbox_id_seq', 'id', 'greatest(id, highest_id)', step),
      await advance(session, 'outbox_position_seq', 'position', 'position', step),
    ];
    await session.query('COMMIT');
    return advances;
  });
}

/** Ids that publishers draw meanwhile do no harm: they are fewer than a step. */
async function advance(
  session: Session,
  sequence: string,
  column: string,
  inFloor: string,
  step: bigint,
): Promise<Advance> {
  const { rows } = await session.query<{ from: string }>(
    `SELECT greatest(last_value, (SELECT max(${column}) FROM here.outbox), (SELECT max(${inFloor}) FROM here.outbox_floor)) AS from
     FROM here.${sequence}`,
  );
  const from = rows[0]?.from ?? '0';
  const to = String(BigInt(from) + step);
  await session.query(`SELECT setval('here.${sequence}', $1)`, [to]);
  return { sequence, from, to };
}
