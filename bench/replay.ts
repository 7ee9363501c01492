/**
 * Replay: how fast history goes out, against what PostgreSQL gives away at the most: `COPY` of the same rows, in the same
 * order, to a client that only counts them. The two take turns in one run.
 */
import pg from 'pg';
import { startObservedRelay, type ObservedRelay } from '../test/support/observed-relay.js';
import { publish } from './crowd.js';
import { startReaders, type Expected, type Readers } from './readers.js';

export interface ReplayResult {
  readonly rows: number;
  readonly clients: number;
  readonly rounds: number;
  /** Rows in a second: medians of the rounds. Of all clients together. */
  readonly copy: number;
  readonly relay: number;
  /** Median of the rounds' own ratios. */
  readonly ratio: number;
  /** CPU seconds of the relay for a million events. */
  readonly cpu: number;
}

/** @param counts how many rows to how many clients at once. */
export async function measureReplay(
  databaseUrl: string,
  counts: readonly { readonly rows: number; readonly clients: number; readonly rounds: number }[],
): Promise<ReplayResult[]> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  const readers = startReaders();
  const relay = await startObservedRelay({ DATABASE_URL: databaseUrl, PUBLIC_CHANNELS: '*' }, { collects: false });
  try {
    const results: ReplayResult[] = [];
    for (const { rows, clients, rounds } of counts) {
      const channel = `replay-${rows}`;
      await publish(database, channel, rows);
      await database.query('VACUUM ANALYZE outbox');
      const last = await database.query<{ id: string }>('SELECT max(id) AS id FROM outbox');
      const expected = { path: pathOf(channel), events: rows, lastId: last.rows[0]?.id ?? '' };
      results.push(await compare(databaseUrl, readers, relay, channel, expected, clients, rounds));
    }
    return results;
  } finally {
    await Promise.all([relay.stop(), readers.stop(), database.end()]);
  }
}

async function compare(
  databaseUrl: string,
  readers: Readers,
  relay: ObservedRelay,
  channel: string,
  expected: Expected,
  clients: number,
  rounds: number,
): Promise<ReplayResult> {
  const copied: number[] = [];
  const replayed: number[] = [];
  const cpu: number[] = [];
  // The first round warms both up.
  for (let round = -1; round < rounds; round += 1) {
    const copy = await readers.copy(databaseUrl, copyOf(channel));
    if (copy.events !== expected.events) throw new Error(`COPY had ${copy.events} rows and not ${expected.events}`);
    const before = await relay.measure();
    const replay = await readers.read(
      relay.url,
      Array.from({ length: clients }, () => expected),
    );
    const after = await relay.measure();
    if (round < 0) continue;
    copied.push(copy.events / copy.seconds);
    replayed.push(replay.events / replay.seconds);
    cpu.push(((after.cpu - before.cpu) * 1000) / replay.events);
  }
  return {
    rows: expected.events,
    clients,
    rounds,
    copy: median(copied),
    relay: median(replayed),
    ratio: median(replayed.map((speed, round) => speed / (copied[round] ?? Number.NaN))),
    cpu: median(cpu),
  };
}

function pathOf(channel: string): string {
  return `/events/${channel}?last_event_id=earliest`;
}

function copyOf(channel: string): string {
  return `SELECT id, position, channel, event, data FROM outbox WHERE channel = '${channel}' ORDER BY position`;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
