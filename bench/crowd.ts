/**
 * Crowds: what a relay, in a process of its own, does with thousands of clients at once. Crowds that read
 * are in another process, those that stand still in this one.
 */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { startReaders } from './readers.js';
import { startObservedRelay, type ObservedRelay } from '../test/support/observed-relay.js';

export interface StalledResult {
  readonly readers: number;
  readonly rows: number;
  /** Resident memory of the relay, in MiB: when it serves nobody, and the most while the readers stood still. */
  readonly before: number;
  readonly most: number;
  /** Milliseconds from an INSERT to a reader that does read, meanwhile: the median. */
  readonly delivery: number;
}

export interface StormResult {
  readonly clients: number;
  /** Seconds from the first connection until the last client had all that it lacked; and until a client had, the median. */
  readonly seconds: number;
  readonly median: number;
  /** CPU seconds meanwhile, of the relay and of the clients. */
  readonly cpu: number;
  readonly clientsCpu: number;
  /** Events that they lacked, altogether. */
  readonly events: number;
  /** Reads of the table: pages and look-ups of cursors. */
  readonly reads: number;
  /** Milliseconds until a client that came amid the storm, without a cursor, had its stream: the longest of several. */
  readonly newcomer: number;
}

const MEBIBYTE = 1024 * 1024;
/** Rows in one INSERT. */
const BATCH = 50_000;
/** A row's data: with it, an event has about 300 bytes on the wire. */
const PAYLOAD = "jsonb_build_object('n', n, 'text', repeat(md5(n::text), 8))";
/** So old may metrics be. */
const METRICS_KEPT_MS = 1000;
const POLL_MS = 50;
/** How long the stalled readers stand still. */
const STILL_SECONDS = 20;
const AT_A_TIME = 500;
/** A prime. */
const NEIGHBOURS_APART = 7919;
const NEWCOMER_MS = 200;

/** Readers of a long replay that take the first bytes and then nothing, beside one that goes on reading. */
export async function measureStalled(databaseUrl: string, readers: number, rows: number): Promise<StalledResult> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  await publish(database, 'replay', rows);
  const relay = await startObservedRelay(
    {
      DATABASE_URL: databaseUrl,
      PUBLIC_CHANNELS: '*',
      PUBLIC_METRICS: 'true',
      STALL_SECONDS: '3600',
      LOG_LEVEL: 'info',
    },
    { collects: false },
  );
  const sockets: net.Socket[] = [];
  try {
    const live = await openReader(relay.url, '/events/live');
    await live.until('stream-open');
    const before = await residentBytes(relay);
    let most = before;
    for (let n = 0; n < readers; n += AT_A_TIME) {
      const opened = Array.from({ length: Math.min(AT_A_TIME, readers - n) }, () =>
        open(relay.url, '/events/replay?last_event_id=earliest', true),
      );
      sockets.push(...opened);
      await Promise.all(opened.map((socket) => once(socket, 'connect')));
      most = Math.max(most, await residentBytes(relay));
    }
    while ((await metric(relay, 'connections{state="stalled"}')) < readers) {
      most = Math.max(most, await residentBytes(relay));
      await delay(POLL_MS);
    }
    const deliveries: number[] = [];
    for (const end = Date.now() + STILL_SECONDS * 1000; Date.now() < end; await delay(POLL_MS)) {
      const began = performance.now();
      const arrived = live.until(`event: e${deliveries.length}\n`);
      await database.query("INSERT INTO outbox (channel, event) VALUES ('live', $1)", [`e${deliveries.length}`]);
      await arrived;
      deliveries.push(performance.now() - began);
      most = Math.max(most, await residentBytes(relay));
    }
    live.socket.destroy();
    return { readers, rows, before: before / MEBIBYTE, most: most / MEBIBYTE, delivery: median(deliveries) };
  } finally {
    for (const socket of sockets) socket.destroy();
    await relay.stop();
    await database.end();
  }
}

/** A storm: so many clients, each of which lacks from 1 to `missed` events. */
export interface Storm {
  readonly clients: number;
  readonly missed: number;
  /** Large enough for what they lack, or too small: then it is read from the table. */
  readonly windowMegabytes: number;
}

