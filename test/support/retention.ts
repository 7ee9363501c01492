/**
 * Retention at its harshest: what is a few seconds old is deleted all the time. What is deleted is kept aside in the same
 * transaction, whoever deletes it, so that the truth is still known when the run ends.
 */
import { isOperatorError } from '../../src/operator-error.js';
import { prune } from '../../src/admin/prune.js';
import type { TestDatabase } from './database.js';
import type { Floor } from './judge.js';
import { isLoss } from './lasting-session.js';
import type { Actor } from './actor.js';

type Queries = Pick<TestDatabase, 'query'>;

/** How old an event gets by default, in seconds. Each holds for some rounds, so that some clients who were away expire and some don't. */
const AGES = [2, 5, 10] as const;
const ROUNDS_OF_AN_AGE = 20;

/** By how much the machine's clock may be set while a run lasts. */
const CLOCK_MS = 1_000;

/** Has what was deleted. */
export const KEPT_ASIDE = 'kept_aside';

/**
 * Keeps aside what anybody deletes. Their commit then waits for its WAL, though pruning does without: a crash could take
 * back what a client was already told of, and nothing would be left that justified its reset.
 */
export async function prepareRetention(database: Queries): Promise<void> {
  await database.query(`
    CREATE TABLE kept_aside (deleted_at timestamptz, id bigint, position bigint, channel text, by text);
    CREATE FUNCTION keep_aside() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
      INSERT INTO kept_aside SELECT statement_timestamp(), id, position, channel, data->>'by' FROM deleted;
      SET LOCAL synchronous_commit = on;
      RETURN NULL;
    END $$;
    CREATE TRIGGER keep_aside AFTER DELETE ON outbox
      REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION keep_aside()`);
}

/**
 * Prunes as the command does. It complains of what failed for any other reason than that its session was lost: it is one of
 * those that are ended, too.
 */
export function createRetention(ages: readonly [number, ...number[]] = AGES): Actor {
  const complaints: string[] = [];
  return {
    async run({ url, random, shift }) {
      let [age] = ages;
      for (let round = 0; shift.isOn; round += 1) {
        await shift.pause(random.integer(50, 400));
        if (round % ROUNDS_OF_AN_AGE === 0) age = random.pick(ages);
        try {
          await prune({ url, keepSeconds: age });
        } catch (error) {
          const isFailure = isOperatorError(error) ? error.code !== 'locked' : !isLoss(error);
          if (isFailure) complaints.push(`retention failed: ${String(error)}`);
        }
      }
    },
    complaints,
    figures: () => [],
  };
}

/** All floors that there were. */
export async function readFloors(database: Queries): Promise<Floor[]> {
  const { rows } = await database.query<{ milliseconds: number; id: string }>(
    `SELECT DISTINCT ON (deleted_at) extract(epoch FROM deleted_at)::double precision * 1000 AS milliseconds, id
     FROM kept_aside ORDER BY deleted_at, position DESC`,
  );
  const offset = performance.now() - Date.now() - CLOCK_MS;
  return rows.map(({ milliseconds, id }) => ({ id, at: milliseconds + offset }));
}
