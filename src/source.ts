/**
 * Where a relay's events come from: PostgreSQL alone, or an engine's log, with PostgreSQL for what
 * that does not have.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { commandLine } from './command-name.js';
import type { Config, NatsOptions } from './config/config.js';
import { createEngineFeed, type EngineFeed } from './engine/engine-feed.js';
import { createLearning } from './engine/learning.js';
import { requireAccess } from './nats/access.js';
import { openNatsLog } from './nats/nats-log.js';
import { requireStream } from './nats/stream.js';
import { OperatorError } from './operator-error.js';
import { openArchive, openDatabases, openReader, type ArchiveDatabase } from './outbox/databases.js';
import type { Feed } from './outbox/feed.js';
import { createPostgresFeed } from './outbox/postgres-feed.js';
import { createPostgresRuns } from './outbox/postgres-runs.js';
import { createProof } from './outbox/proof.js';
import type { Undeliverable } from './outbox/undeliverable.js';
import type { Database } from './postgres/pool.js';
import { takeStandby } from './postgres/standby.js';

export interface Source {
  readonly feed: Feed;
  /** What replays are read from. */
  readonly databases: ArchiveDatabase;
  /** For whoever looks at the outbox now and then. */
  readonly reader: Database;
  /** The feed once more, where it is an engine's. */
  readonly engine: EngineFeed | undefined;
  /** Closes all connections. */
  close(): Promise<void>;
}

export interface SourceParts {
  readonly undeliverable: Undeliverable;
  readonly logger: Logger;
}

/** How often a log that nobody has begun is looked at. */
const LOOK_MS = 250;

/**
 * @throws OperatorError where there is no stream, or it is unfit, or no feeder has begun it;
 * TypeError without an address of a database; what NATS throws. PostgreSQL is not asked yet.
 */
export async function openSource(config: Config, parts: SourceParts): Promise<Source> {
  return config.nats ? openEngine(config, config.nats, parts) : openPostgres(config, parts);
}

function openPostgres(config: Config, { undeliverable, logger }: SourceParts): Source {
  const databases = openDatabases(config, logger);
  const reader = openReader(config.databaseUrl ?? '', logger);
  return {
    feed: createPostgresFeed(config, { databases, undeliverable, logger }),
    databases,
    reader,
    engine: undefined,
    async close() {
      await reader.close();
      await databases.history.close();
      await databases.live.close();
    },
  };
}

async function openEngine(config: Config, nats: NatsOptions, { undeliverable, logger }: SourceParts): Promise<Source> {
  const learning = createLearning();
  const proof = createProof({
    known: () => learning.known,
    patienceMs: config.queryTimeoutSeconds * 1000,
    variable: config.archiveDatabaseUrl === config.databaseUrl ? 'DATABASE_URL' : 'ARCHIVE_DATABASE_URL',
  });
  const databases = openArchive(config, proof, logger);
  const reader = openReader(config.archiveDatabaseUrl ?? '', logger, proof);
  const log = await openNatsLog(nats, 'outbox-relay', logger);
  try {
    await requireAccess(log, 'relay');
    await requireStream(log);
    const archive = createPostgresRuns(databases.history.db, undeliverable, takeStandby);
    const feed = createEngineFeed({ reader: log, archive, learning, logger });
    await begun(feed, nats.stream, config.queryTimeoutSeconds * 1000);
    return {
      feed,
      databases,
      reader,
      engine: feed,
      async close() {
        await reader.close();
        await databases.history.close();
        await log.close();
      },
    };
  } catch (error) {
    await log.close();
    throw error;
  }
}

/** Waits for a feeder that is started beside this relay. */
async function begun(feed: Feed, stream: string, patienceMs: number): Promise<void> {
  for (const until = performance.now() + patienceMs; ; await delay(LOOK_MS)) {
    try {
      await feed.head();
      return;
    } catch (error) {
      if (performance.now() < until) continue;
      throw new OperatorError(
        'no-feeder',
        `The stream ${stream} has nothing that a relay can go on from (${error instanceof Error ? error.message : String(error)}). ` +
          `Run a feeder, with the DATABASE_URL of the outbox and the same NATS_STREAM and NATS_SECRET: ${commandLine('feed')}`,
        { cause: error },
      );
    }
  }
}
