/**
 * The engine of the random resume tests: many writers, many clients that drop at any byte, and sessions of the relay that
 * are killed, all by chance from one seed. When the writers have stopped and everybody has caught up, what each client got
 * must be what the table says it was owed: nothing lost, nothing twice, nothing out of order.
 *
 * It never waits for a time to pass to know that a client is done: one last row per channel ends the run, and a client is
 * done when the last of those that it asked for arrives.
 */
import { CHANNELS, runWriter, type WriterResult } from './random-writer.js';
import { startDroppingClient, type DroppingClient } from './dropping-client.js';
import type { TestDatabase } from './database.js';
import { randomOf, type Random } from './random.js';
import { startShift } from './shift.js';

export interface RandomResumeOptions {
  readonly seed: number;
  readonly database: Pick<TestDatabase, 'query' | 'kill' | 'withClient'>;
  /** Where relays are now: one that is restarted may come back elsewhere. */
  readonly relays: () => readonly string[];
  readonly writers: number;
  readonly clients: number;
  /** Asked about ten times a second: whether writers may stop. */
  readonly isEnough: (progress: Progress) => boolean;
  /** A further fault, done now and then beside the kills. */
  readonly fault?: (random: Random) => Promise<void>;
}

export interface Progress {
  readonly seconds: number;
  /** Events that clients have got. */
  readonly deliveries: number;
  readonly reconnects: number;
  /** Connections that ended amid a frame. */
  readonly cutFrames: number;
  readonly kills: number;
  /** Times that the table was locked for a while. */
  readonly stalls: number;
}

export interface Figures extends Progress {
  readonly seed: number;
  readonly events: number;
  readonly committed: number;
  readonly rolledBack: number;
  readonly resets: number;
  readonly lost: number;
  readonly double: number;
  readonly outOfOrder: number;
  /** What was violated, in words; empty when all is well. */
  readonly violations: readonly string[];
}

/** Small enough that nearly everybody who was away falls out of the window, and that replays queue for connections. */
export const TIGHT_ENVIRONMENT = {
  WINDOW_MEGABYTES: '0.25',
  REPLAY_MEGABYTES: '1',
  HISTORY_CONNECTIONS: '2',
  HEARTBEAT_SECONDS: '0.1',
  SWEEP_SECONDS: '1',
} as const;

/** A client that gets nothing for so long after the end is stuck; nothing else takes this time. */
const STUCK_MS = 10_000;

const SESSIONS = ['listener', 'tail', 'history', '%'] as const;

/** What clients ask for: single channels, several, families, families within families, everything, and overlaps. */
const PATTERNS = ['user:*', 'org:*', 'org:7:*', 'org:7:b:*', 'quiet:*'] as const;

export async function runRandomResume(options: RandomResumeOptions): Promise<Figures> {
  const { seed, database } = options;
  const started = Date.now();
  const shift = startShift();
  let kills = 0;
  let stalls = 0;

  const clients = Array.from({ length: options.clients }, (_, n) => {
    const random = randomOf(seed, `client ${n}`);
    return startDroppingClient({ random, names: interest(random), relays: options.relays, shift });
  });

  const progress = (): Progress => ({
    seconds: (Date.now() - started) / 1000,
    deliveries: clients.reduce((sum, client) => sum + client.received.length, 0),
    reconnects: clients.reduce((sum, client) => sum + Math.max(0, client.connections.length - 1), 0),
    cutFrames: clients.reduce((sum, client) => sum + client.cutFrames, 0),
    kills,
    stalls,
  });

  async function breakThings(): Promise<void> {
    const random = randomOf(seed, 'faults');
    for (let n = 1; shift.isOn; n += 1) {
      await shift.pause(random.integer(20, 400));
      if (options.fault && random.chance(0.1)) await options.fault(random);
      else if (n % 5 === 0) await stall(random);
      else await kill(random);
    }
  }

  async function kill(random: Random): Promise<void> {
    kills += await database.kill(`outbox-relay ${random.pick(SESSIONS)}`);
  }

  /**
   * Keeps everybody from the table for a while, as a migration does. Readers wait with their streams open, heartbeats come
   * due, and a session that is killed now is killed amid a query.
   */
  async function stall(random: Random): Promise<void> {
    await database.withClient(async (client) => {
      await client.query('BEGIN');
      await client.query('LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE');
      await shift.pause(random.integer(50, 300));
      if (random.chance(0.7)) await kill(random);
      await shift.pause(random.integer(50, 300));
      await client.query('COMMIT');
      stalls += 1;
    });
  }

  async function endWhenEnough(): Promise<void> {
    while (shift.isOn) {
      await shift.pause(100);
      if (options.isEnough(progress())) shift.end();
    }
  }

  let written: WriterResult[];
  let owed: string[][];
  try {
    [written] = await Promise.all([
      Promise.all(
        Array.from({ length: options.writers }, (_, n) =>
          database.withClient((client) => runWriter(client, randomOf(seed, `writer ${n}`), shift)),
        ),
      ),
      breakThings(),
      endWhenEnough(),
    ]);
    // Who has not yet been given a cursor is owed nothing, and could not be told from one that lost everything.
    await unlessStuck(clients, (client) => client.started);
    await database.query(`INSERT INTO outbox (channel, data) SELECT unnest($1::text[]), '{"end": true}'`, [CHANNELS]);
    owed = await Promise.all(clients.map((client) => owedTo(client, database)));
    clients.forEach((client, n) => client.readUntil(owed[n]?.at(-1) ?? ''));
    // Who waits for a page now leaves no more: it gets the page by another read, or never.
    kills += await database.kill('outbox-relay %');
    await unlessStuck(clients, (client) => client.done);
  } finally {
    shift.end();
    for (const client of clients) client.abandon();
    await Promise.all(clients.map((client) => client.done));
  }

  const verdicts = clients.map((client, n) => judge(client, owed[n] ?? []));
  const failures = written.flatMap((writer) => writer.failures);
  const { rows } = await database.query<{ events: number }>('SELECT count(*)::int AS events FROM outbox');
  const sum = <T>(items: readonly T[], value: (item: T) => number) => items.reduce((all, item) => all + value(item), 0);
  return {
    ...progress(),
    seed,
    events: rows[0]?.events ?? 0,
    committed: sum(written, (writer) => writer.committed),
    rolledBack: sum(written, (writer) => writer.rolledBack),
    resets: sum(clients, (client) => client.complaints.filter((text) => text.includes('stream-reset')).length),
    lost: sum(verdicts, (verdict) => verdict.lost),
    double: sum(verdicts, (verdict) => verdict.double),
    outOfOrder: sum(verdicts, (verdict) => verdict.outOfOrder),
    violations: [
      ...failures.map((text) => `a publisher's transaction failed: ${text}`),
      ...verdicts.flatMap((verdict, n) => verdict.words.map((text) => `client ${n}: ${text}`)),
    ],
  };
}

