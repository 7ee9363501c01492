/**
 * Sized rows: SQL that cuts a page by the bytes that its events have as sent, and makes no text of
 * what comes after the cut.
 */
import { sql, type RawBuilder } from 'kysely';
import { ROW_BYTES } from './typical-size.js';
import { MAX_EVENT_BYTES } from './undeliverable.js';

/** When a row was inserted, in milliseconds since 1970. */
export const CREATED = sql`(extract(epoch FROM created_at) * 1000)::double precision`;

/** An event's data as it is delivered. */
export const TEXT = sql`coalesce(data #>> '{}', 'null')`;

/** Whether that is the text of a JSON string. */
export const IS_TEXT = sql`jsonb_typeof(data) = 'string'`;

/**
 * An event's data as it stands in a frame: each line break begins a line of its own. Plain replacing is
 * quick, by patterns it takes minutes.
 */
export const LINES = sql`replace(replace(replace(text, E'\\r\\n', E'\\n'), E'\\r', E'\\n'), E'\\n', E'\\ndata: ')`;

/**
 * Texts up to this size are kept from being measured until they are framed; larger ones are made
 * once more.
 */
const KEPT_BYTES = 16 * 1024;

/**
 * Most bytes that one of text can become in a frame: a line break, by which the next `data: `
 * begins.
 */
export const MOST_GROWTH = 7;

/**
 * Bytes of an event's data in its frame. Only a JSON string has line breaks in its text; asking for
 * the type decompresses the data.
 */
export const FRAMED_BYTES = sql`CASE WHEN octet_length(text) > ${sql.lit(MAX_EVENT_BYTES)} THEN octet_length(text)
  WHEN octet_length(text) <= ${sql.lit(KEPT_BYTES)} AND jsonb_typeof(data) <> 'string' THEN octet_length(text)
  WHEN strpos(text, E'\\n') = 0 AND strpos(text, E'\\r') = 0 THEN octet_length(text)
  ELSE octet_length(${LINES}) END`;

/** How an event's data is written, and how much of it there is. */
export interface Measure {
  /** Of a row, its data as it is delivered. */
  readonly text: RawBuilder<unknown>;
  /** Bytes that it takes where it is delivered, of `text`. */
  readonly size: RawBuilder<unknown>;
  /** Most that `size` may be: an event with more is passed by. */
  readonly mostBytes: number;
}

/**
 * The same, but that of the text alone where no line breaks could make it too large: counting these
 * takes longer than reading it.
 */
const ROUGH_BYTES = sql`CASE WHEN octet_length(text) <= ${sql.lit(Math.floor(MAX_EVENT_BYTES / MOST_GROWTH))}
  THEN octet_length(text) ELSE ${FRAMED_BYTES} END`;

/** Of what is framed later. */
export const ROUGHLY: Measure = { text: TEXT, size: ROUGH_BYTES, mostBytes: MAX_EVENT_BYTES };

/**
 * Of a query for rows in position order: each with its size, and the bytes of all rows up to it.
 * With `cut` it makes no text of what comes after the page: texts can be thousands of times the
 * size that is stored. For that the rows have to come in order by themselves. Each ORDER BY here
 * also keeps the planner from making a text wherever it is mentioned.
 *
 * @param measure how the data of a row is written, what size that has, and which is too much.
 */
export function sized(
  query: RawBuilder<unknown>,
  columns: RawBuilder<unknown>,
  { text, size, mostBytes }: Measure,
): RawBuilder<unknown> {
  return sql`
    SELECT *, row_number() OVER rows AS n,
      sum(${sql.lit(ROW_BYTES)} + CASE WHEN size <= ${sql.lit(mostBytes)} THEN size ELSE 0 END) OVER rows AS through FROM (
      SELECT ${columns}, CASE WHEN octet_length(text) <= ${sql.lit(KEPT_BYTES)} THEN text END AS kept, ${size} AS size
      FROM (SELECT *, ${text} AS text FROM (${query}) candidates ORDER BY position) texts ORDER BY position
    ) measured WINDOW rows AS (ORDER BY position ROWS UNBOUNDED PRECEDING)`;
}

/**
 * The rows of a CTE `page`, each with its text, up to the first with which they reach `bytes`, or
 * which has more than an event may have: of that the text is null, and its size does not count. A
 * CTE is read no further than it is asked for (PostgreSQL manual, "Common Table Expression
 * Materialization").
 *
 * @param measure the same as that of `sized`.
 * @param hasText a condition on rows, without which they have no text either. Default: none
 */
export function cut(
  bytes: number,
  { text, mostBytes }: Measure,
  hasText: RawBuilder<unknown> = sql`true`,
): RawBuilder<unknown> {
  return sql`
    SELECT *, CASE WHEN size <= ${sql.lit(mostBytes)} AND ${hasText} THEN coalesce(kept, ${text}) END AS text
    FROM page LIMIT (SELECT n FROM page WHERE through >= ${bytes} OR size > ${sql.lit(mostBytes)} LIMIT 1)`;
}
