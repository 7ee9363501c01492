/**
 * Formats: what an event of the table becomes in a page of history, as SQL. The database frames
 * pages, so that each is one value: parsing rows takes the relay four times the CPU time.
 *
 * In both an event is lines: its id first, then the rest, then a blank one, which is the only blank
 * line in it.
 */
import { sql, type RawBuilder } from 'kysely';
import { FRAMED_BYTES, LINES, MOST_GROWTH, TEXT, type Measure } from './sized-rows.js';
import { MAX_EVENT_BYTES } from './undeliverable.js';

export interface Format extends Measure {
  /** The whole event, of `id`, `event`, `position`, `text` and `size`. */
  readonly event: RawBuilder<unknown>;
}

/**
 * A frame of a stream, byte for byte as `encodeEvent` makes it but for the chunk; a test compares
 * them.
 *
 * Names have no control characters, by the table's checks. Each line break makes `size` larger.
 */
export const FRAME: Format = {
  text: TEXT,
  size: FRAMED_BYTES,
  mostBytes: MAX_EVENT_BYTES,
  event: sql`'id: ' || id || CASE event WHEN 'message' THEN E'\\ndata: ' ELSE E'\\nevent: ' || event || E'\\ndata: ' END
  || CASE WHEN size > octet_length(text) THEN ${LINES} ELSE text END || E'\\n\\n'`,
};

/** Most bytes that one of text becomes in JSON: a control character, as in `\\u0001`. */
const MOST_ESCAPED = 6;

/**
 * All that there is to know of an event, as a JSON object on one line: id, channel, event, data as
 * the JSON that was published, and when. `encodeEnvelope` makes the same of a frame.
 *
 * Which events are too large is judged by their frames, so that both formats have the same events:
 * what is not large as JSON has no large frame.
 */
export const ENVELOPE: Format = {
  text: sql`coalesce(data::text, 'null')`,
  size: sql`CASE WHEN octet_length(text) <= ${sql.lit(Math.floor(MAX_EVENT_BYTES / MOST_GROWTH))} THEN octet_length(text)
    WHEN (SELECT ${FRAMED_BYTES} FROM (SELECT ${TEXT} AS text) framed) > ${sql.lit(MAX_EVENT_BYTES)}
      THEN ${sql.lit(MAX_EVENT_BYTES * MOST_ESCAPED + 1)} ELSE octet_length(text) END`,
  mostBytes: MAX_EVENT_BYTES * MOST_ESCAPED,
  event: sql`'id: ' || id || E'\\ndata: {"id":"' || id || '",' || (
    SELECT '"channel":' || to_json(o.channel::text)::text || ',"created_at":"'
      || coalesce(to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), o.created_at::text) || '"'
    FROM here.outbox o WHERE o.position = judged.position
  ) || ',"event":' || to_json(event::text)::text || ',"data":' || text || E'}\\n\\n'`,
};
