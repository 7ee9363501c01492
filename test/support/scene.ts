/**
 * What a fault must not harm: a relay in this process, clients whose streams stay open, and publishers that go on.
 *
 * At the end every client must have got exactly what the table has for it, in commit order (promises R3 and R6).
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import pg from 'pg';
import { pino } from 'pino';
import { readConfig } from '../../src/config/config.js';
import { startRelay, type Relay } from '../../src/relay.js';
import { judge } from './judge.js';
import { isWanted } from './random-interest.js';
import type { Environment } from './relay.js';
import { request } from './request.js';
import { startStopwatch, type Stopwatch } from './stopwatch.js';
import { openStream, type TestStream } from './stream.js';
import { readTruth } from './truth.js';
import { CHANNELS, startWriters, type Writers } from './writers.js';

export interface SceneOptions {
  /** As the relay has it: what leads through the fault. */
  readonly databaseUrl: string;
  readonly listenDatabaseUrl?: string;
  /** As publishers have it, and who reads the table. */
  readonly tableUrl: string;
  readonly env?: Environment;
}

export interface Scene {
  readonly relay: Relay;
  readonly streams: readonly TestStream[];
  readonly writers: Writers;
  /** Stops the publishers and waits until all is delivered: then no read is under way that could see what comes next. */
  quiet(): Promise<void>;
  /** What the relay has logged. */
  readonly log: readonly LogLine[];
  /** Resolves when the relay has logged a message that contains the text for the `count`th time. */
  logged(text: string, count?: number): Promise<void>;
  /** One more client, which is owed what followed `cursor`. */
  join(names: readonly string[], cursor: string): Promise<TestStream>;
  /** Publishes one event to each channel, and resolves when every client has all that it wants of them. */
  delivered(): Promise<void>;
  /** Resolves with what /readyz says. */
  ready(): Promise<{ status: number; reasons: string[] }>;
  /** Resolves when /readyz says that it is. */
  untilReady(): Promise<void>;
  /** Resolves when /readyz says that it is not, and the reason matches. */
  untilReason(reason: RegExp): Promise<void>;
  /** Stops the publishers, waits for the last event, and holds what everybody got against the table. */
  settle(): Promise<void>;
}

export interface LogLine {
  readonly level: number;
  readonly msg: string;
}

interface Client {
  readonly stream: TestStream;
  readonly names: readonly string[];
  /** What it is owed begins after it. */
  readonly cursor: string;
}

interface Row {
  readonly id: string;
  readonly channel: string;
}

/** How often the relay, or a database that is away, is asked for a state of which it gives no signal. */
const POLL_MS = 20;

