/**
 * Feeding: a tail that reads PostgreSQL, woken as that of a relay, whose log is the engine's; with
 * answers to relays, and a beat each second.
 *
 *     INSERT ─▶ trigger ─▶ NOTIFY ⇢ wakeups ⇢ tail ─▶ feed (SQL) ─▶ feeder ─▶ engine's log
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { obstacles, type Obstacle } from '../feed/readiness.js';
import { startTail, type Tail } from '../feed/tail.js';
import { startWakeups, type Wakeups, type WakeupSettings } from '../feed/wakeups.js';
import type { Feed } from '../outbox/feed.js';
import { createAnswers } from './answers.js';
import type { Answerer, EngineLog } from './engine-log.js';
import { createFeeder, type Feeder } from './feeder.js';
import type { Fence } from './fence.js';

export interface Feeding {
  readonly feeder: Pick<Feeder, 'fedThrough' | 'fence' | 'totals'>;
  readonly tail: Pick<Tail, 'behindSince' | 'held' | 'trouble' | 'upToDate'>;
  readonly wakeups: Pick<Wakeups, 'watch' | 'awake'>;
  readiness(): FeedingReadiness;
  /** Resolves when nothing is appended any more. The engine stays connected. Safe to call twice. */
  stop(): Promise<void>;
}

export interface FeedingReadiness {
  readonly ready: boolean;
  readonly reasons: readonly FeedingObstacle[];
}

/** What keeps a feeder from feeding. */
export interface FeedingObstacle {
  readonly code: Obstacle['code'] | 'not_connected' | Fence['reason'];
  readonly since: Date;
}

export interface FeedingParts {
  readonly feed: Feed;
  /** Asked on the same connection as what `feed` reads. */
  readonly readAnswerer: () => Promise<Answerer>;
  readonly engine: EngineLog;
  readonly logger: Logger;
}

const BEAT_MS = 1000;

/** @throws what `feed.watch` throws; from then on all is tried again for ever. */
export async function startFeeding(settings: WakeupSettings, parts: FeedingParts): Promise<Feeding> {
  const { feed, readAnswerer, engine, logger } = parts;
  const name = randomUUID();
  const startedAt = new Date();
  const feeder = createFeeder({
    feed,
    readAnswerer,
    engine,
    logger,
    onLost() {
      tail.recheck();
      tail.wake();
    },
  });
  const tail = startTail({ feed: { ...feed, ...feeder.feed }, log: feeder.log, logger });
  const wakeups = await startWakeups(settings, { feed, tail }).catch(async (error: unknown) => {
    await tail.stop();
    throw error;
  });

  const isListening = () =>
    !wakeups.watch.trouble && !tail.trouble && !feeder.fence && feeder.fedThrough.sequence > 0n && !engine.trouble;
  const beat = (listening: boolean) =>
    engine
      .beat({ feeder: name, ...feeder.fedThrough, wal: feeder.answerer?.wal ?? 0n, isListening: listening })
      // That NATS is away is told by its connection.
      .catch(() => undefined);
  const beating = setInterval(() => {
    if (!engine.trouble) void beat(isListening());
  }, BEAT_MS);
  const stops = [
    engine.answer(createAnswers({ feed, feeder, tail })),
    engine.onConnect(() => {
      feeder.forget();
      tail.wake();
    }),
  ];
  let stopping: Promise<void> | undefined;

  async function stop(): Promise<void> {
    clearInterval(beating);
    for (const end of stops) end();
    await wakeups.stop();
    await tail.stop();
    if (!engine.trouble) await beat(false);
  }

  return {
    feeder,
    tail,
    wakeups,
    readiness() {
      const { fence } = feeder;
      const reasons: FeedingObstacle[] = [
        ...(fence ? [{ code: fence.reason, since: fence.since }] : []),
        ...(feeder.fedThrough.sequence === 0n ? [{ code: 'behind' as const, since: startedAt }] : []),
        ...(engine.trouble ? [{ code: 'not_connected' as const, since: engine.trouble.since }] : []),
        ...obstacles(tail, wakeups.watch),
      ];
      return { ready: reasons.every(({ code }) => code === 'commit_hangs'), reasons };
    },
    stop: () => (stopping ??= stop()),
  };
}
