/**
 * Sized rows: SQL that cuts a page by the bytes that its events have as sent, and makes no text of what comes after the cut.
 */
import { sql, type RawBuilder } from 'kysely';
import { ROW_BYTES } from './typical-size.js';
import { MAX_EVENT_BYTES } from './undeliverable.js';

/** When a row was inserted, in milliseconds since 1970. */
export const CREATED = sql`(extract(epoch FROM created_at) * 1000)::double precision`;

/** An event's data as it is delivered. */
export const TEXT = sql`coalesce(data #>> '{}', 'null')`;

/** The same as it stands in a frame: each line break begins a line of its own. Plain replacing is quick, by patterns it takes minutes. */
export const LINES = sql`replace(replace(replace(text, E'\\r\\n', E'\\n'), E'\\r', E'\\n'), E'\\n', E'\\ndata: ')`;

/** Texts up to this size are kept from being measured until they are framed; larger ones are made once more. */
const KEPT_BYTES = 16 * 1024;

/**
 * Of a query for rows in position order: each with the bytes that its data has as sent, and those of all rows up to it. With `cut` it
 * makes no text of what comes after the page: texts can be thousands of times the size that is stored. For that the rows have to
 * come in order by themselves. Each ORDER BY here also keeps the planner from making a text wherever it is mentioned.
 */
export function sized(query: RawBuilder<unknown>, columns: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`
    SELECT *, row_number() OVER rows AS n,
      sum(${sql.lit(ROW_BYTES)} + CASE WHEN size <= ${sql.lit(MAX_EVENT_BYTES)} THEN size ELSE 0 END) OVER rows AS through FROM (
      SELECT ${columns}, CASE WHEN octet_length(text) <= ${sql.lit(KEPT_BYTES)} THEN text END AS kept,
        CASE WHEN octet_length(text) > ${sql.lit(MAX_EVENT_BYTES)} THEN octet_length(text)
          WHEN jsonb_typeof(data) = 'string' THEN octet_length(${LINES}) ELSE octet_length(text) END AS size
      FROM (SELECT *, ${TEXT} AS text FROM (${query}) candidates ORDER BY position) texts ORDER BY position
    ) measured WINDOW rows AS (ORDER BY position ROWS UNBOUNDED PRECEDING)`;
}

/**
 * The rows of a CTE `page`, each with its text, up to the first with which they reach `bytes`, or which has more than an event may
 * have: of that the text is null, and its size does not count. A CTE is read no further than it is asked
 * for (PostgreSQL manual, "Common Table Expression Materialization").
 */
export function cut(bytes: number): RawBuilder<unknown> {
  return sql`
    SELECT *, CASE WHEN size <= ${sql.lit(MAX_EVENT_BYTES)} THEN coalesce(kept, ${TEXT}) END AS text
    FROM page LIMIT (SELECT n FROM page WHERE through >= ${bytes} OR size > ${sql.lit(MAX_EVENT_BYTES)} LIMIT 1)`;
}
