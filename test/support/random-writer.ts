/**
 * A publisher that inserts on a connection of its own, in every shape of transaction that an application might have, with
 * pauses that keep some open for long, and commits or rolls back by chance.
 */
import type pg from 'pg';
import type { Random } from './random.js';
import type { Shift } from './shift.js';

/** Overlapping families, some busy, some quiet, so that interests share channels. */
export const CHANNELS = [
  'user:1',
  'user:2',
  'user:12',
  'org:7:a',
  'org:7:b',
  'org:7:b:deep',
  'org:70:a',
  'news',
  'orders',
  'quiet:1',
] as const;

const BUSY = CHANNELS.slice(0, -1) as [string, ...string[]];

/** 5 MB: more than the kernel buffers for a client that does not read, so the relay meets backpressure. */
const FLOOD = { rows: 50, length: 100_000 } as const;

export interface WriterResult {
  readonly committed: number;
  readonly rolledBack: number;
  /** Transactions that PostgreSQL or the connection failed: promise R9 says none. */
  readonly failures: readonly string[];
}

export async function runWriter(client: pg.Client, random: Random, shift: Shift): Promise<WriterResult> {
  let [committed, rolledBack, count] = [0, 0, 0];
  const failures: string[] = [];

  async function insert(rows: number, length?: number): Promise<void> {
    const channels = Array.from({ length: rows }, () => (random.chance(0.01) ? 'quiet:1' : random.pick(BUSY)));
    const payloads = channels.map((channel) =>
      JSON.stringify({ channel, n: (count += 1), text: payload(random, length) }),
    );
    await client.query(
      `INSERT INTO outbox (channel, event, data)
       SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[])`,
      [channels, channels.map(() => random.pick(['message', 'changed'])), payloads],
    );
  }

  async function thinking(): Promise<void> {
    await shift.pause(random.chance(0.02) ? random.integer(200, 1_000) : random.integer(0, 10));
  }

  async function transaction(): Promise<boolean> {
    if (random.chance(0.3)) {
      await insert(1);
      return true;
    }
    await client.query('BEGIN');
    if (random.chance(0.003)) await insert(FLOOD.rows, FLOOD.length);
    else await insert(random.chance(0.02) ? random.integer(100, 400) : random.integer(1, 6));
    await thinking();
    if (random.chance(0.25)) {
      await client.query('SAVEPOINT half');
      await insert(random.integer(1, 3));
      await client.query(random.chance(0.5) ? 'ROLLBACK TO SAVEPOINT half' : 'RELEASE SAVEPOINT half');
      if (random.chance(0.5)) await insert(1);
    }
    const commits = random.chance(0.85);
    await client.query(commits ? 'COMMIT' : 'ROLLBACK');
    return commits;
  }

  while (shift.isOn) {
    try {
      if (await transaction()) committed += 1;
      else rolledBack += 1;
    } catch (error) {
      failures.push(String(error));
      await client.query('ROLLBACK').catch(() => undefined);
    }
    await shift.pause(random.integer(0, 30));
  }
  return { committed, rolledBack, failures };
}

/** Mostly short, now and then longer. Line breaks and letters beyond ASCII included. */
function payload(random: Random, length = random.chance(0.05) ? 3_000 : random.integer(0, 200)): string {
  return `ж\n\n${random.next().toString(36)}${'lorem ipsum '.repeat(length / 12)}`;
}
