/**
 * Latency: from an INSERT to the client, at steady rates, against a bare client that LISTENs and selects the row by id. Both
 * stand on the same table and triggers and take turns in one run, so their ratio holds on a noisy machine too.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { meaningOf } from '../src/outbox/notifications.js';
import type { Result } from './result.js';

/** Milliseconds. */
export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** Events a second, unless the last one takes longer to arrive, and how many a party gets in its turn. */
const PACES = [
  { rate: 300, turn: 50, rounds: 40 },
  { rate: 20, turn: 10, rounds: 40 },
] as const;
/** What the relay may take of the bare client's time. */
const MOST = { p50: 1.15, p99: 1.3 };

const WARM_UP = 200;

export async function measureLatency(databaseUrl: string): Promise<Result[]> {
  const writer = new pg.Client({ connectionString: databaseUrl });
  await writer.connect();
  const bare = await openBare(databaseUrl);
  const relay = await openRelay(databaseUrl);
  const results: Result[] = [];

  const insert = (party: Party, rate: number) => timeInsert(writer, party, rate);

  for (const party of [bare, relay]) for (let n = 0; n < WARM_UP; n += 1) await insert(party, PACES[0].rate);
  for (const { rate, turn, rounds } of PACES) {
    const times = { bare: [] as number[], relay: [] as number[] };
    for (let round = 0; round < rounds; round += 1) {
      for (let n = 0; n < turn; n += 1) times.bare.push(await insert(bare, rate));
      for (let n = 0; n < turn; n += 1) times.relay.push(await insert(relay, rate));
    }
    const figures = { bare: percentiles(times.bare), relay: percentiles(times.relay) };
    const rows = [
      { party: 'LISTEN + SELECT', ...figures.bare },
      { party: 'relay', ...figures.relay },
    ];
    for (const percentile of ['p50', 'p99'] as const) {
      const ratio = figures.relay[percentile] / figures.bare[percentile];
      results.push({
        part: 'latency',
        title: `Insert to client, ${rounds * turn} events each at ${rate} a second: ${percentile} (ms)`,
        rows,
        ratio,
        bar: { is: `at most ${MOST[percentile]}`, holds: ratio <= MOST[percentile] },
      });
    }
  }
  await Promise.all([bare.close(), relay.close(), writer.end()]);
  return results;
}

/** Inserts an event and resolves with the milliseconds until the party had it, in time for the next one at that rate. */
export async function timeInsert(writer: pg.Client, party: Pick<Party, 'next'>, rate: number): Promise<number> {
  const data = JSON.stringify({ order: 1, status: 'packed', note: 'x'.repeat(250) });
  const started = performance.now();
  const arrived = party.next();
  await writer.query({
    name: 'insert',
    text: 'INSERT INTO outbox (channel, data) VALUES ($1, $2)',
    values: ['orders', data],
  });
  const took = (await arrived) - started;
  await delay(Math.max(0, 1000 / rate - took));
  return took;
}

/** Who waits for events. */
export interface Party {
  /** Resolves with the time at which the next event arrives. */
  next(): Promise<number>;
  close(): Promise<void>;
}

async function openBare(url: string): Promise<Party> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query('LISTEN outbox');
  let arrived: ((time: number) => void) | undefined;
  // One after the other: in the relay's turns nobody waits for this party.
  let previous: Promise<unknown> = Promise.resolve();
  client.on('notification', (message) => {
    // Relays notify themselves and each other.
    if (meaningOf(message.payload ?? '') !== 'published') return;
    const row = {
      name: 'by_id',
      text: 'SELECT id, channel, event, data FROM outbox WHERE id = $1',
      values: [message.payload],
    };
    previous = previous.then(() => client.query(row)).then(() => arrived?.(performance.now()));
  });
  return {
    next: () => new Promise((resolve) => (arrived = resolve)),
    async close() {
      // What the others' turns have rung may still be under way.
      client.removeAllListeners('notification');
      await previous;
      await client.end();
    },
  };
}

/** @param env what is different about it. */
export async function openRelay(url: string, env: Readonly<Record<string, string>> = {}): Promise<Party> {
  const main = fileURLToPath(new URL('../src/main.js', import.meta.url));
  const child = spawn(process.execPath, [main], {
    env: { ...process.env, DATABASE_URL: url, PUBLIC_CHANNELS: '*', PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const address = await listening(child);
  const { hostname, port } = new URL(address);
  const socket = net.connect(Number(port), hostname);
  socket.write(`GET /events?channel=orders HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`);
  let arrived: ((time: number) => void) | undefined;
  await new Promise<void>((opened) => {
    socket.on('data', (chunk) => {
      if (chunk.includes('"order"')) arrived?.(performance.now());
      else if (chunk.includes('stream-open')) opened();
    });
  });
  socket.on('error', () => undefined);
  return {
    next: () => new Promise((resolve) => (arrived = resolve)),
    async close() {
      socket.destroy();
      child.kill();
      await once(child, 'exit');
    },
  };
}

/** Reads the log until the line that names the address. */
async function listening(child: ChildProcess): Promise<string> {
  let output = '';
  for await (const chunk of child.stdout ?? []) {
    output += String(chunk);
    const address = /"url":"(http:[^"]+)"/.exec(output)?.[1];
    if (address) {
      child.stdout?.resume();
      return address;
    }
  }
  throw new Error(`the relay did not start:\n${output}`);
}

export function percentiles(times: number[]): Percentiles {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999) };
}
