/**
 * A publisher that inserts in every shape of transaction that an application might have, with pauses that keep some open for
 * long, and commits or rolls back by chance. It outlives its server: a transaction that was cut off amid its commit is one
 * whose outcome it does not know.
 *
 * Each row carries the name of its transaction, so that the table tells in the end what became of it: see judge.ts.
 */
import pg from 'pg';
import type { TestDatabase } from './database.js';
import { lastingSession, type LastingSessionOptions } from './lasting-session.js';
import { CHANNELS } from './random-interest.js';
import type { Random } from './random.js';

const BUSY = CHANNELS.slice(0, -1) as [string, ...string[]];

/** 5 MB: more than the kernel buffers for a client that does not read, so the relay meets backpressure. */
const FLOOD = { rows: 50, length: 100_000 } as const;

/** Values of synchronous_commit. What is `off` is lost in a crash, after clients may have got it. */
export type Durability = 'on' | 'local' | 'off' | 'remote_apply';

export interface WriterOptions extends Omit<LastingSessionOptions, 'onFailure'> {
  /** Distinguishes its transactions from those of others. */
  readonly name: string;
  readonly random: Random;
  /** The first is that of transactions which choose none. */
  readonly durabilities: readonly [Durability, ...Durability[]];
  /** Called with the channels of a transaction's rows when it has committed. */
  readonly onCommit: (channels: readonly string[]) => void;
}

export interface Transaction {
  readonly name: string;
  /** Rows that it leaves when it commits. */
  readonly rows: number;
  /** `unknown`: the server went away before it answered to the commit. */
  readonly outcome: 'committed' | 'rolled back' | 'unknown';
}

export interface WriterResult {
  readonly transactions: readonly Transaction[];
  /** Transactions that failed for any other reason than that the server was taken away: promise R9 says none. */
  readonly failures: readonly string[];
}

/** With which the application's own triggers fail: triggered_action_exception. */
const FAILS = '09000';

/** A table of the application whose deferred triggers sleep, and fail, in each round of the commit. */
export async function prepareWriters(database: Pick<TestDatabase, 'query'>): Promise<void> {
  const round = (table: string, number: number, next: string) => `
    CREATE UNLOGGED TABLE ${table} (first_ms integer, second_ms integer, fails_in integer);
    CREATE FUNCTION ${table}() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
      PERFORM pg_sleep((CASE ${number} WHEN 1 THEN NEW.first_ms ELSE NEW.second_ms END) / 1000.0);
      IF NEW.fails_in = ${number} THEN RAISE EXCEPTION 'round ${number} fails' USING ERRCODE = '${FAILS}'; END IF;
      ${next}
      RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER ${table} AFTER INSERT ON ${table} DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION ${table}()`;
  await database.query(round('slow', 1, 'INSERT INTO slow_again VALUES (NEW.*);'));
  await database.query(round('slow_again', 2, ''));
}

export async function runWriter(options: WriterOptions): Promise<WriterResult> {
  const { random, shift, durabilities } = options;
  const transactions: Transaction[] = [];
  const failures: string[] = [];
  let count = 0;

  async function write(client: pg.Client, isOpen: () => boolean): Promise<void> {
    await client.query(`SET synchronous_commit = ${durabilities[0]}`);
    while (shift.isOn && isOpen()) {
      const name = `${options.name}.${transactions.length + 1}`;
      const transaction = begin(client, name);
      try {
        const outcome = (await transaction.run()) ? 'committed' : 'rolled back';
        transactions.push({ name, rows: transaction.channels.length, outcome });
        if (outcome === 'committed') options.onCommit(transaction.channels);
      } catch (error) {
        const fails = error instanceof pg.DatabaseError && error.code === FAILS;
        const outcome = transaction.commits && !fails ? 'unknown' : 'rolled back';
        transactions.push({ name, rows: transaction.channels.length, outcome });
        if (!fails) throw error;
        await client.query('ROLLBACK');
      }
      await shift.pause(random.integer(0, 30));
    }
  }

  function begin(client: pg.Client, name: string) {
    const channels: string[] = [];
    /** What is sent next may commit. */
    let commits = false;

    async function insert(many: number, length?: number): Promise<void> {
      const rows = Array.from({ length: many }, () => (random.chance(0.01) ? 'quiet:1' : random.pick(BUSY)));
      const payloads = rows.map((channel) =>
        JSON.stringify({ by: name, channel, n: (count += 1), text: payload(random, length) }),
      );
      channels.push(...rows);
      await client.query(
        `INSERT INTO outbox (channel, event, data)
         SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[])`,
        [rows, rows.map(() => random.pick(['message', 'changed'])), payloads],
      );
    }

    async function thinking(): Promise<void> {
      await shift.pause(random.chance(0.02) ? random.integer(200, 1_000) : random.integer(0, 10));
    }

    /** What an application has beside the outbox: settings of its own, and triggers that sleep and fail. */
    async function now(and: 'settings' | 'constraints' | 'triggers'): Promise<void> {
      if (and === 'settings') {
        await client.query(`SET LOCAL synchronous_commit = ${random.pick(durabilities)}`);
        await client.query(`SET LOCAL commit_delay = ${random.integer(0, 10_000)}`);
        await client.query('SET LOCAL commit_siblings = 0');
      } else if (and === 'constraints') await client.query('SET CONSTRAINTS ALL IMMEDIATE');
      else {
        const second = random.chance(0.1) ? random.integer(100, 500) : random.integer(0, 20);
        const fails = random.chance(0.2) ? random.pick([1, 2]) : 0;
        await client.query('INSERT INTO slow VALUES ($1, $2, $3)', [random.integer(0, 5), second, fails]);
      }
    }

    async function run(): Promise<boolean> {
      if (random.chance(0.3)) {
        commits = true;
        await insert(1);
        return true;
      }
      await client.query('BEGIN');
      if (random.chance(0.2)) await now('settings');
      if (random.chance(0.05)) await now('triggers');
      if (random.chance(0.003)) await insert(FLOOD.rows, FLOOD.length);
      else await insert(random.chance(0.02) ? random.integer(100, 400) : random.integer(1, 6));
      await thinking();
      if (random.chance(0.1)) await now('constraints');
      if (random.chance(0.25)) {
        const before = channels.length;
        await client.query('SAVEPOINT half');
        await insert(random.integer(1, 3));
        const undone = random.chance(0.5);
        await client.query(undone ? 'ROLLBACK TO SAVEPOINT half' : 'RELEASE SAVEPOINT half');
        if (undone) channels.length = before;
        if (random.chance(0.5)) await insert(1);
      }
      if (random.chance(0.1)) await now('triggers');
      commits = random.chance(0.85);
      await client.query(commits ? 'COMMIT' : 'ROLLBACK');
      return commits;
    }

    return {
      run,
      channels,
      get commits() {
        return commits;
      },
    };
  }

  await lastingSession({ ...options, onFailure: (text) => failures.push(text) }, write);
  return { transactions, failures };
}

/** Mostly short, now and then longer. Line breaks and letters beyond ASCII included. */
function payload(random: Random, length = random.chance(0.05) ? 3_000 : random.integer(0, 200)): string {
  return `ж\n\n${random.next().toString(36)}${'lorem ipsum '.repeat(length / 12)}`;
}
