/**
 * A publisher: INSERTs marked events into the outbox in DATABASE_URL, at a pace.
 *
 *     DATABASE_URL=… node dist/bench/load/publish.js --rate 50 --events 500 --channel orders
 */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { markedText } from './marker.js';

export interface Publishing {
  /** `{n}` stands for the lane. */
  readonly channel: string;
  /** Channels that take turns, each a lane. Default: 1. */
  readonly lanes?: number;
  readonly events: number;
  /** Rows in one INSERT. Default: 1. */
  readonly burst?: number;
  /** Events in a second; 0: as fast as they are taken. */
  readonly rate: number;
  /** Bytes of an event's data. */
  readonly size: number;
  /** Events that were published on these lanes before. Default: 0. */
  readonly after?: number;
  /** Waited for after each INSERT, as for what was published by now to arrive: then nothing is delivered together that was not inserted so. */
  readonly inserted?: (events: number) => Promise<void>;
}

/** Resolves when all are committed. */
export async function publish(database: pg.Client, publishing: Publishing): Promise<void> {
  const { lanes = 1, burst = 1, after = 0, channel, size, inserted } = publishing;
  await paced({ ...publishing, burst }, async (from, count) => {
    const rows = Array.from({ length: count }, (_, n) => after + from + n);
    await database.query({
      name: 'publish',
      text: `INSERT INTO outbox (channel, data) SELECT channel, to_jsonb(text) FROM unnest($1::text[], $2::text[]) AS row (channel, text)`,
      values: [
        rows.map((row) => channel.replaceAll('{n}', String(row % lanes))),
        rows.map((row) => markedText(row % lanes, Math.floor(row / lanes) + 1, size)),
      ],
    });
    await inserted?.(from + count);
  });
}

/** Has `send` send so many events each time, at a pace. What is late is caught up with. */
export async function paced(
  { events, burst, rate }: { readonly events: number; readonly burst: number; readonly rate: number },
  send: (from: number, count: number) => Promise<void> | void,
): Promise<void> {
  const began = performance.now();
  for (let sent = 0; sent < events; sent += burst) {
    const early = rate > 0 ? began + (sent / rate) * 1000 - performance.now() : 0;
    if (early > 0) await delay(early);
    await send(sent, Math.min(burst, events - sent));
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      channel: { type: 'string', default: 'orders' },
      lanes: { type: 'string', default: '1' },
      events: { type: 'string', default: '500' },
      burst: { type: 'string', default: '1' },
      rate: { type: 'string', default: '50' },
      size: { type: 'string', default: '300' },
    },
  });
  const { channel, ...numbers } = values;
  const { lanes, events, burst, rate, size } = numbers;
  const database = new pg.Client({ connectionString: process.env['DATABASE_URL'] });
  await database.connect();
  await publish(database, {
    channel,
    lanes: Number(lanes),
    events: Number(events),
    burst: Number(burst),
    rate: Number(rate),
    size: Number(size),
  });
  await database.end();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
