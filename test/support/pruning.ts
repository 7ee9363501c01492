/**
 * An outbox whose events have an age, and what prunes it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { prune, type Outcome } from '../../src/admin/prune.js';
import { startRetention } from '../../src/admin/retention.js';
import type { TestDatabase } from './database.js';
import type { TestStream } from './stream.js';

export const HOUR = 3600;

/** Of a batch, in src/admin/retention.ts. */
export const BATCH = 2000;

export const POLL_MS = 20;

/** What does not happen has had this long to happen. */
export const LEEWAY_MS = 500;

export interface Pruned {
  readonly outcome: Outcome;
  /** Rows of each batch. */
  readonly batches: number[];
  readonly rows: number;
}

export async function pruneOnce(url: string, keepSeconds: number, onFirst?: () => void): Promise<Pruned> {
  const batches: number[] = [];
  const outcome = await prune({
    url,
    keepSeconds,
    onBatch(rows) {
      batches.push(rows);
      if (batches.length === 1) onFirst?.();
    },
  });
  return { outcome, batches, rows: batches.reduce((sum, rows) => sum + rows, 0) };
}

/** Publishes an event on channel `a` whose transaction began so many hours ago. */
export async function publish(db: TestDatabase, data: string, hoursAgo = 0, rows = 1): Promise<string> {
  const { rows: inserted } = await db.query<{ id: string }>(
    `INSERT INTO outbox (channel, data, created_at)
     SELECT 'a', to_jsonb($1::text), now() - make_interval(hours => $2) FROM generate_series(1, $3::integer) RETURNING id`,
    [data, hoursAgo, rows],
  );
  return inserted.at(-1)?.id ?? '';
}

/** Data of what is in the table, in order. */
export async function left(db: TestDatabase): Promise<string[]> {
  const { rows } = await db.query<{ data: string }>(`SELECT data #>> '{}' AS data FROM outbox ORDER BY position`);
  return rows.map((row) => row.data);
}

export async function floor(db: TestDatabase): Promise<string> {
  return (await db.query<{ id: string }>('SELECT id FROM outbox_floor')).rows[0]?.id ?? '';
}

export async function untilLeft(db: TestDatabase, count: number): Promise<void> {
  while ((await db.query('SELECT FROM outbox LIMIT $1', [count + 1])).rowCount !== count) await delay(POLL_MS);
}

export async function resetOf(stream: TestStream): Promise<unknown> {
  return JSON.parse((await stream.until((frame) => frame.event === 'stream-reset')).data ?? '');
}

/** What a retention logs, and a way to wait for it. */
export function createLog() {
  const entries: { level: number; msg: string; rows?: number }[] = [];
  const waiting = new Set<() => void>();
  const logger = pino(
    { level: 'debug', base: null },
    {
      write(line: string) {
        entries.push(JSON.parse(line) as (typeof entries)[number]);
        for (const look of waiting) look();
      },
    },
  );
  const until = (message: RegExp) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!entries.some(({ msg }) => message.test(msg))) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  return { entries, logger, until };
}

export async function startTestRetention(t: ExecutionContext, url: string, keepSeconds: number) {
  const log = createLog();
  const retention = await startRetention({ url, keepSeconds, logger: log.logger });
  t.teardown(retention.stop);
  return { retention, ...log };
}