/** Starts it all on an outbox that has no events yet, and resolves when the first have been delivered. */
export async function startScene(t: ExecutionContext, options: SceneOptions): Promise<Scene> {
  const log: LogLine[] = [];
  const listeners = new Set<() => void>();
  const logger = pino(
    { level: 'debug' },
    {
      write(text: string) {
        if (process.env['TEST_LOG'] === '1') console.error(text.trim());
        log.push(JSON.parse(text) as LogLine);
        for (const listener of [...listeners]) listener();
      },
    },
  );
  const config = readConfig({
    PORT: '0',
    PUBLIC_CHANNELS: '*',
    SHUTDOWN_SECONDS: '2',
    // What is measured is how a fault is overcome, and not when the sweep comes by.
    SWEEP_SECONDS: '60',
    HEARTBEAT_SECONDS: '0.5',
    ...options.env,
    DATABASE_URL: options.databaseUrl,
    ...(options.listenDatabaseUrl === undefined ? {} : { LISTEN_DATABASE_URL: options.listenDatabaseUrl }),
  });
  const relay = await startRelay({ config, logger, ownDatabase: true });
  t.teardown(() => relay.stop());
  const table = new pg.Pool({ connectionString: options.tableUrl, application_name: 'test' });
  table.on('error', () => undefined);
  t.teardown(() => table.end());

  const clients: Client[] = [];
  async function join(names: readonly string[], cursor: string): Promise<TestStream> {
    const channels = names.map((name) => `channel=${encodeURIComponent(name)}`).join('&');
    const stream = await openStream(t, `${relay.url}/events?${channels}&last_event_id=${cursor}`);
    clients.push({ stream, names, cursor });
    return stream;
  }

  async function publish(): Promise<Row[]> {
    for (;;) {
      try {
        const { rows } = await table.query<Row>(
          "INSERT INTO outbox (channel, data) SELECT unnest($1::text[]), '0' RETURNING id, channel",
          [CHANNELS],
        );
        return rows;
      } catch {
        // The table is away, too.
        await delay(POLL_MS);
      }
    }
  }

  async function got({ stream }: Client, id: string): Promise<void> {
    await stream.until((frame) => frame.id === id && frame.data !== undefined && !frame.event?.startsWith('stream-'));
  }

  async function delivered(): Promise<void> {
    const rows = await publish();
    for (const client of [...clients]) {
      for (const { id, channel } of rows) if (isWanted(client.names, channel)) await got(client, id);
    }
  }

  async function ready(): Promise<{ status: number; reasons: string[] }> {
    const { status, body } = await request(relay.url, '/readyz');
    const { reasons } = JSON.parse(body) as { reasons: { code: string; since: string }[] };
    return { status, reasons: reasons.map(({ code, since }) => `${code} since ${since}`) };
  }

  async function untilReady(): Promise<void> {
    while ((await ready()).status !== 200) await delay(POLL_MS);
  }

  async function untilReason(reason: RegExp): Promise<void> {
    while (!reason.test((await ready()).reasons.join('; '))) await delay(POLL_MS);
  }

  for (const names of [['*'], ['a'], ['b:*', 'c']]) await join(names, 'earliest');
  for (const { stream } of clients) await stream.until(({ event }) => event === 'stream-open');
  const writers = startWriters(t, options.tableUrl);
  await writers.more(5);
  await delivered();

  return {
    relay,
    get streams() {
      return clients.map(({ stream }) => stream);
    },
    writers,
    log,
    logged: (text, count = 1) =>
      new Promise((found) => {
        const check = () => {
          if (log.filter(({ msg }) => msg.includes(text)).length < count) return;
          listeners.delete(check);
          found();
        };
        listeners.add(check);
        check();
      }),
    async quiet() {
      await writers.stop();
      await delivered();
    },
    join,
    delivered,
    ready,
    untilReady,
    untilReason,
    async settle() {
      await writers.stop();
      await delivered();
      const truth = await readTruth({ query: (sql, values) => table.query(sql, values) });
      for (const client of clients) {
        const { stream, names, cursor } = client;
        const startId = cursor === 'earliest' ? '0' : cursor;
        const last = truth.wanted(names).findLast(({ place }) => place > (truth.placeOf(startId) ?? -1));
        if (last) await got(client, last.id);
        const { violations } = judge({ names, startId, received: stream.events.map(({ id }) => id ?? '') }, truth);
        t.deepEqual(violations, [], `a client of ${names.join(', ')} from ${cursor} on`);
        t.false(stream.frames.some(({ event }) => event === 'stream-reset' || event === 'stream-error'));
      }
      t.deepEqual(
        writers.confirmed.filter((id) => truth.placeOf(id) === undefined),
        [],
        'confirmed, and not in the table',
      );
      await untilReady();
    },
  };
}

/** Asserts that delivery goes on, and the relay is ready, within so many seconds of `since`; says how many it took. */
export async function resumesWithin(
  t: ExecutionContext,
  scene: Pick<Scene, 'delivered' | 'untilReady'>,
  seconds: number,
  since: Stopwatch = startStopwatch(),
): Promise<void> {
  await scene.delivered();
  await scene.untilReady();
  await scene.delivered();
  const took = since.seconds();
  t.log(`delivery went on after ${took.toFixed(2)} s`);
  t.true(took <= seconds, `delivery went on after ${took.toFixed(2)} s; the promise is ${seconds} s`);
}
