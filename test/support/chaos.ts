/**
 * Chaos: publishers, clients, redactions and retention among relays, a database and networks that fail in every way, beside
 * publishers, visitors and roles that are hostile, all by chance from one seed. When the publishers have stopped and everything is healed, everybody must catch up, and what each client got must
 * be what the tables say it was owed.
 */
import type { ExecutionContext } from 'ava';
import type { EmbeddedPostgres } from '../../packages/embedded-postgres/embedded.js';
import { startCrowd, type CrowdProgress } from './crowd.js';
import { useDatabase, type TestDatabase } from './database.js';
import type { Habits } from './dropping-client.js';
import { runHostileRows } from './hostile-rows.js';
import { makeStranger, runHostileVisitors } from './hostile-visitors.js';
import { createPulse } from './pulse.js';
import { createRedactor } from './redactor.js';
import { startExposedRelay, type ExposedRelay } from './exposed-relay.js';
import { runFate } from './fate.js';
import { createFaultLog, type FaultLog } from './fault-log.js';
import { TIGHT_ENVIRONMENT } from './random-resume.js';
import { randomOf } from './random.js';
import { runWriter } from './random-writer.js';
import { judge, type Violation } from './resume-judge.js';
import { ALL_EVENTS, prepareRetention, readFloors, runRetention } from './retention.js';
import { createServerFaults } from './server-faults.js';
import { settle, type Settlement } from './settle.js';
import { startShift } from './shift.js';
import { publishLast, readTruth } from './truth.js';

export interface ChaosOptions {
  readonly seed: number;
  /** Its own: it is killed again and again. Its database is migrated. */
  readonly server: EmbeddedPostgres;
  /** Resolves when the server says the next time that it accepts connections. */
  readonly ready: () => Promise<void>;
  /** Asked about ten times a second: whether that was enough. */
  readonly isEnough: (progress: ChaosProgress) => boolean;
  /** Ends the run at once. */
  readonly signal: AbortSignal;
  /** Called with each line that a relay writes. */
  readonly log: (line: string) => void;
}

export interface ChaosProgress extends CrowdProgress {
  readonly seconds: number;
  readonly faults: Pick<FaultLog, 'total' | 'counts' | 'missing' | 'attacks'>;
}

export interface ChaosFigures extends ChaosProgress, Omit<Settlement, 'violations'> {
  readonly events: number;
  readonly deleted: number;
  readonly endedSessions: number;
  readonly failedStarts: number;
  readonly lateEnds: number;
  readonly hostileRows: { readonly taken: number; readonly refused: number };
  readonly redacted: number;
  /** Times that a redacted event came to somebody who had connected later. */
  readonly redactionsChecked: number;
  /** Deliveries that no fault excuses, and the longest of them in seconds. */
  readonly pulse: { readonly judged: number; readonly longest: number };
  readonly lost: number;
  readonly double: number;
  readonly outOfOrder: number;
  /** In words; empty when all is well. */
  readonly violations: readonly string[];
}

const WRITERS = 12;
const CLIENTS = 80;
/** Each does one thing at a time. */
const GANGS = 2;

/** Some stay through a fault and its end; some are away for longer than retention keeps anything. */
const HABITS: Habits = {
  stays: [20, 200, 1_000, 5_000, 30_000],
  absences: [0, 0, 5, 30, 100, 1_500, 10_000],
};

/** Timeouts short enough to be met in a run, and long enough for a busy machine. */
const ENVIRONMENT = {
  ...TIGHT_ENVIRONMENT,
  LISTEN_TIMEOUT_SECONDS: '3',
  QUERY_TIMEOUT_SECONDS: '3',
  STALL_SECONDS: '2',
  LOG_LEVEL: 'info',
} as const;

/** What is different about each relay. */
const RELAYS = [{ RETENTION: '6s' }, { MAX_CONNECTION_SECONDS: '10' }, { WORKERS: '2' }] as const;

const PAUSES = { server: [3_000, 12_000], process: [6_000, 20_000], network: [1_000, 6_000] } as const;

/** Nothing takes so long once all is healed, however busy the machine. */
const STUCK_MS = 60_000;

