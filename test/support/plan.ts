/**
 * What statements of ours look at: the plans that PostgreSQL made of them, with the rows that each step of them had.
 */
import type { ExecutionContext } from 'ava';
import { Kysely, PostgresDialect, type CompiledQuery, type PostgresPoolClient } from 'kysely';
import pg from 'pg';
import type { Tables } from '../../src/postgres/pool.js';
import type { TestDatabase } from './database.js';

export interface Plan {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly Plans?: readonly Plan[];
}

export interface ObservedDatabase {
  readonly db: Kysely<Tables>;
  /** What has been asked, to be emptied by whoever wants to know what is asked next. */
  readonly queries: CompiledQuery[];
  /** All steps of the plan of a query, which is run once more. Default mode: that of PostgreSQL. */
  explain(query: CompiledQuery, mode?: 'force_custom_plan' | 'force_generic_plan'): Promise<Plan[]>;
}

const nodesOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];

/** The tables are where a session of ours would have looked for them. */
const inPublic = (text: string) => text.replaceAll('here.', 'public.');

/** Rows of the outbox that the steps of a plan have looked at, whether or not they kept them. */
export function rowsLookedAt(plan: readonly Plan[]): number {
  return plan
    .filter((node) => node['Relation Name'] === 'outbox')
    .reduce(
      (sum, node) => sum + (node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0)) * node['Actual Loops'],
      0,
    );
}

/** A connection of its own to the test's database, closed with the test. */
export function observe(t: Pick<ExecutionContext, 'teardown'>, { url }: TestDatabase): ObservedDatabase {
  const queries: CompiledQuery[] = [];
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  // The database may be dropped while a connection is still closing; unheard, that would end the process.
  pool.on('connect', (client) => client.on('error', () => undefined));
  pool.on('error', () => undefined);
  const db = new Kysely<Tables>({
    dialect: new PostgresDialect({
      pool: {
        async connect() {
          const client = await pool.connect();
          const query = (text: string, values: readonly unknown[]) => client.query(inPublic(text), [...values]);
          return { query: query as unknown as PostgresPoolClient['query'], release: () => client.release() };
        },
        end: () => pool.end(),
      },
    }),
    log: ({ query }) => void queries.push(query),
  });
  t.teardown(() => db.destroy());

  return {
    db,
    queries,
    async explain({ sql, parameters }, mode) {
      const client = await pool.connect();
      try {
        await client.query(`SET plan_cache_mode = ${mode ?? 'auto'}`);
        await client.query(`PREPARE step AS ${inPublic(sql)}`);
        const values = parameters.map((value) => literal(client, value as Value));
        const call = values.length === 0 ? 'step' : `step(${values.join(', ')})`;
        const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: Plan }] }>(
          `EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE ${call}`,
        );
        await client.query('DEALLOCATE step');
        const plan = rows[0]?.['QUERY PLAN'][0].Plan;
        if (plan === undefined) throw new Error('no plan');
        return nodesOf(plan);
      } finally {
        client.release();
      }
    },
  };
}

type Value = string | number | bigint | Date | null | readonly Value[];

function literal(client: pg.PoolClient, value: Value): string {
  if (value === null) return 'NULL';
  if (value instanceof Date) return client.escapeLiteral(value.toISOString());
  if (typeof value !== 'object') return typeof value === 'string' ? client.escapeLiteral(value) : String(value);
  return client.escapeLiteral(`{${value.map((item) => JSON.stringify(item)).join(',')}}`);
}
