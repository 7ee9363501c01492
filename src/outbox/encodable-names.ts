/**
 * Encodable names: what of a filter the database can hold. In one that is not in UTF-8 a name, of a
 * channel or of an event, may have characters that its encoding lacks: no event can be there, and a
 * query that names it fails, for the client's other channels as well.
 */
import { sql, type Kysely } from 'kysely';
import { LRUCache } from 'lru-cache';
import pg from 'pg';
import { channelFilter } from '../event/channel-filter.js';
import { eventFilter, type EventFilter } from '../event/event-filter.js';
import { abortable, type Tables } from '../postgres/pool.js';

export interface Encodable {
  /**
   * What of a filter there can be events of; undefined where there can be none.
   *
   * @throws what the database throws.
   */
  within(filter: EventFilter, signal?: AbortSignal): Promise<EventFilter | undefined>;
}

/** untranslatable_character, character_not_in_repertoire (PostgreSQL manual, appendix A). */
const NOT_ENCODABLE = new Set(['22P05', '22021']);

/** Most names of which it is kept whether they can be: asking again costs a round trip. */
const NAMES_KEPT = 10_000;

export function createEncodable(db: Kysely<Tables>): Encodable {
  let hasAll: boolean | undefined;
  const known = new LRUCache<string, boolean>({ max: NAMES_KEPT });

  async function isEncodable(name: string, signal: AbortSignal | undefined): Promise<boolean> {
    // Every encoding that a server can have holds ASCII.
    if (/^[\x20-\x7e]*$/.test(name)) return true;
    let verdict = known.get(name);
    if (verdict === undefined) {
      try {
        await sql`SELECT ${name}::text`.execute(abortable(db, signal));
        verdict = true;
      } catch (error) {
        if (!(error instanceof pg.DatabaseError) || !NOT_ENCODABLE.has(error.code ?? '')) throw error;
        verdict = false;
      }
      known.set(name, verdict);
    }
    return verdict;
  }

  return {
    async within(filter, signal) {
      if (hasAll === undefined) {
        const { rows } = await sql<{ encoding: string }>`SELECT current_setting('server_encoding') AS encoding`.execute(
          abortable(db, signal),
        );
        hasAll = rows[0]?.encoding === 'UTF8';
      }
      if (hasAll) return filter;
      const { channels, prefixes, events = [] } = filter;
      const keep = async (names: readonly string[]) => {
        const kept: string[] = [];
        for (const name of names) if (await isEncodable(name, signal)) kept.push(name);
        return kept;
      };
      const wanted = [...channels, ...prefixes.map((prefix) => `${prefix}*`)];
      const kept = await keep(wanted);
      const keptEvents = await keep(events);
      if (kept.length === wanted.length && keptEvents.length === events.length) return filter;
      if (kept.length === 0 || (events.length > 0 && keptEvents.length === 0)) return undefined;
      return eventFilter(channelFilter(kept), keptEvents);
    },
  };
}
