/**
 * The life of one event, as far as the database knows it: inserted, committed, placed, settled,
 * redacted, deleted. Who got it nobody notes.
 */
import { withSession } from '../postgres/client.js';
import { LISTENER_NAME, type Session } from '../postgres/session.js';

export interface EventLife {
  /** Undefined: no committed row has the id, as far as this role sees. */
  readonly row: EventRow | undefined;
  /** How far the table was deleted. */
  readonly floor: { readonly id: string; readonly position: string; readonly highestId: string };
  /** The highest id that was handed out; where the role may not know that, that of a row. */
  readonly newestId: string;
  /** Up to which position all is settled, and whose commit holds it back. */
  readonly settled: { readonly through: string; readonly waitsFor: number | null };
  /** Transactions of others that have written to the outbox and are open. */
  readonly writers: readonly { readonly process: number; readonly since: string | null }[];
  /** Listening sessions of relays, as far as this role sees them. */
  readonly relays: readonly {
    readonly process: number;
    readonly address: string | null;
    readonly since: string | null;
  }[];
}

export interface EventRow {
  readonly id: string;
  readonly channel: string;
  readonly event: string;
  /** When its transaction began, ISO 8601. */
  readonly createdAt: string;
  /** When that was committed, where the server tracks it and the row has not changed since. */
  readonly committedAt: string | null;
  readonly position: string | null;
  /** Of its data, as it is sent, but for its line breaks. */
  readonly bytes: number;
  readonly isRedacted: boolean;
  /** The event before it, which is a cursor that it follows; `0` where none is left. */
  readonly before: string;
}

const QUERY_SECONDS = 30;
const time = (value: string) => `to_char(${value} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/**
 * @param id digits
 * @throws what the connection throws; OperatorError `no-outbox`
 */
export async function eventLife(url: string, id: string): Promise<EventLife> {
  const work = ({ query }: Session) => lookAtEvent(query, id);
  return withSession(url, 'outbox-relay explain', work, QUERY_SECONDS);
}

/** Runs a statement, in which `here.` stands for the schema of the outbox. */
export type Query = (text: string, values?: readonly unknown[]) => Promise<{ readonly rows: readonly unknown[] }>;

/** The same for whoever has a connection. @throws what `query` throws */
export async function lookAtEvent(query: Query, id: string): Promise<EventLife> {
  const first = async <Row extends object>(text: string, values: readonly unknown[] = []): Promise<Row | undefined> =>
    (await query(text, values)).rows[0] as Row | undefined;
  const settled = await first<EventLife['settled']>(
    'SELECT through, waits_for AS "waitsFor" FROM here.outbox_settled()',
  );
  // After it, so that what is settled is seen.
  const row = await first<EventRow>(
    `SELECT outbox.id, channel, event, ${time('created_at')} AS "createdAt", position,
       CASE WHEN current_setting('track_commit_timestamp') = 'on' AND redaction.there IS NULL
         THEN ${time('pg_xact_commit_timestamp(outbox.xmin)')} END AS "committedAt",
       coalesce(octet_length(CASE jsonb_typeof(data) WHEN 'string' THEN data #>> '{}' ELSE data::text END), 4) AS bytes,
       redaction.there IS NOT NULL AS "isRedacted",
       coalesce((SELECT id FROM here.outbox AS others WHERE others.position < outbox.position
         AND others.position > (SELECT position FROM here.outbox_floor) ORDER BY position DESC LIMIT 1), 0) AS before
     FROM here.outbox LEFT JOIN LATERAL
       (SELECT true AS there FROM here.outbox_redaction AS r WHERE r.position = outbox.position) AS redaction ON true
     WHERE outbox.id = $1`,
    [id],
  );
  const floor = await first<EventLife['floor']>(
    'SELECT id, position, highest_id AS "highestId" FROM here.outbox_floor',
  );
  // The function fails for want of a right, or says NULL, by the version.
  const newest = await first<{ id: string }>(
    `SELECT greatest((SELECT max(id) FROM here.outbox), (SELECT greatest(id, highest_id) FROM here.outbox_floor),
       CASE WHEN has_sequence_privilege('here.outbox_id_seq', 'SELECT')
         THEN pg_sequence_last_value('here.outbox_id_seq'::regclass) END, 0) AS id`,
  );
  const writers = await query(
    `SELECT DISTINCT locks.pid AS process, ${time('xact_start')} AS since
     FROM pg_locks AS locks LEFT JOIN pg_stat_activity AS sessions USING (pid)
     WHERE relation = 'here.outbox'::regclass AND mode = 'RowExclusiveLock' AND locks.pid <> pg_backend_pid()
       AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY since, process LIMIT 10`,
  );
  const relays = await query(
    `SELECT pid AS process, host(client_addr) AS address, ${time('backend_start')} AS since FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = $1 ORDER BY backend_start, pid LIMIT 100`,
    [LISTENER_NAME],
  );
  return {
    row,
    floor: floor ?? { id: '0', position: '0', highestId: '0' },
    newestId: newest?.id ?? '0',
    settled: settled ?? { through: '0', waitsFor: null },
    writers: writers.rows as EventLife['writers'],
    relays: relays.rows as EventLife['relays'],
  };
}
