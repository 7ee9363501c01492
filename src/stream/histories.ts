/**
 * The histories of a relay, one for each format of events. Their reads wait in one queue, so that
 * all who read have equal shares, whatever they are given.
 */
import type { Log } from '../feed/log.js';
import type { Tail } from '../feed/tail.js';
import type { ArchiveDatabase } from '../outbox/databases.js';
import { createLaggingArchive } from '../outbox/lagging-archive.js';
import { ENVELOPE, FRAME, type Format } from '../outbox/formats.js';
import { createPostgresArchive } from '../outbox/postgres-archive.js';
import { takeStandby } from '../postgres/standby.js';
import type { Undeliverable } from '../outbox/undeliverable.js';
import { createFairQueue } from './fair-queue.js';
import { createHistory, type History } from './history.js';
import type { Budget } from './page-budget.js';
import { createReadLimit } from './read-limit.js';

export interface Histories {
  /** For streams. */
  readonly frames: History;
  /** For answers in JSON. */
  readonly envelopes: History;
}

export interface HistoriesParts {
  readonly databases: Pick<ArchiveDatabase, 'history' | 'mayLag'>;
  readonly undeliverable: Undeliverable;
  readonly budget: Budget;
  readonly log: Log;
  readonly tail: Pick<Tail, 'upToDate'>;
}

export interface HistoriesSettings {
  /** Most reads at a time, while the event loop is in time; see `ReadLimit`. */
  readonly historyConnections: number;
}

export function createHistories({ historyConnections }: HistoriesSettings, parts: HistoriesParts): Histories {
  const { undeliverable, budget, log, tail } = parts;
  const { history, mayLag } = parts.databases;
  const queue = createFairQueue(createReadLimit(historyConnections));
  const archiveIn = (format: Format) =>
    mayLag
      ? createLaggingArchive(createPostgresArchive(history.db, undeliverable, format, takeStandby), tail.upToDate)
      : createPostgresArchive(history.db, undeliverable, format);
  const historyIn = (format: Format) => createHistory(archiveIn(format), budget, { queue, log });
  return { frames: historyIn(FRAME), envelopes: historyIn(ENVELOPE) };
}
