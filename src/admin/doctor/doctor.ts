/**
 * The doctor: looks at all that a relay relies on, and says of each trouble what it is, why it
 * matters and what to run.
 *
 * It changes nothing: each look is a read-only transaction, and the one notification that it sends
 * rings no relay. It gets by with the role of a relay; what that one may not see is reported as not
 * checked, with whom to run it as.
 */
import pg from 'pg';
import { withSession } from '../../postgres/client.js';
import { checkTransactions, checkVacuum } from './cleaning.js';
import { checkAwake, checkCommits } from './commits.js';
import { checkFloor, checkPositions, checkSequences, checkTimes } from './events.js';
import type { Finding, Result } from './finding.js';
import { checkMigrations } from './migrations.js';
import { checkNotifications, checkQueue } from './notify.js';
import { ANSWER_SECONDS, readTarget, type Examination, type Target } from './target.js';
import { checkFunctions, checkIndexes, checkTables, checkTriggers } from './schema.js';
import { checkClock, checkRights, checkServer, checkSettings } from './server.js';
import type { Session } from '../../postgres/session.js';

/**
 * In the order in which troubles are to be mended: rows are placed once the triggers that place
 * them fire, and a unique index is made once no row is in its way.
 */
const CHECKS: readonly (readonly [name: string, check: (target: Target) => Promise<Finding[]>])[] = [
  ['server', checkServer],
  ['migrations', checkMigrations],
  ['rights', checkRights],
  ['settings', checkSettings],
  ['tables', checkTables],
  ['functions', checkFunctions],
  ['triggers', checkTriggers],
  ['floor', checkFloor],
  ['indexes', checkIndexes],
  ['sequences', checkSequences],
  ['positions', checkPositions],
  ['times', checkTimes],
  ['clock', checkClock],
  ['notifications', checkNotifications],
  ['queue', checkQueue],
  ['awake', checkAwake],
  ['commits', checkCommits],
  ['transactions', checkTransactions],
  ['vacuum', checkVacuum],
];

/**
 * @param signal no check begins once it is aborted
 * @throws what the connection throws, where there is none or it breaks; the reason of `signal`
 */
export async function examine(examination: Examination, signal?: AbortSignal): Promise<Result[]> {
  const look = async (session: Session): Promise<Result[]> => {
    const target = await readTarget(session, examination);
    const results: Result[] = [];
    for (const [name, check] of CHECKS) {
      signal?.throwIfAborted();
      const findings = await check(target).catch((error: unknown) => [notChecked(target, error)]);
      results.push({ check: name, findings });
      if (findings.some(({ isFinal }) => isFinal)) break;
    }
    return results;
  };
  return withSession(examination.databaseUrl, 'outbox-relay doctor', look, ANSWER_SECONDS);
}

/** What is known of a check that failed. */
function notChecked({ role, schema }: Target, error: unknown): Finding {
  if (!(error instanceof pg.DatabaseError)) throw error;
  const owner = schema ? `the owner of the outbox (${schema.owner})` : 'its owner';
  switch (error.code) {
    case '42501': // insufficient_privilege
      return {
        level: 'unchecked',
        what: `role ${role} may not look: ${error.message}`,
        fix: { advice: `run doctor once more as ${owner}` },
      };
    case '57014': // query_canceled
      return {
        level: 'unchecked',
        what: `it took too long: ${error.message}`,
        fix: { advice: 'run doctor once more when the database has less to do, and no migration holds a lock' },
      };
    default:
      return {
        level: 'error',
        what: `it cannot be looked at: ${error.message}`,
        why: 'the outbox is not as the migrations made it',
        fix: { advice: `compare it with the files in migrations/, as ${owner}` },
      };
  }
}
