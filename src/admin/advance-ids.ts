/**
 * Advancing ids: for a database that went back in time, by a restore or by a failover that lost
 * commits. It would hand out ids and positions once more, and a cursor from before would name
 * another event and skip what lies between, in silence. Past all that can have been handed out such
 * a cursor names nothing, and its client is told so.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { commandLine } from '../command-name.js';
import { OperatorError } from '../operator-error.js';
import { withSession } from '../postgres/client.js';
import type { Session } from '../postgres/session.js';

/** Most that positions are moved on by. Nobody publishes more between a backup and its restore. */
const MOST_POSITIONS = 100_000_000_000n;

/**
 * Most positions at once, and by how many a commit under way may have begun before. A marker has 31
 * bits of a position, and is seen up to 2^30 positions later, which is more than both.
 */
const MOST_POSITIONS_AT_ONCE = 1_000_000_000n;
const POSITIONS_OF_COMMITS = 70_000_000n;

/** Time that commits under way have to end, in ms, and how often they are looked at. */
const COMMITS_TIMEOUT_MS = 10_000;
const COMMITS_POLL_MS = 5;

export interface Advance {
  readonly sequence: string;
  readonly from: string;
  readonly to: string;
}

/**
 * Moves both sequences on by `step`, from what they have handed out or from the highest number that
 * is in use, whichever is more. Never back, whoever else publishes or advances meanwhile.
 *
 * No publisher waits for it. Beyond a billion it waits for the commits that are under way.
 *
 * @throws OperatorError `standby`, `no-outbox`, `not-owner`, `commit-hangs`; else what PostgreSQL
 * throws
 */
export async function advanceIds(url: string, step: bigint): Promise<Advance[]> {
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
    // No other of our kind gets between reading and setting.
    await session.query(`SELECT pg_advisory_xact_lock('here.outbox'::regclass::oid::integer, 4)`);
    const advances = [await advanceEvents(session, step), await advancePositions(session, step)];
    await session.query('COMMIT');
    return advances;
  });
}

async function advanceEvents(session: Session, step: bigint): Promise<Advance> {
  const { from } = await read(session, 'outbox_id_seq', 'id', 'greatest(id, highest_id)');
  await session.query(`SELECT setval('here.outbox_id_seq', $1)`, [String(from + step)]);
  return { sequence: 'outbox_id_seq', from: String(from), to: String(from + step) };
}

/** In steps, each of them after all have ended that began to commit before the last one. */
async function advancePositions(session: Session, step: bigint): Promise<Advance> {
  const { from, last } = await read(session, 'outbox_position_seq', 'position', 'position');
  const to = from + (step < MOST_POSITIONS ? step : MOST_POSITIONS);
  for (let at = from - last < MOST_POSITIONS ? last : from; at < to;) {
    await commitsEnd(session, at - POSITIONS_OF_COMMITS);
    at = at + MOST_POSITIONS_AT_ONCE < to ? at + MOST_POSITIONS_AT_ONCE : to;
    await session.query(`SELECT setval('here.outbox_position_seq', $1)`, [String(at)]);
  }
  return { sequence: 'outbox_position_seq', from: String(from), to: String(to) };
}

/** Numbers that publishers draw meanwhile do no harm: they are fewer than a step. */
async function read(
  session: Session,
  sequence: string,
  column: string,
  inFloor: string,
): Promise<{ from: bigint; last: bigint }> {
  const { rows } = await session.query<{ from: string; last: string }>(
    `SELECT last_value AS last,
       greatest(last_value, (SELECT max(${column}) FROM here.outbox), (SELECT max(${inFloor}) FROM here.outbox_floor)) AS from
     FROM here.${sequence}`,
  );
  return { from: BigInt(rows[0]?.from ?? 0), last: BigInt(rows[0]?.last ?? 0) };
}

/** Resolves once nobody is committing who began to before this position was drawn. */
async function commitsEnd(session: Session, position: bigint): Promise<void> {
  for (const end = Date.now() + COMMITS_TIMEOUT_MS; ; await delay(COMMITS_POLL_MS)) {
    const { rows } = await session.query<{ through: string; process: number | null }>(
      'SELECT through, waits_for AS process FROM here.outbox_settled()',
    );
    const [settled] = rows;
    // Nobody commits, and the sequence is behind: it was never as far.
    if (settled === undefined || settled.process === null || BigInt(settled.through) >= position) return;
    if (Date.now() < end) continue;
    const who = settled.process === 0 ? 'A prepared transaction' : `Process ${settled.process}`;
    throw new OperatorError(
      'commit-hangs',
      `${who} has been committing events for more than ${COMMITS_TIMEOUT_MS / 1000} s, so positions were not advanced. ` +
        `Run it again once that commit is over; ${commandLine('doctor')} says what it waits for.`,
    );
  }
}
