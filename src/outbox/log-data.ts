/**
 * Data of events for the console: as JSON text, of which the beginning is enough, and its size as
 * it is sent. A small value may stand for megabytes of text, so what is large is read alone, and
 * only while there is time.
 */
import { sql, type Kysely } from 'kysely';
import type { Tables } from '../postgres/pool.js';

export interface ReadData {
  /** As it is sent; of what was not read, as it is stored. */
  readonly bytes: number;
  /** JSON text, or its beginning; null: it was not read. */
  readonly data: string | null;
  readonly truncated: boolean;
}

/** Characters of each in a list. */
const LISTED_CHARACTERS = 4096;
/** Characters of one that is looked at alone. */
const SHOWN_CHARACTERS = 256 * 1024;
/** What is stored in more may be anything, and is read alone. */
const SMALL_BYTES = 2000;

/** @param until when to begin with no more of what is large, in ms of performance.now(). */
export async function readData<T extends { readonly id: string; readonly stored: number }>(
  db: Kysely<Tables>,
  rows: readonly T[],
  until: number,
): Promise<(T & ReadData)[]> {
  const known = new Map<string, ReadData>();
  const small = rows.filter(({ stored }) => stored <= SMALL_BYTES).map(({ id }) => id);
  if (small.length > 0) for (const [id, data] of await read(db, small, LISTED_CHARACTERS)) known.set(id, data);
  for (const { id, stored } of rows) {
    if (stored <= SMALL_BYTES || performance.now() > until) continue;
    for (const [key, data] of await read(db, [id], LISTED_CHARACTERS)) known.set(key, data);
  }
  return rows.map((row) => ({ ...row, ...(known.get(row.id) ?? { bytes: row.stored, data: null, truncated: true }) }));
}

/** Of one event. */
export async function readDataOf(db: Kysely<Tables>, id: string): Promise<ReadData | undefined> {
  return (await read(db, [id], SHOWN_CHARACTERS)).get(id);
}

async function read(db: Kysely<Tables>, ids: readonly string[], characters: number): Promise<Map<string, ReadData>> {
  const { rows } = await sql<ReadData & { id: string }>`
    SELECT id, coalesce(octet_length(sent), 4) AS bytes, coalesce(left(json, ${characters}::integer), 'null') AS data,
      coalesce(length(json) > ${characters}::integer, false) AS truncated
    FROM here.outbox CROSS JOIN LATERAL (
      SELECT data::text AS json, CASE jsonb_typeof(data) WHEN 'string' THEN data #>> '{}' ELSE data::text END AS sent
    ) AS texts WHERE id = ANY (${ids}::bigint[])`.execute(db);
  return new Map(rows.map(({ id, ...data }) => [id, data]));
}
