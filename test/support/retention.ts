/**
 * Retention at its harshest: deletes what is a few seconds old, in the order of positions, all the time. What it deletes it
 * keeps aside in the same statement, so that the truth is still known when the run ends.
 */
import type { TestDatabase } from './database.js';
import { lastingSession, type LastingSessionOptions } from './lasting-session.js';
import type { Random } from './random.js';
import type { Floor } from './resume-judge.js';

export interface RetentionOptions extends Omit<LastingSessionOptions, 'onFailure'> {
  readonly random: Random;
}

export interface RetentionResult {
  /** When each batch began, in milliseconds of `performance.now`; its number is its index. */
  readonly batches: readonly number[];
  /** Batches that failed for any other reason than that the server was taken away. */
  readonly failures: readonly string[];
}

type Queries = Pick<TestDatabase, 'query'>;

/** How old an event gets, in seconds. Each holds for some batches, so that some clients who were away expire and some don't. */
const AGES = [2, 4, 8] as const;
const BATCHES_OF_AN_AGE = 30;
const BATCH_ROWS = 2_000;

/** For `readTruth`: all events, those included that were deleted. */
export const ALL_EVENTS = `(
  SELECT id, position, channel, data->>'by' AS by FROM outbox
  UNION ALL SELECT id, position, channel, by FROM kept_aside
) o`;

/** Makes the table that it keeps aside what it deletes. */
export async function prepareRetention(database: Queries): Promise<void> {
  await database.query('CREATE TABLE kept_aside (batch integer, id bigint, position bigint, channel text, by text)');
}

export async function runRetention(options: RetentionOptions): Promise<RetentionResult> {
  const { random, shift } = options;
  const batches: number[] = [];
  const failures: string[] = [];
  let age: number = AGES[0];
  await lastingSession({ ...options, onFailure: (text) => failures.push(text) }, async (client, isOpen) => {
    while (shift.isOn && isOpen()) {
      await shift.pause(random.integer(50, 400));
      if (batches.length % BATCHES_OF_AN_AGE === 0) age = random.pick(AGES);
      batches.push(performance.now());
      await client.query(
        `WITH gone AS (
           DELETE FROM outbox WHERE position IN (
             SELECT position FROM outbox
             WHERE position < (SELECT min(position) FROM outbox WHERE created_at >= now() - make_interval(secs => $1))
             ORDER BY position LIMIT $2)
           RETURNING id, position, channel, data->>'by')
         INSERT INTO kept_aside SELECT $3, * FROM gone`,
        [age, BATCH_ROWS, batches.length - 1],
      );
    }
  });
  return { batches, failures };
}

/** The floors that there were: batches that were never committed made none. */
export async function readFloors(database: Queries, { batches }: RetentionResult): Promise<Floor[]> {
  const { rows } = await database.query<{ batch: number; id: string }>(
    'SELECT DISTINCT ON (batch) batch, id FROM kept_aside ORDER BY batch, position DESC',
  );
  return rows.map(({ batch, id }) => ({ id, at: batches[batch] ?? Infinity }));
}
