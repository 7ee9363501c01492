/**
 * The world of the random tests: publishers, relays in processes of their own, clients that drop at any byte, others who do
 * something all the time, and all that fails, by chance from one seed. When the publishers have stopped and everything is
 * healed, everybody must catch up, and the judge has its say: what each client got must be what the tables say it was owed.
 */
import type { ExecutionContext } from 'ava';
import type { Actor, Figure } from './actor.js';
import { startCrowd, type CrowdProgress } from './crowd.js';
import type { TestDatabase } from './database.js';
import type { Habits } from './dropping-client.js';
import { startExposedRelay, type ExposedRelay } from './exposed-relay.js';
import { runFates, type FateOfWorld, type Party } from './fate.js';
import { createFaultLog, type FaultLog } from './fault-log.js';
import { judge, settle, type Violation } from './judge.js';
import type { TestPostgres } from './postgres.js';
import { isWanted } from './random-interest.js';
import { randomOf, type Random } from './random.js';
import { prepareWriters, runWriter, type WriterOptions } from './random-writer.js';
import { KEPT_ASIDE, prepareRetention, readFloors } from './retention.js';
import type { Environment } from './relay.js';
import { createServerFaults } from './server-faults.js';
import { startShift, type Shift } from './shift.js';
import { publishLast, readTruth, type Truth } from './truth.js';

export interface WorldOptions {
  readonly seed: number;
  /** Migrated, and nobody else's. */
  readonly database: Pick<TestDatabase, 'url' | 'query' | 'kill' | 'withClient'>;
  /** The server, where it is this world's own, and its standby. */
  readonly server?: TestPostgres;
  readonly standby?: TestPostgres;
  /** What is different about each relay. */
  readonly relays: readonly Environment[];
  /** For each publisher, as `WriterOptions` has it. */
  readonly writers: readonly WriterOptions['durabilities'][];
  readonly clients: number;
  readonly habits?: Habits;
  readonly actors?: readonly Actor[];
  readonly fates: readonly FateOfWorld[];
  /** Who else faults meet. They are started before the relays. */
  readonly others?: readonly ((exposure: Exposure) => Promise<Party>)[];
  /** Called when everybody has caught up: what else is wrong, in words. */
  readonly inspect?: (truth: Truth) => Promise<readonly string[]>;
  /** Nothing takes so long once all is healed, however busy the machine. */
  readonly stuckMs: number;
  /** Asked about ten times a second: whether publishers may stop. */
  readonly isEnough: (progress: Progress) => boolean;
  /** Called every second until all clients have left. */
  readonly onSecond?: (progress: Progress) => void;
  /** Ends the run at once. */
  readonly signal?: AbortSignal;
  /** Called with each line that a relay writes. */
  readonly log?: (line: string) => void;
}

/** What somebody whom faults meet is given. */
export interface Exposure {
  readonly random: Random;
  readonly shift: Shift;
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
}

export interface Progress extends CrowdProgress {
  readonly seconds: number;
  /** What it waits for. */
  readonly phase: string;
  /** About how many deliveries there are once everybody has caught up with what is published by now. */
  readonly owed: number;
  readonly faults: Pick<FaultLog, 'total' | 'counts' | 'missing' | 'attacks'>;
}

export interface Figures extends Progress {
  readonly lost: number;
  readonly double: number;
  readonly outOfOrder: number;
  readonly table: readonly Figure[];
  /** In words; empty when all is well. */
  readonly violations: readonly string[];
}

/** Windows so small that nearly everybody who was away falls out of them, and replays that queue for connections. */
export const TIGHT_ENVIRONMENT = {
  WINDOW_MEGABYTES: '0.25',
  REPLAY_MEGABYTES: '1',
  HISTORY_CONNECTIONS: '2',
  HEARTBEAT_SECONDS: '0.1',
  SWEEP_SECONDS: '1',
} as const;

/** Timeouts short enough to be met in a run, and long enough for a busy machine. */
const ENVIRONMENT = {
  ...TIGHT_ENVIRONMENT,
  LISTEN_TIMEOUT_SECONDS: '3',
  QUERY_TIMEOUT_SECONDS: '3',
  STALL_SECONDS: '2',
  LOG_LEVEL: 'info',
} as const;

const POLL_MS = 100;