export async function runChaos(t: Pick<ExecutionContext, 'teardown'>, options: ChaosOptions): Promise<ChaosFigures> {
  const { seed, server, signal } = options;
  const started = performance.now();
  const shift = startShift();
  const faults = createFaultLog();
  const database = useDatabase(server.url);
  t.teardown(() => database.pool.end());
  await prepareRetention(database);
  const strangerUrl = await makeStranger(database);
  const redactor = createRedactor();
  const relays = await Promise.all(
    RELAYS.map((env, n) =>
      startExposedRelay(t, {
        databaseUrl: server.url,
        env: { ...ENVIRONMENT, ...env },
        random: randomOf(seed, `relay ${n}`),
        shift,
        signal,
        log: (line) => options.log(`relay ${n}: ${line}`),
      }),
    ),
  );
  const serverRandom = randomOf(seed, 'server');
  const serverFaults = createServerFaults({ ...options, database, random: serverRandom, shift });
  const urls = relays.flatMap((relay) => relay.urls);
  const crowd = startCrowd({
    seed,
    size: CLIENTS,
    relays: () => urls,
    shift,
    habits: HABITS,
    onEvent: redactor.onEvent,
    stuckMs: STUCK_MS,
  });
  const pulse = createPulse(
    relays.map(({ urls: [url] }) => url),
    faults,
  );
  const abort = () => {
    shift.end();
    void crowd.abandon();
  };
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();

  const progress = (): ChaosProgress => ({
    ...crowd.progress(),
    seconds: (performance.now() - started) / 1000,
    faults,
  });

  async function endWhenEnough(): Promise<void> {
    while (shift.isOn) {
      await shift.pause(100);
      if (options.isEnough(progress())) shift.end();
    }
  }

  const session = { url: server.url, shift, wasAway: serverFaults.wasAway };
  const fates = [
    { where: 'server', faults: serverFaults.faults, random: serverRandom, pause: PAUSES.server },
    ...relays.flatMap((relay, n) => [
      {
        where: `relay ${n}`,
        faults: relay.processFaults,
        random: randomOf(seed, `process ${n}`),
        pause: PAUSES.process,
      },
      {
        where: `relay ${n}`,
        faults: relay.networkFaults,
        random: randomOf(seed, `network ${n}`),
        pause: PAUSES.network,
      },
    ]),
  ];

  try {
    const hostileFailures: string[] = [];
    const [written, unpruned, hostileRows] = await allOrNone(shift.end, [
      Promise.all(
        Array.from({ length: WRITERS }, (_, n) =>
          runWriter({ ...session, name: `w${n}`, random: randomOf(seed, `writer ${n}`) }),
        ),
      ),
      runRetention({ ...session, random: randomOf(seed, 'retention') }),
      runHostileRows({
        ...session,
        random: randomOf(seed, 'hostile rows'),
        onFailure: (text) => hostileFailures.push(text),
      }),
      redactor.run({ ...session, random: randomOf(seed, 'redactor') }),
      pulse.run(session),
      ...Array.from({ length: GANGS }, (_, n) =>
        runHostileVisitors({
          relays: relays.map(({ urls: [url], metricsUrl }) => ({ url, metricsUrl })),
          databaseUrl: server.url,
          strangerUrl,
          random: randomOf(seed, `gang ${n}`),
          shift,
          log: faults,
        }),
      ),
      endWhenEnough(),
      ...fates.map((fate) => runFate({ ...fate, shift, log: faults })),
    ]);
    for (const relay of relays) relay.heal();
    await crowd.started();
    // Else the relays might not have been started again.
    signal.throwIfAborted();
    await publishLast(database);
    const truth = await readTruth(database, ALL_EVENTS);
    await crowd.catchUp(truth);
    signal.throwIfAborted();
    const floors = await readFloors(database);
    const unready = (await Promise.all(relays.map(troubleOf))).flat();

    const verdicts = crowd.clients.map((client) => judge(client, truth, floors));
    const settlement = settle(written, truth);
    const tell = ({ text, at }: Violation, n: number) =>
      `client ${n}: ${text}${at === undefined ? '' : ['', ...faults.around(at)].join('\n    ')}`;
    const sum = <T>(items: readonly T[], value: (item: T) => number) =>
      items.reduce((all, item) => all + value(item), 0);
    return {
      ...progress(),
      ...settlement,
      events: truth.events.length,
      deleted: await countDeleted(database),
      endedSessions: serverFaults.ended,
      failedStarts: sum(relays, (relay) => relay.failedStarts),
      lateEnds: sum(relays, (relay) => relay.lateEnds),
      hostileRows,
      redacted: redactor.redacted,
      redactionsChecked: redactor.checked,
      pulse: { judged: pulse.judged, longest: pulse.longest },
      lost: sum(verdicts, (verdict) => verdict.lost),
      double: sum(verdicts, (verdict) => verdict.double),
      outOfOrder: sum(verdicts, (verdict) => verdict.outOfOrder),
      violations: [
        ...settlement.violations,
        ...unpruned.map((text) => `retention failed: ${text}`),
        ...relays.flatMap(({ complaints }) => complaints),
        ...unready,
        ...hostileFailures.map((text) => `hostile rows: ${text}`),
        ...redactor.complaints,
        ...pulse.complaints,
        ...verdicts.flatMap(({ violations }, n) => violations.map((violation) => tell(violation, n))),
      ],
    };
  } finally {
    shift.end();
    signal.removeEventListener('abort', abort);
    pulse.end();
    await crowd.abandon();
  }
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

/** Why a relay is not ready though everything is healed; it has the time that a client has. */
async function troubleOf({ urls: [url] }: ExposedRelay, n: number): Promise<string[]> {
  let trouble = '';
  for (const end = performance.now() + STUCK_MS; performance.now() < end;) {
    try {
      const response = await fetch(`${url}/readyz`);
      trouble = await response.text();
      if (response.ok) return [];
    } catch (error) {
      trouble = String(error);
    }
    await new Promise((done) => setTimeout(done, 200));
  }
  return [`relay ${n} is not ready: ${trouble}`];
}

async function countDeleted(database: Pick<TestDatabase, 'query'>): Promise<number> {
  const { rows } = await database.query<{ count: number }>('SELECT count(*)::int AS count FROM kept_aside');
  return rows[0]?.count ?? 0;
}
