/**
 * Checks of the events themselves: whether each has its place, and whether the places that come
 * next are new ones.
 */
import { commandLine } from '../../command-name.js';
import { ok, type Finding } from './finding.js';
import { inSchema, ownerOf, type Target } from './target.js';

/**
 * Gives all rows that have no position one, in the order of their ids, as new events: through the
 * trigger that places what is published, so behind a marker. Of two who run it at a time the second
 * waits for the first one's rows, and finds nothing left to place.
 */
const PLACE_ROWS = `INSERT INTO outbox_pending (listed)
SELECT string_agg(id || ' ' || ctid, ';' ORDER BY id) FROM outbox WHERE position IS NULL HAVING count(*) > 0`;

/**
 * Committed rows without a position. That of a transaction that is still open can't be among them,
 * as nobody sees it, and one that has committed got its position before that.
 */
export async function checkPositions(target: Target): Promise<Finding[]> {
  const [lost] = await target.query<{ count: string; first: string; last: string }>(
    'SELECT count(*), min(id) AS first, max(id) AS last FROM here.outbox WHERE position IS NULL',
  );
  const [access] = await target.query<{ granted: boolean }>(
    `SELECT has_table_privilege('here.outbox_pending', 'SELECT') AS granted`,
  );
  const left = access?.granted ? await target.query('SELECT FROM here.outbox_pending LIMIT 1') : [];
  const findings: Finding[] = [];
  if (left.length > 0) {
    findings.push({
      level: 'error',
      what: 'outbox_pending has rows, which no transaction left there that had all its triggers',
      why: 'they take room, and tell that placing was disturbed',
      // It waits for transactions that are publishing, and takes no row of theirs.
      fix: { as: ownerOf(target), sql: inSchema(target, ['TRUNCATE outbox_pending']) },
    });
  }
  if (lost && lost.count !== '0') {
    findings.push({
      level: 'error',
      what: `${lost.count} committed rows have no position (ids from ${lost.first} to ${lost.last})`,
      why:
        'they are never delivered. They were inserted while triggers did not fire: disabled, by logical replication, or with ' +
        'session_replication_role = replica. Placed now they are delivered as new events, in the order of their ids; instead, you may ' +
        'as well delete them',
      fix: { as: ownerOf(target), sql: inSchema(target, [PLACE_ROWS, 'NOTIFY outbox']) },
    });
  }
  return findings.length > 0 ? findings : [ok('every committed row has one')];
}

/** All reads of relays join outbox_floor: without its row they find nothing, without an error. */
export async function checkFloor(target: Target): Promise<Finding[]> {
  const rows = await target.query('SELECT FROM here.outbox_floor');
  if (rows.length === 1) return [ok('it has its row')];
  if (rows.length > 1) {
    return [
      {
        level: 'error',
        what: 'outbox_floor has more than one row',
        why: 'relays read each event as often',
        fix: {
          as: ownerOf(target),
          sql: inSchema(target, [
            'BEGIN',
            'ALTER TABLE outbox_floor DISABLE TRIGGER outbox_keep_floor',
            'DELETE FROM outbox_floor WHERE ctid <> (SELECT ctid FROM outbox_floor ORDER BY position DESC LIMIT 1)',
            'ALTER TABLE outbox_floor ENABLE TRIGGER outbox_keep_floor',
            'COMMIT',
          ]),
        },
      },
    ];
  }
  return [
    {
      level: 'error',
      what: 'outbox_floor has lost its one row',
      why:
        'relays deliver nothing. How far the log was pruned is not known any more: "migrate" sets it below the newest events that ' +
        'follow one another without a gap, and clients that may have missed something get a stream-reset',
      fix: { as: ownerOf(target), command: commandLine('migrate') },
    },
  ];
}

/**
 * Whether the sequences have handed out all that is in use: one that has not does it again. So it
 * is after a restore that brought rows but not the sequences; a database that went back as a whole
 * does not show it.
 */
export async function checkSequences(target: Target): Promise<Finding[]> {
  const rows = await target.query<{ name: string; last: string; used: string }>(`
    SELECT 'outbox_id_seq' AS name, CASE WHEN is_called THEN last_value ELSE last_value - 1 END AS last,
      greatest((SELECT max(id) FROM here.outbox), (SELECT max(greatest(id, highest_id)) FROM here.outbox_floor), 0) AS used FROM here.outbox_id_seq
    UNION ALL
    SELECT 'outbox_position_seq', CASE WHEN is_called THEN last_value ELSE last_value - 1 END,
      greatest((SELECT max(position) FROM here.outbox), (SELECT max(position) FROM here.outbox_floor), 0) FROM here.outbox_position_seq`);
  const findings = rows
    .filter(({ last, used }) => BigInt(last) < BigInt(used))
    .map(({ name, last, used }): Finding => ({
      level: 'error',
      what: `${name} has come to ${last}, but ${used} is in use`,
      why:
        name === 'outbox_id_seq'
          ? 'ids are handed out again: publishing fails, or old cursors name new events'
          : 'positions are handed out again: publishing fails, or new events get a place that relays have passed. Until they have come ' +
            'as far, what stands above is not taken for settled: it comes late or not at all, and cannot be deleted',
      fix: { as: ownerOf(target), command: commandLine('advance-ids') },
    }));
  return findings.length > 0 ? findings : [ok('both are ahead of all ids and positions in use')];
}

/** Rows of the future: publishers cannot set created_at, so a clock was wrong, or a role. */
export async function checkTimes(target: Target): Promise<Finding[]> {
  const [future] = await target.query<{ count: string }>(
    `SELECT count(*) FROM here.outbox WHERE created_at > clock_timestamp() + interval '1 minute'`,
  );
  if (future === undefined || future.count === '0') return [ok('no row is of the future')];
  return [
    {
      level: 'warning',
      what: `${future.count} rows have a created_at in the future`,
      why: 'retention stops at them until their time has come, and streams with since= start at them, too early',
      fix: {
        as: ownerOf(target),
        sql: inSchema(target, [
          'BEGIN',
          'ALTER TABLE outbox DISABLE TRIGGER outbox_refuse_change',
          'UPDATE outbox SET created_at = now() WHERE created_at > now()',
          'ALTER TABLE outbox ENABLE TRIGGER outbox_refuse_change',
          'COMMIT',
        ]),
      },
    },
  ];
}
