/**
 * What a time costs to find: in proportion to what is newer, or older, whichever is less, whatever the planner knows of the table.
 */
import test, { type ExecutionContext } from 'ava';
import type { CompiledQuery } from 'kysely';
import type { Cursor } from '../../src/event/event.js';
import { searchSince, stepSince, type Search } from '../../src/outbox/since.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { observe, rowsLookedAt } from '../support/plan.js';

const SECOND = 1000;
const NEWEST = Date.UTC(2026, 0, 31);

/** Rows with their positions, a tenth of a second apart; no trigger sees them, or it would take minutes. */
async function fill(database: TestDatabase, rows: number): Promise<void> {
  await database.withClient(async (client) => {
    await client.query('SET session_replication_role = replica');
    await client.query(
      `INSERT INTO outbox (channel, data, position, created_at)
       SELECT 'a', '1', n, to_timestamp($2) - interval '100 milliseconds' * ($1 - n) FROM generate_series(1, $1) AS n`,
      [rows, NEWEST / SECOND],
    );
  });
}

/** Above all that there is. */
const HEAD = 2n ** 62n;

function open(t: ExecutionContext, database: TestDatabase) {
  const { db, queries, explain } = observe(t, database);
  return {
    explain,
    async since(time: Date): Promise<{ cursor: Cursor; steps: CompiledQuery[] }> {
      queries.length = 0;
      for (let at: Search | Cursor = searchSince(time, HEAD); ; at = await stepSince(db, at)) {
        if (!('steps' in at)) return { cursor: at, steps: [...queries] };
      }
    },
  };
}

test.serial('a time is found by a look at what is newer, of 1,000,000 rows', async (t) => {
  t.timeout(180_000);
  const rows = 1_000_000;
  const database = await createDatabase(t);
  await fill(database, rows);
  const { explain, since } = open(t, database);
  for (const analyzed of [false, true]) {
    if (analyzed) await database.query('VACUUM ANALYZE outbox');
    for (const [what, time, position] of [
      ['the future', NEWEST + 1000 * SECOND, rows],
      ['the time of the newest', NEWEST, rows - 1],
      ['ten seconds ago', NEWEST - 10 * SECOND, rows - 101],
      ['a minute ago', NEWEST - 60 * SECOND, rows - 601],
      ['before all', 0, 0],
      ['soon after the first', NEWEST - rows * 100 + 11 * SECOND, 109],
    ] as const) {
      const { cursor, steps } = await since(new Date(time));
      t.is(cursor.position, BigInt(position), what);
      t.is(steps.length, 1, what);
      for (const mode of ['force_custom_plan', 'force_generic_plan'] as const) {
        const looked = rowsLookedAt(await explain(steps[0] as CompiledQuery, mode));
        t.true(looked <= 2100, `${what}: ${looked} rows with ${mode}, ${analyzed ? 'analyzed' : 'never analyzed'}`);
      }
    }
  }
  const { cursor, steps } = await since(new Date(NEWEST - (rows / 2) * 100));
  t.is(cursor.position, BigInt(rows / 2 - 1));
  for (const step of [steps[1], steps.at(-1)]) {
    const looked = rowsLookedAt(await explain(step as CompiledQuery, 'force_generic_plan'));
    t.true(looked <= 41_000, `a step of many looked at ${looked} rows`);
  }
});

test('since finds the first event in the order of positions, wherever its time stands among the others', async (t) => {
  const database = await createDatabase(t);
  const rows = 6000;
  await fill(database, rows);
  // As long transactions do, and now and then one that is far off; many at one time, as of one transaction.
  await database.withClient(async (client) => {
    await client.query('SET session_replication_role = replica');
    await client.query(
      `UPDATE outbox SET created_at = date_trunc('second', created_at)
         + interval '1 second' * CASE WHEN position % 997 = 0 THEN (random() - 0.5) * 1000 ELSE random() * -20 END
       WHERE position % 3 = 0`,
    );
    await client.query('UPDATE outbox SET created_at = to_timestamp($1) WHERE position BETWEEN 3000 AND 4500', [
      NEWEST / SECOND - 250,
    ]);
    await client.query('DELETE FROM outbox WHERE position < 10');
    await client.query('UPDATE outbox_floor SET id = 9, position = 9');
  });
  const { since } = open(t, database);
  const { rows: all } = await database.query<{ position: number; created: number }>(
    'SELECT position::integer AS position, extract(epoch FROM created_at)::float8 * 1000 AS created FROM outbox ORDER BY position',
  );
  let longest = 0;
  for (let n = 0; n <= 60; n += 1) {
    const time = NEWEST - rows * 110 + n * 12 * SECOND;
    const index = all.findIndex(({ created }) => created >= time);
    const before = index === -1 ? rows : (all[index - 1]?.position ?? 9);
    const { cursor, steps } = await since(new Date(time));
    t.is(cursor.position, BigInt(before), new Date(time).toISOString());
    longest = Math.max(longest, steps.length);
  }
  t.true(longest > 1);
});
