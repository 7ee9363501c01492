/**
 * A feed by way of an engine's log: an outbox in PostgreSQL, feeders that read it, and a relay's
 * feed, all as they are in production but for the engine, of which each has a connection. What is
 * done to the outbox is over once the log has it, and the feed knows.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { createEngineFeed } from '../../src/engine/engine-feed.js';
import type { EngineLog } from '../../src/engine/engine-log.js';
import { through, type Entry } from '../../src/engine/entry.js';
import { startFeeding } from '../../src/engine/feeding.js';
import { createLearning } from '../../src/engine/learning.js';
import type { Cursor } from '../../src/event/event.js';
import { openArchive, openDatabases } from '../../src/outbox/databases.js';
import { readOrigin } from '../../src/outbox/origin.js';
import { createPostgresFeed, createPostgresReader } from '../../src/outbox/postgres-feed.js';
import { createPostgresRuns } from '../../src/outbox/postgres-runs.js';
import { createProof } from '../../src/outbox/proof.js';
import { createUndeliverable } from '../../src/outbox/undeliverable.js';
import { takeStandby } from '../../src/postgres/standby.js';
import { patiently, type FeedStage } from './feed-conformance.js';
import { hangInCommit } from './hanging-commit.js';
import { onPostgres } from './postgres-stage.js';

const logger = pino({ level: process.env['TEST_LOG'] === '1' ? 'debug' : 'silent' });
const FEEDER = { sweepSeconds: 0.2, pollSeconds: 0.2, glanceSeconds: 0.2 };
const SECONDS = { listenTimeoutSeconds: 10, queryTimeoutSeconds: 30, historyConnections: 2 };
const DEADLINE_MS = 20_000;
const POLL_MS = 10;

export type OpenEngine = () => EngineLog | Promise<EngineLog>;

/** Starts a feeder of a database; returns what ends it. */
export async function startFeeder(url: string, open: OpenEngine): Promise<() => Promise<void>> {
  const engine = await open();
  const databases = openDatabases({ ...SECONDS, databaseUrl: url, listenDatabaseUrl: url }, logger);
  const feed = createPostgresFeed(SECONDS, { databases, undeliverable: createUndeliverable(), logger });
  const readAnswerer = () => readOrigin(databases.live.db);
  const feeding = await startFeeding(FEEDER, { feed, readAnswerer, engine, logger });
  return async () => {
    await feeding.stop();
    await engine.close();
    await databases.live.close();
    await databases.history.close();
  };
}

/** A relay's feed of it, with the archive at an address. */
export async function openEngineFeed(
  t: Pick<ExecutionContext, 'teardown'>,
  archiveDatabaseUrl: string,
  open: OpenEngine,
) {
  const reader = await open();
  const learning = createLearning();
  const proof = createProof({ known: () => learning.known, patienceMs: DEADLINE_MS, variable: 'DATABASE_URL' });
  const { history } = openArchive({ ...SECONDS, archiveDatabaseUrl }, proof, logger);
  const archive = createPostgresRuns(history.db, createUndeliverable(), takeStandby);
  t.teardown(async () => {
    await reader.close();
    await history.close();
  });
  return createEngineFeed({ reader, archive, learning, logger });
}

/**
 * @param feeders how many of them.
 * @param openReader opens the connection of the relay's feed. Default: as all others.
 */
export async function onEngine(
  t: ExecutionContext,
  open: OpenEngine,
  feeders: number,
  openReader = open,
): Promise<FeedStage> {
  const { database, databases, insert, stored, ...outbox } = await onPostgres(t);
  const ends = await Promise.all(Array.from({ length: feeders }, () => startFeeder(database.url, open)));
  t.teardown(() => Promise.all(ends.map((end) => end())));
  const feed = await openEngineFeed(t, database.url, openReader);
  const log = await open();
  t.teardown(log.close);
  const reader = createPostgresReader(databases.live.db);

  async function until(isThere: (entry: Entry) => boolean | Promise<boolean>): Promise<void> {
    for (const end = performance.now() + DEADLINE_MS; performance.now() < end; await delay(POLL_MS)) {
      const tip = await log.tip().catch(() => undefined);
      if (tip?.entry && (await isThere(tip.entry))) return;
    }
    const { entry } = await patiently(log.tip);
    const at = entry && `${entry.kind} at ${through(entry).position}`;
    const [{ position }, { through: heard }] = await Promise.all([reader.head(), feed.settled()]);
    throw new Error(`the log does not get what is in the outbox: ${at ?? 'nothing'}, heard ${heard}, head ${position}`);
  }
  /** Whether the log has a run with what came before a position: else nothing has to be evicted. */
  async function hasRunBefore(position: bigint): Promise<boolean> {
    for (let after = 0n; ;) {
      const page = await patiently(() => log.read(after));
      if (page.some(({ entry }) => entry?.kind === 'run' && entry.prev < position)) return true;
      const last = page.at(-1);
      if (last === undefined) return false;
      after = last.sequence;
    }
  }

  const fed = async () => {
    const { position } = await reader.head();
    await until(async (entry) => through(entry).position === position && (await feed.settled()).through >= position);
  };
  await fed();

  return {
    feed,
    tellsOfHeld: false,
    async publish(channels) {
      await insert(channels);
      const events = (await stored()).slice(-channels.length).map(({ id, position }): Cursor => ({ id, position }));
      await fed();
      return events;
    },
    async begin(channels) {
      const commit = await hangInCommit(t, database, channels);
      return {
        succeed: () => commit.succeed().then(fed),
        fail: () => commit.fail().then(fed),
      };
    },
    redact: outbox.redact,
    async deleteThrough(position) {
      await outbox.deleteThrough(position);
      await until(
        async (entry) => ('floor' in entry && entry.floor.position >= position) || !(await hasRunBefore(position)),
      );
      // The feed may not have heard of it yet. Its tail asks before any reader starts, and so does
      // this.
      await patiently(() => feed.changesSince(undefined, 0n));
    },
    async restore(position) {
      const before = (await patiently(log.tip)).entry?.epoch;
      await outbox.restore(position);
      // As the server does where it is restored.
      await database.kill('outbox-relay%');
      await until((entry) => entry.epoch !== before);
    },
  };
}
