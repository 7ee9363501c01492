/** Where an event stands, as the table has it. */
import { sql, type Kysely } from 'kysely';
import { LARGEST_ID } from '../event/event.js';
import type { Tables } from '../postgres/pool.js';

export interface EventPlace {
  readonly position: bigint;
  readonly channel: string;
  readonly event: string;
}

/** @returns a function that is undefined of an event that is not there, or has no position. */
export function eventPlaces(db: Kysely<Tables>): (id: string) => Promise<EventPlace | undefined> {
  return async (id) => {
    if (BigInt(id) > LARGEST_ID) return undefined;
    const { rows } = await sql<{ position: string; channel: string; event: string }>`
      SELECT position, channel, event FROM here.outbox WHERE id = ${id} AND position IS NOT NULL`.execute(db);
    const [row] = rows;
    return row && { ...row, position: BigInt(row.position) };
  };
}
