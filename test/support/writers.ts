/**
 * Publishers as an application has them: each publishes one thing after the other on a connection of its own, and where
 * that fails connects anew and tries again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import pg from 'pg';

/** All are published to, in turn. */
export const CHANNELS = ['a', 'b:1', 'b:2', 'c'] as const;

export interface Failure {
  /** When what failed was begun, as `performance.now()` gives it. */
  readonly began: number;
  readonly message: string;
}

export interface Writers {
  /** Ids of the events whose commit was confirmed. */
  readonly confirmed: readonly string[];
  readonly failures: readonly Failure[];
  /** Resolves when so many more are confirmed. */
  more(count: number): Promise<void>;
  /** Resolves when nothing is under way any more. */
  stop(): Promise<void>;
  /** Goes on after `stop`. */
  resume(): void;
}

const COUNT = 2;
/** Longest pause between two events of a writer, in milliseconds. */
const PAUSE = 30;
/** Pause before what failed is tried again. */
const RETRY_PAUSE = 50;

export function startWriters(t: Pick<ExecutionContext, 'teardown'>, url: string): Writers {
  const confirmed: string[] = [];
  const failures: Failure[] = [];
  const waiters = new Set<() => void>();
  let isOn = true;
  let running = start();
  t.teardown(stop);

  function start(): Promise<unknown> {
    return Promise.all(Array.from({ length: COUNT }, (_, n) => write(n)));
  }

  async function write(writer: number): Promise<void> {
    let client: pg.Client | undefined;
    for (let n = 0; isOn; n += 1) {
      const began = performance.now();
      try {
        client ??= await connect(url);
        confirmed.push(...(await publish(client, CHANNELS[n % CHANNELS.length] ?? 'a', { writer, n })));
        for (const wake of [...waiters]) wake();
        await delay(Math.random() * PAUSE);
      } catch (error) {
        failures.push({ began, message: String(error) });
        void client?.end().catch(() => undefined);
        client = undefined;
        await delay(RETRY_PAUSE);
      }
    }
    await client?.end();
  }

  async function stop(): Promise<void> {
    isOn = false;
    await running;
  }

  return {
    confirmed,
    failures,
    more: (count) =>
      new Promise((enough) => {
        const goal = confirmed.length + count;
        const check = () => {
          if (confirmed.length < goal) return;
          waiters.delete(check);
          enough();
        };
        waiters.add(check);
      }),
    resume() {
      isOn = true;
      running = start();
    },
    stop,
  };
}

/** One event, or now and then a transaction of three. */
async function publish(client: pg.Client, channel: string, data: { writer: number; n: number }): Promise<string[]> {
  const { rows } = await client.query<{ id: string }>(
    'INSERT INTO outbox (channel, data) SELECT $1, $2 FROM generate_series(1, $3) RETURNING id',
    [channel, JSON.stringify(data), data.n % 10 === 9 ? 3 : 1],
  );
  return rows.map(({ id }) => id);
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'writer', connectionTimeoutMillis: 5000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (error) {
    void client.end().catch(() => undefined);
    throw error;
  }
  return client;
}
