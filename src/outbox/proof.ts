/**
 * Proof: that an archive shows all that is known of the outbox by another way, before it is asked
 * anything. It may be a standby, which lags, or lead to another server than before.
 *
 * | server    | what it has to show                                             | else                          |
 * |-----------|-----------------------------------------------------------------|-------------------------------|
 * | any       | the system identifier that the events come from                 | refused                       |
 * | a primary | their timeline, or a newer one: else it was deposed             | refused                       |
 * | a standby | that it has replayed the write-ahead log up to where they were  | waited for, and then refused  |
 * |           | read; by then, the newest of them: else it follows a deposed one| refused                       |
 *
 * Which positions a standby shows proves nothing: where commits overlap it may show the second of two
 * and not yet the first. Each is asked in a statement of its own, before what it is to vouch for, as
 * a snapshot may be older than what a function in the same statement says. And it is asked in the
 * same session; what one has replayed it goes on to show.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { OperatorError } from '../operator-error.js';
import type { Deadline } from '../postgres/deadline.js';
import type { Session } from '../postgres/session.js';
import type { LastRead } from './feed.js';

/** What is known of the outbox. */
export interface Known {
  /** PostgreSQL's system identifier, and the timeline that it was on. */
  readonly system: string;
  readonly timeline: number;
  /** A place in its write-ahead log: whoever has replayed it shows all that is known. */
  readonly wal: bigint;
  /** The newest event that is known. */
  readonly newest: LastRead | undefined;
}

export interface ProofOptions {
  /** Undefined: nothing yet. */
  readonly known: () => Known | undefined;
  /** The longest wait for a standby, in ms. */
  readonly patienceMs: number;
  /** The variable that has the archive's address, for what is said of it. */
  readonly variable: string;
}

/** Resolves once a session shows all that is known. @throws OperatorError `other-system`, `stale-archive` */
export type Proof = (session: Session, deadline: Deadline) => Promise<void>;

/** Between looks at a standby: about what replaying takes. */
const FIRST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 100;

/** What one session has shown. */
interface Shown {
  readonly system: string;
  /** Undefined: a standby. */
  readonly timeline: number | undefined;
  readonly replayed: bigint;
  newest: LastRead | undefined;
}

interface ServerRow {
  readonly system: string;
  readonly timeline: string | null;
  readonly replayed: string | null;
  readonly blockBytes: string;
  readonly segmentBytes: string;
}

const SERVER = `
  SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system,
    CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END AS timeline,
    CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::text END AS replayed,
    current_setting('wal_block_size') AS "blockBytes", pg_size_bytes(current_setting('wal_segment_size'))::text AS "segmentBytes"`;

const NEWEST = `
  SELECT EXISTS (SELECT FROM here.outbox_floor WHERE position >= $1::bigint) OR EXISTS (
    SELECT FROM here.outbox WHERE position = $1::bigint AND id = $2::bigint
      AND ($3::double precision IS NULL OR (extract(epoch FROM created_at) * 1000)::double precision = $3::double precision)) AS "isThere"`;

export function createProof({ known, patienceMs, variable }: ProofOptions): Proof {
  const sessions = new WeakMap<Session, Shown>();

  function refuseOther(shown: Shown, { system, timeline }: Known): void {
    if (shown.system !== system) {
      throw new OperatorError(
        'other-system',
        `${variable} leads to another PostgreSQL (system ${shown.system}) than events come from (system ${system}): lead it to ` +
          'that one, or to a standby of it',
      );
    }
    if (shown.timeline !== undefined && shown.timeline < timeline) {
      throw stale(
        `leads to a primary that was deposed: it is on timeline ${shown.timeline}, and events come from ${timeline}`,
      );
    }
  }

  function stale(what: string): OperatorError {
    return new OperatorError('stale-archive', `${variable} ${what}. Nothing is read there until it shows all events`);
  }

  async function look(session: Session, deadline: Deadline): Promise<Shown> {
    const { rows } = await session.query<ServerRow>(SERVER, [], { name: 'outbox_proof', deadline });
    const [row] = rows;
    if (row === undefined) throw new TypeError('a query of one row had none');
    const { system, timeline, replayed } = row;
    return {
      system,
      timeline: timeline === null ? undefined : Number.parseInt(timeline, 16),
      replayed: replayed === null ? 0n : pastHeader(BigInt(replayed), BigInt(row.blockBytes), BigInt(row.segmentBytes)),
      newest: undefined,
    };
  }

  /** Looks until all is replayed. */
  async function replayed(session: Session, wanted: Known, deadline: Deadline): Promise<Shown> {
    // Behind a pooler each statement may run elsewhere.
    let shown = session.isDirect ? sessions.get(session) : undefined;
    const until = performance.now() + patienceMs;
    for (let pauseMs = 0; shown === undefined || !isReplayed(shown, wanted.wal);) {
      if (shown !== undefined && performance.now() > until) {
        throw stale(`leads to a standby that lags by ${wanted.wal - shown.replayed} bytes of write-ahead log`);
      }
      await delay(pauseMs, undefined, deadline.signal ? { signal: deadline.signal } : {});
      pauseMs = Math.min(Math.max(pauseMs * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
      shown = await look(session, deadline);
      sessions.set(session, shown);
      refuseOther(shown, wanted);
    }
    return shown;
  }

  return async (session, deadline) => {
    const wanted = known();
    if (wanted === undefined) throw new Error('where events come from is not known yet');
    const shown = await replayed(session, wanted, deadline);
    refuseOther(shown, wanted);
    const { newest } = wanted;
    if (shown.timeline !== undefined || newest === undefined || newest.position === 0n) return;
    if (shown.newest?.position === newest.position && shown.newest.id === newest.id) return;
    const values = [String(newest.position), newest.id, newest.createdAt ?? null];
    const { rows } = await session.query<{ isThere: boolean }>(NEWEST, values, { name: 'outbox_newest', deadline });
    if (rows[0]?.isThere !== true) throw stale('leads to a standby that follows another primary than events come from');
    shown.newest = newest;
  };
}

function isReplayed({ timeline, replayed }: Shown, wal: bigint): boolean {
  return timeline !== undefined || replayed >= wal;
}

/**
 * A place in the write-ahead log at which a page ends is the same as that after the header of the
 * next, and a standby names the first where the primary names the second. Source: xlogdefs.h,
 * XLogPageHeaderData: a header has 24 bytes, and 40 at the beginning of a segment.
 */
function pastHeader(replayed: bigint, blockBytes: bigint, segmentBytes: bigint): bigint {
  if (replayed % blockBytes !== 0n) return replayed;
  return replayed + (replayed % segmentBytes === 0n ? 40n : 24n);
}
