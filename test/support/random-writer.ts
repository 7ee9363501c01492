/**
 * A publisher that inserts in every shape of transaction that an application might have, with pauses that keep some open for
 * long, and commits or rolls back by chance. It outlives its server: a transaction that was cut off amid its commit is one
 * whose outcome it does not know.
 *
 * Each row carries the name of its transaction, so that the table tells in the end what became of it: see settle.ts.
 */
import type pg from 'pg';
import { lastingSession, type LastingSessionOptions } from './lasting-session.js';
import { CHANNELS } from './random-interest.js';
import type { Random } from './random.js';

const BUSY = CHANNELS.slice(0, -1) as [string, ...string[]];

/** 5 MB: more than the kernel buffers for a client that does not read, so the relay meets backpressure. */
const FLOOD = { rows: 50, length: 100_000 } as const;

export interface WriterOptions extends Omit<LastingSessionOptions, 'onFailure'> {
  /** Distinguishes its transactions from those of others. */
  readonly name: string;
  readonly random: Random;
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

export async function runWriter(options: WriterOptions): Promise<WriterResult> {
  const { random, shift } = options;
  const transactions: Transaction[] = [];
  const failures: string[] = [];
  let count = 0;

  async function write(client: pg.Client, isOpen: () => boolean): Promise<void> {
    while (shift.isOn && isOpen()) {
      const name = `${options.name}.${transactions.length + 1}`;
      const transaction = begin(client, name);
      try {
        const outcome = (await transaction.run()) ? 'committed' : 'rolled back';
        transactions.push({ name, rows: transaction.rows, outcome });
      } catch (error) {
        transactions.push({ name, rows: transaction.rows, outcome: transaction.commits ? 'unknown' : 'rolled back' });
        throw error;
      }
      await shift.pause(random.integer(0, 30));
    }
  }

  function begin(client: pg.Client, name: string) {
    let rows = 0;
    /** What is sent next may commit. */
    let commits = false;

    async function insert(many: number, length?: number): Promise<void> {
      const channels = Array.from({ length: many }, () => (random.chance(0.01) ? 'quiet:1' : random.pick(BUSY)));
      const payloads = channels.map((channel) =>
        JSON.stringify({ by: name, channel, n: (count += 1), text: payload(random, length) }),
      );
      rows += many;
      await client.query(
        `INSERT INTO outbox (channel, event, data)
         SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[])`,
        [channels, channels.map(() => random.pick(['message', 'changed'])), payloads],
      );
    }

    async function thinking(): Promise<void> {
      await shift.pause(random.chance(0.02) ? random.integer(200, 1_000) : random.integer(0, 10));
    }

    async function run(): Promise<boolean> {
      if (random.chance(0.3)) {
        commits = true;
        await insert(1);
        return true;
      }
      await client.query('BEGIN');
      if (random.chance(0.003)) await insert(FLOOD.rows, FLOOD.length);
      else await insert(random.chance(0.02) ? random.integer(100, 400) : random.integer(1, 6));
      await thinking();
      if (random.chance(0.25)) {
        const before = rows;
        await client.query('SAVEPOINT half');
        await insert(random.integer(1, 3));
        const undone = random.chance(0.5);
        await client.query(undone ? 'ROLLBACK TO SAVEPOINT half' : 'RELEASE SAVEPOINT half');
        if (undone) rows = before;
        if (random.chance(0.5)) await insert(1);
      }
      commits = random.chance(0.85);
      await client.query(commits ? 'COMMIT' : 'ROLLBACK');
      return commits;
    }

    return {
      run,
      get rows() {
        return rows;
      },
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