/** Clients that were all cut off and are back at once, each at a cursor of its own, while others come as ever. */
export async function measureStorm(
  databaseUrl: string,
  { clients, missed, windowMegabytes }: Storm,
): Promise<StormResult> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  const readers = startReaders();
  const relay = await startObservedRelay(
    {
      DATABASE_URL: databaseUrl,
      PUBLIC_CHANNELS: '*',
      PUBLIC_METRICS: 'true',
      WINDOW_MEGABYTES: String(windowMegabytes),
      MAX_CONNECTIONS: '100000',
    },
    { collects: false },
  );
  try {
    const channel = `storm-${clients}-${missed}-${windowMegabytes}`;
    await publish(database, channel, missed + 1);
    const { rows } = await database.query<{ id: string }>(
      'SELECT id FROM outbox WHERE channel = $1 ORDER BY position',
      [channel],
    );
    while ((await metric(relay, 'tail_lag_positions')) > 0) await delay(POLL_MS);
    const reads = async () => {
      await delay(METRICS_KEPT_MS);
      return (await metric(relay, 'history_reads_total')) + (await metric(relay, 'cursor_lookups_total'));
    };
    const readsBefore = await reads();
    const lastId = rows.at(-1)?.id ?? '';
    const expected = Array.from({ length: clients }, (_, n) => {
      // Neighbours have nothing in common.
      const events = 1 + ((n * NEIGHBOURS_APART) % missed);
      const cursor = rows.at(-1 - events)?.id ?? '';
      return { path: `/events/${channel}?last_event_id=${cursor}`, events, lastId };
    });
    const newcomers: number[] = [];
    const storm = new AbortController();
    const before = (await relay.measure()).cpu;
    const coming = (async () => {
      while (!storm.signal.aborted) {
        const came = performance.now();
        const reader = await openReader(relay.url, '/events/other');
        await reader.until('stream-open');
        newcomers.push(performance.now() - came);
        reader.socket.destroy();
        await delay(NEWCOMER_MS);
      }
    })();
    const { seconds, median, events, cpu } = await readers.read(relay.url, expected);
    const after = (await relay.measure()).cpu;
    storm.abort();
    await coming;
    return {
      clients,
      seconds,
      median,
      events,
      cpu: (after - before) / 1000,
      clientsCpu: cpu,
      reads: (await reads()) - readsBefore,
      newcomer: Math.max(...newcomers),
    };
  } finally {
    await Promise.all([relay.stop(), readers.stop(), database.end()]);
  }
}

/** Publishes so many events of about 300 bytes on the wire. */
export async function publish(database: pg.Client, channel: string, rows: number): Promise<void> {
  for (let from = 1; from <= rows; from += BATCH) {
    await database.query(
      `INSERT INTO outbox (channel, data) SELECT $1, ${PAYLOAD} FROM generate_series($2::int, $3::int) AS n`,
      [channel, from, Math.min(rows, from + BATCH - 1)],
    );
  }
}

function open(url: string, path: string, stands: boolean): net.Socket {
  const { hostname, port } = new URL(url);
  const socket = net.connect({ host: hostname, port: Number(port) });
  socket.on('error', () => undefined);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  if (stands) socket.pause();
  return socket;
}

interface BareReader {
  readonly socket: net.Socket;
  /** Resolves when a part of the stream holds `text`. @throws when the relay hangs up first. */
  until(text: string): Promise<void>;
}

async function openReader(url: string, path: string): Promise<BareReader> {
  const socket = open(url, path, false);
  let rest = '';
  let waiter: { text: string; resolve: () => void; reject: (error: Error) => void } | undefined;
  const look = () => {
    if (waiter && rest.includes(waiter.text)) {
      waiter.resolve();
      waiter = undefined;
    }
  };
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    // No more than may hold the beginning of what is waited for.
    rest = rest.slice(-100) + chunk;
    look();
  });
  socket.once('close', () => waiter?.reject(new Error(`the relay hung up on ${path}: ${rest.slice(-200)}`)));
  await once(socket, 'connect');
  return {
    socket,
    until: (text) =>
      new Promise((resolve, reject) => {
        waiter = { text, resolve, reject };
        look();
      }),
  };
}

async function residentBytes(relay: ObservedRelay): Promise<number> {
  const status = await readFile(`/proc/${relay.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

async function metric(relay: ObservedRelay, name: string): Promise<number> {
  const text = await (await fetch(`${relay.url}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`outbox_relay_${name} `));
  if (line === undefined) throw new Error(`there is no metric ${name}`);
  return Number(line.slice(line.lastIndexOf(' ') + 1));
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