export async function runWorld(t: Pick<ExecutionContext, 'teardown'>, options: WorldOptions): Promise<Figures> {
  const { seed, database, actors = [], signal = new AbortController().signal, log = () => undefined } = options;
  const started = performance.now();
  const shift = startShift();
  const faults = createFaultLog();
  const published = new Map<string, number>();
  let phase = 'enough to be published';
  await prepareRetention(database);
  await prepareWriters(database);
  const others = await Promise.all(
    (options.others ?? []).map((start, n) =>
      start({ random: randomOf(seed, `other ${n}`), shift, signal, log: (line) => log(`other ${n}: ${line}`) }),
    ),
  );
  const relays = await Promise.all(
    options.relays.map((env, n) =>
      startExposedRelay(t, {
        databaseUrl: database.url,
        env: { ...ENVIRONMENT, ...env },
        networks: options.fates.some(({ of }) => of.includes('networks')),
        random: randomOf(seed, `relay ${n}`),
        shift,
        signal,
        log: (line) => log(`relay ${n}: ${line}`),
      }),
    ),
  );
  const serverFaults = createServerFaults({ ...options, random: randomOf(seed, 'server'), shift });
  const urls = relays.flatMap((relay) => relay.urls.filter((url) => url !== undefined));
  const crowd = startCrowd({
    seed,
    size: options.clients,
    relays: () => urls,
    shift,
    habits: options.habits,
    onEvent: (...event) => {
      for (const actor of actors) actor.onEvent?.(...event);
    },
    stuckMs: options.stuckMs,
  });
  const abort = () => {
    shift.end();
    void crowd.abandon();
  };
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();

  function owed(): number {
    const counts = [...published];
    return sum(crowd.clients, ({ names }) => sum(counts, ([channel, n]) => (isWanted(names, channel) ? n : 0)));
  }

  const progress = (): Progress => ({
    ...crowd.progress(),
    seconds: (performance.now() - started) / 1000,
    phase,
    owed: owed(),
    faults,
  });

  async function endWhenEnough(): Promise<void> {
    while (shift.isOn) {
      await shift.pause(POLL_MS);
      if (options.isEnough(progress())) shift.end();
    }
  }

  const clock = setInterval(() => options.onSecond?.(progress()), 1000);
  const stage = { url: database.url, shift, wasAway: serverFaults.wasAway, relays, faults };
  try {
    const [written] = await allOrNone(shift.end, [
      Promise.all(
        options.writers.map((durabilities, n) =>
          runWriter({
            ...stage,
            name: `w${n}`,
            random: randomOf(seed, `writer ${n}`),
            durabilities,
            onCommit(channels) {
              for (const channel of channels) published.set(channel, (published.get(channel) ?? 0) + 1);
            },
          }),
        ),
      ),
      ...actors.map((actor, n) => actor.run({ ...stage, random: randomOf(seed, `actor ${n}`) })),
      endWhenEnough(),
      ...runFates(options.fates, { seed, serverFaults: serverFaults.groups, relays, others, shift, log: faults }),
    ]);
    for (const exposed of [...relays, ...others]) exposed.heal();
    phase = 'what there is beside relays to work';
    await Promise.all(others.map((other) => other.works()));
    phase = 'a cursor for every client';
    await crowd.started();
    // Else the relays might not have been started again.
    signal.throwIfAborted();
    phase = 'the table to be read';
    await publishLast(database);
    const truth = await readTruth(database, KEPT_ASIDE);
    phase = 'clients to catch up';
    // Who waits for a page now leaves no more: it gets the page by another read, or never.
    await Promise.all([database.kill('outbox-relay %'), crowd.catchUp(truth)]);
    signal.throwIfAborted();
    phase = 'relays to be ready';
    const unready = (await Promise.all(relays.map((relay, n) => troubleOf(relay, n, options.stuckMs)))).flat();
    const floors = await readFloors(database);
    const inspected = (await options.inspect?.(truth)) ?? [];

    const verdicts = crowd.clients.map((client) => judge(client, truth, floors));
    const settlement = settle(written, truth);
    const tell = ({ text, at }: Violation, n: number) =>
      `client ${n}: ${text}${at === undefined ? '' : ['', ...faults.around(at)].join('\n    ')}`;
    const { committed, rolledBack, unknown } = settlement;
    const end = progress();
    return {
      ...end,
      lost: sum(verdicts, ({ lost }) => lost),
      double: sum(verdicts, ({ double }) => double),
      outOfOrder: sum(verdicts, ({ outOfOrder }) => outOfOrder),
      table: [
        ...faults.counts,
        ['sessions of relays ended', serverFaults.ended],
        ['starts of a relay that failed', sum(relays, ({ failedStarts }) => failedStarts)],
        ['relays that SIGTERM ended late', sum(relays, ({ lateEnds }) => lateEnds)],
        ...[...faults.attacks].map(([kind, count]) => [`attack: ${kind}`.slice(0, 41), count] as const),
        ...[...actors, ...others].flatMap(({ figures }) => figures()),
        ['transactions committed', committed],
        ['transactions rolled back', rolledBack],
        ['commits cut off, kept', unknown.kept],
        ['commits cut off, gone', unknown.gone],
        ['events', truth.events.length],
        ['events deleted', floors.length === 0 ? 0 : await countDeleted(database)],
        ['reconnects', end.reconnects],
        ['connections cut amid a frame', end.cutFrames],
        ['resets, all justified unless said below', end.resets],
      ],
      violations: [
        ...settlement.violations,
        ...relays.flatMap(({ complaints }) => complaints),
        ...unready,
        ...[...actors, ...others].flatMap(({ complaints }) => complaints),
        ...inspected,
        ...verdicts.flatMap(({ violations }, n) => violations.map((violation) => tell(violation, n))),
      ],
    };
  } finally {
    shift.end();
    signal.removeEventListener('abort', abort);
    phase = 'clients to leave';
    await crowd.abandon();
    for (const actor of actors) actor.end?.();
    clearInterval(clock);
  }
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((all, item) => all + value(item), 0);
}

/** As Promise.all, but when one fails the others are told to end, and have ended before it rejects. */
async function allOrNone<T extends readonly Promise<unknown>[]>(
  end: () => void,
  promises: readonly [...T],
): Promise<{ [K in keyof T]: Awaited<T[K]> }> {
  for (const promise of promises) promise.catch(end);
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

/** Why a relay is not ready though everything is healed. */
async function troubleOf({ urls: [url] }: ExposedRelay, n: number, patienceMs: number): Promise<string[]> {
  let trouble = '';
  for (const end = performance.now() + patienceMs; performance.now() < end;) {
    try {
      const response = await fetch(`${url}/readyz`);
      trouble = await response.text();
      if (response.ok) return [];
    } catch (error) {
      trouble = String(error);
    }
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  return [`relay ${n} is not ready: ${trouble}`];
}

async function countDeleted(database: Pick<TestDatabase, 'query'>): Promise<number> {
  const { rows } = await database.query<{ count: number }>(`SELECT count(*)::int AS count FROM ${KEPT_ASIDE}`);
  return rows[0]?.count ?? 0;
}
