/**
 * The truth: all events that were ever committed, in the order of their commits, read from the tables when a run has ended.
 */
import { CHANNELS, isWanted } from './random-interest.js';
import type { TestDatabase } from './database.js';

export interface Truth {
  readonly events: readonly TrueEvent[];
  /** Rows that are committed and have no position: promise R1 says none. */
  readonly unplaced: number;
  /** Place of an event in `events`, by its id; -1 for `0`, the cursor before them all. */
  placeOf(id: string): number | undefined;
  /** What matches these names, with its place. */
  wanted(names: readonly string[]): readonly { readonly id: string; readonly place: number }[];
}

export interface TrueEvent {
  readonly id: string;
  readonly channel: string;
  /** The transaction that it is of; null for the last of a run. */
  readonly by: string | null;
}

type Queries = Pick<TestDatabase, 'query'>;

/** Publishes one last event to each channel, so that each client can tell that it has got all. */
export async function publishLast(database: Queries): Promise<void> {
  await database.query(`INSERT INTO outbox (channel, data) SELECT unnest($1::text[]), '{"end": true}'`, [CHANNELS]);
}

/** @param keptAside a table of what was deleted */
export async function readTruth(database: Queries, keptAside?: string): Promise<Truth> {
  const { rows } = await database.query<TrueEvent & { position: string | null }>(
    `SELECT id, channel, data->>'by' AS by, position FROM outbox
     ${keptAside === undefined ? '' : `UNION ALL SELECT id, channel, by, position FROM ${keptAside}`} ORDER BY position`,
  );
  const events = rows.filter(({ position }) => position !== null);
  return { ...truthOf(events), unplaced: rows.length - events.length };
}

/** @param events in the order of their commits. */
export function truthOf(events: readonly TrueEvent[]): Truth {
  const places = new Map(events.map(({ id }, place) => [id, place]));
  // Read several times for each client, from up to half a million events.
  const matches = new Map<string, ReturnType<Truth['wanted']>>();
  if (places.size !== events.length) throw new Error('an event is there twice');
  return {
    events,
    unplaced: 0,
    placeOf: (id) => (id === '0' ? -1 : places.get(id)),
    wanted(names) {
      const key = names.join('\n');
      let found = matches.get(key);
      if (found === undefined) {
        found = events.flatMap(({ id, channel }, place) => (isWanted(names, channel) ? [{ id, place }] : []));
        matches.set(key, found);
      }
      return found;
    },
  };
}
