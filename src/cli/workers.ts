/**
 * Workers: several relay processes on one port, to use several cores. The primary process only starts, restarts and stops
 * them and gathers their metrics; every worker is a whole relay, with a window and database connections of its own.
 *
 * | worker    | meaning                                      | leaves when                                          |
 * |-----------|----------------------------------------------|------------------------------------------------------|
 * | starting  | forked                                       | it serves, or ends: the first to end so fails the start |
 * | serving   | takes its share of new connections           | it ends (replaced after a pause) or all are stopped  |
 * | stopping  | told to stop                                 | it has ended                                         |
 */
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import type { Logger } from 'pino';
import { kept } from '../metrics/kept.js';
import { METRICS_PATH, serveMetrics } from '../http/metrics-route.js';
import { createGathering } from '../metrics/worker-metrics.js';

export interface WorkersOptions {
  readonly count: number;
  readonly host: string;
  /** Where the metrics of all together are served; undefined: nowhere. */
  readonly metricsPort: number | undefined;
  readonly shutdownSeconds: number;
  readonly logger: Logger;
}

export interface Workers {
  /** Stops all, each in its own time. Safe to call twice. */
  stop(): Promise<void>;
}

/** A worker ended before it served. It has said why itself. */
export class WorkerError extends Error {
  override readonly name = 'WorkerError';
}

/** How old the metrics of all may be, in milliseconds: workers are asked once in so long at most. */
const METRICS_KEPT = 1000;

/** Pause before a worker that ended is replaced, in milliseconds: one that ends at once must not be forked all the time. */
const REPLACE_PAUSE = 1000;

/** Starts them all. @throws WorkerError when one of them cannot start. */
export async function startWorkers(options: WorkersOptions): Promise<Workers> {
  const { count, metricsPort, logger } = options;
  // Workers take connections off the one socket by themselves. By default the primary hands them out, and one on its way to a
  // worker that dies stays open, its client waiting in silence.
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  let stopping = false;
  const gathering = createGathering();
  const workers = new Set<Worker>();
  /** Of workers that are about to be replaced. */
  const pauses = new Set<NodeJS.Timeout>();

  function fork(): Promise<void> {
    return new Promise((serving, failed) => {
      const worker = cluster.fork();
      workers.add(worker);
      gathering.add(worker);
      // Unheard, it would end this process.
      worker.on('error', (error) => {
        logger.warn({ err: error, worker: worker.id }, 'a worker cannot be made, or reached');
        // What was never made does not exit.
        if (worker.process.pid === undefined) worker.emit('exit', null, null);
      });
      worker.on('message', (message) => {
        if (message === 'serving') serving();
      });
      worker.once('exit', (code, signal) => {
        workers.delete(worker);
        failed(new WorkerError('A worker could not start: see above.'));
        if (stopping) return;
        logger.error({ worker: worker.id, code, signal }, 'a worker ended; starting another');
        replace();
      });
    });
  }

  function replace(): void {
    const pause = setTimeout(() => {
      pauses.delete(pause);
      fork().catch((error: unknown) => {
        // One that can't start has said why, and is followed by the next.
        if (error instanceof WorkerError) return;
        logger.error({ err: error }, 'a worker cannot be made; trying again');
        replace();
      });
    }, REPLACE_PAUSE);
    pauses.add(pause);
  }

  async function stop(): Promise<void> {
    stopping = true;
    for (const pause of pauses) clearTimeout(pause);
    await metrics?.close();
    await Promise.all(
      [...workers].map(async (worker) => {
        const gone = once(worker, 'exit');
        // Not a message: one that has only been forked would not hear it, serve, and be waited for in vain.
        worker.process.kill('SIGTERM');
        await gone;
      }),
    );
  }

  const metrics =
    metricsPort === undefined
      ? undefined
      : await serveMetrics(
          { text: kept(gathering.text, METRICS_KEPT), contentType: gathering.contentType },
          { ...options, port: metricsPort },
        );
  if (metrics) logger.info({ url: metrics.url + METRICS_PATH }, 'metrics');
  try {
    await Promise.all(Array.from({ length: count }, fork));
  } catch (error) {
    await stop();
    throw error;
  }
  logger.info({ workers: count }, 'all workers serve');
  return { stop };
}

/** In a worker: tells the primary that it serves. */
export function tellServing(): void {
  // The primary may have gone meanwhile: its going is heard by `toldToStop`.
  if (cluster.isWorker) process.send?.('serving', undefined, undefined, () => undefined);
}

/** In a worker: lets the process end, which the line to the primary would keep alive. */
export function hangUp(): void {
  if (cluster.isWorker && process.connected) process.disconnect();
}

/** In a worker: resolves when it is told to stop, or when its primary is gone. */
export function toldToStop(): Promise<string> {
  return new Promise((resolve) => {
    process.on('disconnect', () => resolve('disconnect'));
    process.on('SIGTERM', () => resolve('SIGTERM'));
    // A terminal sends it to all processes; the primary then tells us.
    process.on('SIGINT', () => undefined);
  });
}