/** One line, for logs. */
export function describe(figures: Figures): string {
  return (
    `seed ${figures.seed}: ${figures.deliveries} deliveries of ${figures.events} events in ` +
    `${figures.seconds.toFixed(1)} s, ${figures.committed} commits, ${figures.rolledBack} rollbacks, ` +
    `${figures.reconnects} reconnects (${figures.cutFrames} amid a frame), ${figures.kills} kills, ${figures.stalls} stalls, ` +
    `${figures.resets} resets, ${figures.lost} lost, ${figures.double} double, ${figures.outOfOrder} out of order`
  );
}

function interest(random: Random): string[] {
  if (random.chance(0.1)) return ['*'];
  if (random.chance(0.3)) return [random.pick(CHANNELS)];
  if (random.chance(0.3)) return [random.pick(PATTERNS)];
  return random.sample([...CHANNELS, ...PATTERNS], random.integer(2, 5));
}

/** Waits for all, as long as some client still gets something: one that is stuck is for `judge` to tell of. */
async function unlessStuck(
  clients: readonly DroppingClient[],
  until: (client: DroppingClient) => Promise<void>,
): Promise<void> {
  const all = Promise.all(clients.map(until)).then(() => 'all' as const);
  // Different events: one that comes over and over is no progress.
  const arrived = () => clients.reduce((sum, client) => sum + new Set(client.received).size, 0);
  for (let before = -1; arrived() > before;) {
    before = arrived();
    let timer: NodeJS.Timeout | undefined;
    const stuck = new Promise<void>((resolve) => (timer = setTimeout(resolve, STUCK_MS)));
    const outcome = await Promise.race([all, stuck]);
    clearTimeout(timer);
    if (outcome === 'all') return;
  }
}

/** What the table says: all that matches after the first cursor, in the order of commits. Its SQL is none of the relay's. */
async function owedTo(client: DroppingClient, database: Pick<TestDatabase, 'query'>): Promise<string[]> {
  const exact = client.names.filter((name) => !name.endsWith('*'));
  const prefixes = client.names.filter((name) => name.endsWith('*')).map((name) => name.slice(0, -1));
  const { rows } = await database.query<{ id: string }>(
    `SELECT id FROM outbox
     WHERE (channel = ANY ($1::text[]) OR EXISTS (SELECT FROM unnest($2::text[]) AS p WHERE left(channel, length(p)) = p))
       AND position > coalesce((SELECT position FROM outbox WHERE id = $3), 0)
     ORDER BY position`,
    [exact, prefixes, client.startId ?? '0'],
  );
  return rows.map((row) => row.id);
}

interface Verdict {
  readonly lost: number;
  readonly double: number;
  readonly outOfOrder: number;
  readonly words: readonly string[];
}

function judge(client: DroppingClient, owed: readonly string[]): Verdict {
  const { received, complaints } = client;
  const got = new Set(received);
  const places = new Map(owed.map((id, place) => [id, place]));
  const lost = owed.filter((id) => !got.has(id));
  const double = received.length - got.size;
  let outOfOrder = 0;
  let highest = -1;
  for (const id of got) {
    const place = places.get(id);
    if (place !== undefined && place < highest) outOfOrder += 1;
    highest = Math.max(highest, place ?? -1);
  }
  const words = complaints.map((text) => `${client.names.join(', ')}: ${text}`);
  const wrong = owed.findIndex((id, place) => received[place] !== id);
  const at = wrong === -1 && received.length > owed.length ? owed.length : wrong;
  if (client.startId === undefined) words.push('never got a cursor');
  if (at !== -1) {
    const next = client.connections.findIndex((connection) => connection.before > at);
    const near = client.connections
      .slice(Math.max(0, (next === -1 ? client.connections.length : next) - 2))
      .slice(0, 3);
    words.push(
      `${client.names.join(', ')}: ${lost.length} lost, ${double} double, ${outOfOrder} out of order. As event ${at} of ` +
        `${owed.length} came ${received[at] ?? 'nothing'} instead of ${owed[at] ?? 'nothing'} ` +
        `(owed ${owed.slice(Math.max(0, at - 2), at + 4).join(' ')}, got ${received.slice(Math.max(0, at - 2), at + 4).join(' ')}). ` +
        `Connections then: ${JSON.stringify(near)}`,
    );
  }
  return { lost: lost.length, double, outOfOrder, words };
}
