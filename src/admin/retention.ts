/**
 * Retention: prunes now and then, for ever, beside the relay and on a connection of its own.
 *
 * | state   | meaning                                                     | leaves when                                |
 * |---------|-------------------------------------------------------------|--------------------------------------------|
 * | waiting | no connection is open                                       | the interval ends (running)                |
 * | running | a connection, and on it a short transaction for each batch  | nothing more is due, another prunes, error |
 * | stopped | -                                                           | never                                      |
 */
import type { Logger } from 'pino';
import { createRetry } from '../postgres/retry.js';
import { openConnection, type Connection } from './prune-connection.js';
import { look, pause, pruneBatches, requireRights, secondsSince, type Ground } from './prune.js';

/** Longest interval between two runs; otherwise a tenth of the age at which events are deleted. */
const INTERVAL_SECONDS = 60;

export interface RetentionOptions {
  readonly url: string;
  readonly keepSeconds: number;
  readonly logger: Logger;
}

export interface Retention {
  /** Breaks off what is under way and resolves when it is over. Safe to call twice. */
  stop(): Promise<void>;
}

/**
 * Prunes now and then, for ever. Trouble is logged once and never ends it.
 *
 * @throws OperatorError `may-not-delete`, or what the connection throws: a first start fails fast
 */
export async function startRetention({ url, keepSeconds, logger }: RetentionOptions): Promise<Retention> {
  const stopping = new AbortController();
  const { signal } = stopping;
  const ground: Ground = { clear: 0n };
  const interval = Math.min(INTERVAL_SECONDS, keepSeconds / 10) * 1000;
  /** The head at the previous look: whatever stands up to it has been visible since. */
  let seen: bigint | undefined;
  let connection: Connection | undefined;
  const retry = createRetry({
    firstPauseMs: interval,
    longestPauseMs: interval,
    log: {
      logger,
      onFailure: 'cannot prune the outbox; trying again at each interval',
      onRecovery: 'pruning works again',
    },
  });

  async function turn(): Promise<void> {
    const started = Date.now();
    let rows = 0;
    connection = openConnection(url);
    try {
      const session = await connection.connect();
      const { head, cutoff } = await look(session, keepSeconds);
      const upTo = seen;
      seen = head;
      const onBatch = (some: number) => (rows += some);
      const outcome =
        upTo === undefined ? undefined : await pruneBatches(session, { cutoff, head: upTo, ground, signal, onBatch });
      logger.debug({ outcome, rows, head: String(head) }, 'looked for what is due');
      retry.succeeded();
    } catch (error) {
      if (!signal.aborted) retry.failed(error);
    } finally {
      connection.close();
      connection = undefined;
      if (rows > 0) logger.info({ rows, seconds: secondsSince(started) }, 'pruned');
    }
  }

  async function turns(): Promise<void> {
    while (!signal.aborted) {
      await turn();
      // Jittered, so that relays that were started together do not all come at once.
      await pause(interval * (0.9 + Math.random() / 5), signal);
    }
  }

  const first = openConnection(url);
  try {
    await requireRights(await first.connect());
  } finally {
    first.close();
  }
  const ended = turns();
  return {
    async stop() {
      stopping.abort();
      // A batch that is cut off is rolled back, and is the next run's.
      connection?.close();
      await ended;
    },
  };
}
