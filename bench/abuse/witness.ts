/**
 * The witness: a publisher and its well-behaved clients, in a process of their own, and how long each thing took.
 *
 * The publisher does not wait for what it has sent before it sends the next: what is slow is counted as long as it takes, and keeps nothing
 * from being measured. What has not come when the patience is over counts as so long.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { openClient, readUntil } from '../../test/support/steady-client.js';

/** Milliseconds, of all that was begun in a window. */
export interface Seen {
  /** From INSERT to one client that is there all the time, and to twenty. */
  readonly one: readonly number[];
  readonly twenty: readonly number[];
  /** From INSERT to its answer: what the publisher itself waits. */
  readonly commit: readonly number[];
  /** From connecting with a cursor that lacks a few events to the last of them. */
  readonly resume: readonly number[];
  readonly health: readonly number[];
  /** From connecting to the stream of somebody whom the application knows. */
  readonly user: readonly number[];
}

export interface Witness {
  /** Publishes and looks on for so long, and then until all has come; resolves with what was begun meanwhile. */
  watch(milliseconds: number): Promise<Seen>;
  /** Resolves when an event takes no longer than usual; gives up after a while. */
  calm(): Promise<void>;
  stop(): Promise<void>;
}

interface Start {
  readonly url: string;
  readonly databaseUrl: string;
  readonly hasUser: boolean;
}

type Order = { readonly kind: 'start'; readonly start: Start } | { readonly kind: 'watch'; readonly ms: number };

const CLIENTS = 20;
/** Of the publisher: one whose commit is slow does not keep the next event waiting. */
const SESSIONS = 4;
const EVENT_PAUSE_MS = 10;
const RESUME_PAUSE_MS = 200;
const HEALTH_PAUSE_MS = 40;
const USER_PAUSE_MS = 500;
/** How many events a client that comes back lacks. */
const LACKS = 20;
const PATIENCE_MS = 10_000;
/** Calm is when events take less than that for so long. */
const CALM = { latencyMs: 50, forMs: 1000, patienceMs: 20_000 };

export async function startWitness(start: Start): Promise<Witness> {
  const child = fork(fileURLToPath(import.meta.url), ['serve']);
  const watch = (ms: number) => ask<Seen>(child, { kind: 'watch', ms });
  await ask(child, { kind: 'start', start });
  return {
    watch,
    async calm() {
      for (const end = performance.now() + CALM.patienceMs; performance.now() < end;) {
        const { twenty } = await watch(CALM.forMs);
        if (Math.max(...twenty) < CALM.latencyMs) return;
      }
    },
    async stop() {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

async function ask<T>(child: ChildProcess, order: Order): Promise<T> {
  const answered = once(child, 'message') as Promise<[{ value: T } | { error: string }]>;
  child.send(order);
  const [answer] = await answered;
  if ('error' in answer) throw new Error(answer.error);
  return answer.value;
}

async function serve({ url, databaseUrl, hasUser }: Start): Promise<(ms: number) => Promise<Seen>> {
  const publisher = new pg.Pool({ connectionString: databaseUrl, application_name: 'bench publisher', max: SESSIONS });
  publisher.on('error', () => undefined);
  let beats = 0;
  let users = 0;
  /** Ids of what was published, by beat. */
  const ids: string[] = [];
  /** Who waits for a beat, by its number. */
  const awaited = new Map<number, (client: number) => void>();
  const clients = Array.from({ length: CLIENTS }, (_, client) =>
    openClient(url, '/events/live', (beat) => awaited.get(beat)?.(client)),
  );
  await Promise.all(clients.map(({ opened }) => opened));

  /** Publishes one event; resolves with how long it took to each client, and to the publisher. */
  async function publish(): Promise<{ all: number[]; commit: number }> {
    const beat = (beats += 1);
    const began = performance.now();
    const times: number[] = [];
    const arrived = new Promise<void>((resolve) => {
      let missing = CLIENTS;
      const timer = setTimeout(resolve, PATIENCE_MS);
      awaited.set(beat, (client) => {
        if (times[client] !== undefined) return;
        times[client] = performance.now() - began;
        missing -= 1;
        if (missing > 0) return;
        clearTimeout(timer);
        resolve();
      });
    });
    const { rows } = await publisher.query<{ id: string }>({
      name: 'publish',
      text: `INSERT INTO outbox (channel, data) VALUES ('live', jsonb_build_object('beat', $1::int, 'note', repeat('x', 250))) RETURNING id`,
      values: [beat],
    });
    const commit = performance.now() - began;
    ids[beat] = rows[0]?.id ?? '';
    await arrived;
    awaited.delete(beat);
    return { all: Array.from({ length: CLIENTS }, (_, client) => times[client] ?? PATIENCE_MS), commit };
  }

  /** Begins one every so often, whether the last has ended or not; resolves with all. */
  async function again<T>(milliseconds: number, pause: number, once: () => Promise<T>): Promise<T[]> {
    const begun: Promise<T>[] = [];
    const started = performance.now();
    for (let n = 1; performance.now() - started < milliseconds; n += 1) {
      begun.push(once());
      await new Promise((done) => setTimeout(done, Math.max(0, started + n * pause - performance.now())));
    }
    return Promise.all(begun);
  }

  return async (milliseconds) => {
    await publish();
    const [published, resume, health, user] = await Promise.all([
      again(milliseconds, EVENT_PAUSE_MS, publish),
      again(milliseconds, RESUME_PAUSE_MS, async () => {
        const known = ids.length - 1;
        const headers = { 'Last-Event-ID': ids[Math.max(1, known - LACKS)] ?? '' };
        return readUntil(url, '/events/live', headers, `"beat": ${known},`, PATIENCE_MS);
      }),
      again(milliseconds, HEALTH_PAUSE_MS, () => readUntil(url, '/healthz', {}, '"ok"', PATIENCE_MS)),
      hasUser
        ? again(milliseconds, USER_PAUSE_MS, () => {
            const headers = { Cookie: `session=user-${(users += 1)}`, 'X-Forwarded-For': '198.51.100.7' };
            return readUntil(url, '/events/private:1', headers, 'stream-open', PATIENCE_MS);
          })
        : [],
    ]);
    return {
      one: published.map(({ all }) => all[0] ?? PATIENCE_MS),
      twenty: published.flatMap(({ all }) => all),
      commit: published.map(({ commit }) => commit),
      resume,
      health,
      user,
    };
  };
}

if (process.argv[2] === 'serve' && process.send) {
  http.globalAgent.maxSockets = Infinity;
  let watch: ((ms: number) => Promise<Seen>) | undefined;
  process.on('message', (order: Order) => {
    const obey = async () => {
      if (order.kind === 'watch') return watch?.(order.ms);
      watch = await serve(order.start);
      return undefined;
    };
    obey().then(
      (value) => process.send?.({ value }),
      (error: unknown) => process.send?.({ error: String(error) }),
    );
  });
}
