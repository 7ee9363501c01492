/**
 * Figures of the outbox table, each bounded in what it costs: nothing here reads all of a large
 * table, and it is told what was not looked at.
 */
import { withSession } from '../postgres/client.js';
import type { Session } from '../postgres/session.js';

export interface TableFigures {
  readonly database: string;
  readonly schema: string;
  /** Committed ones. Where there are more than are counted, an estimate of PostgreSQL's. */
  readonly rows: number;
  readonly isEstimate: boolean;
  /** On disk: altogether, and of that the indexes, and data that is kept apart from its row. */
  readonly bytes: { readonly total: number; readonly indexes: number; readonly large: number };
  /** Distinct channels; `MOST_CHANNELS` where there are more. */
  readonly channels: number;
  readonly areMoreChannels: boolean;
  /** Events that were created in the last minute, hour and day; `MOST_COUNTED` where more were. */
  readonly lastMinute: number;
  readonly lastHour: number;
  readonly lastDay: number;
  readonly floor: { readonly id: string; readonly position: string };
  readonly oldest: Marked | undefined;
  readonly newest: Marked | undefined;
  /** As stored, and of the newest `SAMPLE_ROWS` only. */
  readonly largest: (Marked & { readonly bytes: number }) | undefined;
  /** By their events among the newest `SAMPLE_ROWS`, at most ten. */
  readonly busiest: readonly { readonly channel: string; readonly events: number }[];
  readonly sampled: number;
}

export interface Marked {
  readonly id: string;
  readonly channel: string;
  /** ISO 8601. */
  readonly createdAt: string;
}

/** Most rows that are counted. */
export const MOST_COUNTED = 1_000_000;
export const MOST_CHANNELS = 10_000;
/** Of the newest rows, how many are looked at for what is large and busy. */
export const SAMPLE_ROWS = 100_000;
/** Most that a query may take. */
const QUERY_SECONDS = 60;

/** @throws what the connection throws; OperatorError `no-outbox` */
export async function tableFigures(url: string): Promise<TableFigures> {
  return withSession(url, 'outbox-relay stats', look, QUERY_SECONDS);
}

async function look(session: Session): Promise<TableFigures> {
  await session.begin('READ ONLY', `SET LOCAL statement_timeout = '${QUERY_SECONDS}s'`);
  const one = async <Row extends object>(text: string, values: readonly unknown[] = []): Promise<Row> => {
    const { rows } = await session.query<Row & Record<string, unknown>>(text, values);
    if (rows[0] === undefined) throw new TypeError('a query for one row has brought none');
    return rows[0];
  };
  const size = await one<{ database: string; total: string; indexes: string; large: string; estimate: number }>(
    `SELECT current_database() AS database, pg_total_relation_size(oid) AS total, pg_indexes_size(oid) AS indexes,
       CASE WHEN reltoastrelid = 0 THEN 0 ELSE pg_total_relation_size(reltoastrelid) END AS large, reltuples AS estimate
     FROM pg_class WHERE oid = 'here.outbox'::regclass`,
  );
  const { counted } = await one<{ counted: number }>(
    `SELECT count(*)::integer AS counted FROM (SELECT FROM here.outbox LIMIT ${MOST_COUNTED + 1}) AS counted`,
  );
  // An index has each channel's first event next to the last one of the channel before.
  const { channels } = await one<{ channels: number }>(
    `WITH RECURSIVE names AS (
       (SELECT channel, 1 AS n FROM here.outbox WHERE position IS NOT NULL ORDER BY channel LIMIT 1)
       UNION ALL
       SELECT (SELECT channel FROM here.outbox WHERE position IS NOT NULL AND channel > names.channel ORDER BY channel LIMIT 1), n + 1
       FROM names WHERE names.channel IS NOT NULL AND n <= ${MOST_CHANNELS}
     ) SELECT count(channel)::integer AS channels FROM names`,
  );
  const since = (interval: string) =>
    `(SELECT count(*)::integer FROM (SELECT FROM here.outbox WHERE position IS NOT NULL
      AND created_at > now() - interval '${interval}' LIMIT ${MOST_COUNTED}) AS counted)`;
  const recent = await one<Pick<TableFigures, 'lastMinute' | 'lastHour' | 'lastDay'>>(
    `SELECT ${since('1 minute')} AS "lastMinute", ${since('1 hour')} AS "lastHour", ${since('1 day')} AS "lastDay"`,
  );
  const floor = await one<TableFigures['floor']>('SELECT id, position FROM here.outbox_floor');
  const end = (order: 'ASC' | 'DESC') =>
    `SELECT ${MARKED} FROM here.outbox WHERE position > (SELECT position FROM here.outbox_floor) ORDER BY position ${order} LIMIT 1`;
  const marked = async (text: string) => (await session.query<Marked & { bytes: number }>(text)).rows[0];
  const oldest = await marked(end('ASC'));
  const newest = await marked(end('DESC'));
  const sample = `(SELECT * FROM here.outbox WHERE position IS NOT NULL ORDER BY position DESC LIMIT ${SAMPLE_ROWS}) AS outbox`;
  const largest = await marked(
    `SELECT ${MARKED}, coalesce(pg_column_size(data), 0) AS bytes FROM ${sample} ORDER BY bytes DESC, id LIMIT 1`,
  );
  const busiest = await session.query<{ channel: string; events: number; sampled: number }>(
    `SELECT channel, count(*)::integer AS events, sum(count(*)) OVER ()::integer AS sampled FROM ${sample}
     GROUP BY channel ORDER BY events DESC, channel LIMIT 10`,
  );
  await session.query('COMMIT');
  const isEstimate = counted > MOST_COUNTED;
  return {
    database: size.database,
    schema: session.schema ?? '',
    // Of a table that no vacuum has seen it is -1.
    rows: isEstimate ? Math.max(counted, Math.round(size.estimate)) : counted,
    isEstimate,
    bytes: { total: Number(size.total), indexes: Number(size.indexes), large: Number(size.large) },
    channels: Math.min(channels, MOST_CHANNELS),
    areMoreChannels: channels > MOST_CHANNELS,
    ...recent,
    floor,
    oldest,
    newest,
    largest,
    busiest: busiest.rows.map(({ channel, events }) => ({ channel, events })),
    sampled: busiest.rows[0]?.sampled ?? 0,
  };
}

const MARKED = `id, channel, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS "createdAt"`;
