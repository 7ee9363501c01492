/**
 * The engine of the random resume tests: many writers, many clients that drop at any byte, and sessions of the relay that
 * are killed, all by chance from one seed. When the writers have stopped and everybody has caught up, what each client got
 * must be what the table says it was owed: nothing lost, nothing twice, nothing out of order.
 */
import { startCrowd, type CrowdProgress } from './crowd.js';
import type { TestDatabase } from './database.js';
import { randomOf, type Random } from './random.js';
import { runWriter, type WriterResult } from './random-writer.js';
import { judge } from './resume-judge.js';
import { killSessions, lockTable } from './session-faults.js';
import { settle } from './settle.js';
import { startShift } from './shift.js';
import { publishLast, readTruth, type Truth } from './truth.js';
import { createWaits, type Waits } from './waits.js';

export interface RandomResumeOptions {
  readonly seed: number;
  readonly database: Pick<TestDatabase, 'url' | 'query' | 'kill' | 'withClient'>;
  /** Where relays are now: one that is restarted may come back elsewhere. */
  readonly relays: () => readonly string[];
  readonly writers: number;
  readonly clients: number;
  /** Asked about ten times a second: whether writers may stop. */
  readonly isEnough: (progress: Progress) => boolean;
  /** A further fault, done now and then beside the kills. */
  readonly fault?: (random: Random) => Promise<void>;
  /** Called every second until all clients have left. */
  readonly onSecond?: (progress: Progress) => void;
  /** Where what it waits for is named. */
  readonly waits?: Waits;
}

export interface Progress extends CrowdProgress {
  readonly seconds: number;
  /** Writers write and things break; else everybody catches up. */
  readonly isPublishing: boolean;
  readonly kills: number;
  /** Times that the table was locked for a while. */
  readonly stalls: number;
}

export interface Figures extends Progress {
  readonly seed: number;
  readonly events: number;
  readonly committed: number;
  readonly rolledBack: number;
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

export async function runRandomResume(options: RandomResumeOptions): Promise<Figures> {
  const { seed, database, waits = createWaits() } = options;
  const started = Date.now();
  const shift = startShift();
  let kills = 0;
  let stalls = 0;
  const crowd = startCrowd({ seed, size: options.clients, relays: options.relays, shift, stuckMs: STUCK_MS });

  const progress = (): Progress => ({
    ...crowd.progress(),
    seconds: (Date.now() - started) / 1000,
    isPublishing: shift.isOn,
    kills,
    stalls,
  });

  async function breakThings(): Promise<void> {
    const random = randomOf(seed, 'faults');
    for (let n = 1; shift.isOn; n += 1) {
      await shift.pause(random.integer(20, 400));
      if (options.fault && random.chance(0.1)) await waits.on('the further fault', options.fault(random));
      else if (n % 5 === 0) {
        kills += await waits.on('the lock on the table', lockTable(database, random, shift));
        stalls += 1;
      } else kills += await waits.on('the end of sessions', killSessions(database, random));
    }
  }

  async function endWhenEnough(): Promise<void> {
    while (shift.isOn) {
      await shift.pause(100);
      if (options.isEnough(progress())) shift.end();
    }
  }

  async function write(n: number): Promise<WriterResult> {
    const name = `w${n}`;
    return waits.on(
      `writer ${name}`,
      runWriter({ name, url: database.url, random: randomOf(seed, `writer ${n}`), shift }),
    );
  }

  const clock = setInterval(() => options.onSecond?.(progress()), 1000);
  let written: WriterResult[];
  let truth: Truth;
  try {
    [written] = await Promise.all([
      Promise.all(Array.from({ length: options.writers }, (_, n) => write(n))),
      breakThings(),
      endWhenEnough(),
    ]);
    await waits.on('a cursor for every client', crowd.started());
    await waits.on('the last events to be published', publishLast(database));
    truth = await waits.on('the table to be read', readTruth(database));
    // Who waits for a page now leaves no more: it gets the page by another read, or never.
    const [killed] = await Promise.all([
      waits.on('the end of all sessions', database.kill('outbox-relay %')),
      waits.on('clients to catch up', crowd.catchUp(truth)),
    ]);
    kills += killed;
  } finally {
    shift.end();
    await waits.on('clients to leave', crowd.abandon());
    clearInterval(clock);
  }

  const verdicts = crowd.clients.map((client) => judge(client, truth));
  const settlement = settle(written, truth);
  const sum = <T>(items: readonly T[], value: (item: T) => number) => items.reduce((all, item) => all + value(item), 0);
  return {
    ...progress(),
    seed,
    events: truth.events.length,
    committed: settlement.committed,
    rolledBack: settlement.rolledBack,
    lost: sum(verdicts, (verdict) => verdict.lost),
    double: sum(verdicts, (verdict) => verdict.double),
    outOfOrder: sum(verdicts, (verdict) => verdict.outOfOrder),
    violations: [
      ...settlement.violations,
      ...verdicts.flatMap((verdict, n) => verdict.violations.map(({ text }) => `client ${n}: ${text}`)),
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
