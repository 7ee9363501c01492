/**
 * Workers: several relay processes that share one port, to use several cores. The primary process
 * starts, replaces and stops them and adds up their metrics; each worker is a whole relay, with its
 * own window and database connections. peers.ts asks them.
 *
 * | worker   | meaning                            | left when                                            |
 * |----------|------------------------------------|------------------------------------------------------|
 * | starting | forked                             | it serves; it exits, and at startup the start fails  |
 * | serving  | takes its share of new connections | it exits, and is replaced; all are stopped           |
 * | stopping | was sent SIGTERM                   | it has exited                                        |
 */
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import type { Logger } from 'pino';
import { AggregatorRegistry, type Registry } from 'prom-client';
import { metricsPages } from '../../console/port.js';
import { serveMetrics } from '../../http/metrics-route.js';
import { METRICS_PATH } from '../../http/paths.js';
import { kept } from '../../metrics/kept.js';
import { openMetricsText, type Report } from '../../metrics/open-metrics.js';
import type { PeerGroup } from '../../observation.js';
import { isOperatorError, OperatorError } from '../../operator-error.js';
import { gatherAnswers, joinWorkers } from './peers.js';
import { isWorker } from './primary.js';

export interface WorkersOptions {
  readonly count: number;
  readonly host: string;
  /** Port for the metrics of all workers together; undefined: they are not served. */
  readonly metricsPort: number | undefined;
  readonly shutdownSeconds: number;
  /** Whether their metrics may have traces. */
  readonly tracing: boolean;
  readonly logger: Logger;
}

export interface Workers {
  /** Sends SIGTERM to all and resolves when all have exited. Safe to call twice. */
  stop(): Promise<void>;
}

/** Largest age of the gathered metrics: workers are asked at most once in this time. */
const METRICS_KEPT_MS = 1000;

/** Time workers have to report metrics: longer than a database has to answer a worker. */
const REPORT_TIMEOUT_MS = 1500;

/** Pause before a worker that exited is replaced, so that one that exits at once is no loop. */
const REPLACE_PAUSE_MS = 1000;

/** Messages between primary and worker. */
const SERVING = 'serving';
const REPORT = 'outbox-relay:metrics';

/**
 * Starts the workers, and resolves when all of them serve.
 *
 * @throws OperatorError `worker-failed` where one exits first; the others are stopped then
 */
export async function startWorkers(options: WorkersOptions): Promise<Workers> {
  const { count, metricsPort, logger } = options;
  // Each worker accepts connections from the shared socket. By default the primary hands them out,
  // and a connection that is on its way to a worker that dies stays open, its client waiting in
  // silence.
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  let stopping = false;
  const reports = gatherReports();
  const peers = gatherAnswers(count);
  const workers = new Set<Worker>();
  const pauses = new Set<NodeJS.Timeout>();

  function fork(): Promise<void> {
    return new Promise((serving, failed) => {
      const worker = cluster.fork();
      workers.add(worker);
      reports.add(worker);
      peers.add(worker);
      // Without a listener the event would end this process.
      worker.on('error', (error) => {
        logger.warn({ err: error, worker: worker.id }, 'a worker cannot be made, or reached');
        // A process that was never made does not exit.
        if (worker.process.pid === undefined) worker.emit('exit', null, null);
      });
      worker.on('message', (message) => {
        if (message === SERVING) serving();
      });
      worker.once('exit', (code, signal) => {
        workers.delete(worker);
        failed(new OperatorError('worker-failed', 'A worker could not start: see above.'));
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
        // It has printed why, and its exit has called `replace` again.
        if (isOperatorError(error, 'worker-failed')) return;
        logger.error({ err: error }, 'a worker cannot be made; trying again');
        replace();
      });
    }, REPLACE_PAUSE_MS);
    pauses.add(pause);
  }

  async function stop(): Promise<void> {
    stopping = true;
    for (const pause of pauses) clearTimeout(pause);
    await metrics?.close();
    await Promise.all(
      [...workers].map(async (worker) => {
        const gone = once(worker, 'exit');
        // A signal and not a message: a worker that was just forked would not get the message, and
        // would serve.
        worker.process.kill('SIGTERM');
        await gone;
      }),
    );
  }

  const metrics =
    metricsPort === undefined
      ? undefined
      : await serveMetrics(
          {
            text: reports.text,
            contentType: AggregatorRegistry.PROMETHEUS_CONTENT_TYPE,
            openText: options.tracing ? reports.openText : undefined,
          },
          { ...options, port: metricsPort },
          { pages: metricsPages(peers) },
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

/**
 * Asks all workers for their metrics and adds them up. A worker that hangs or exits delays nobody:
 * its last report counts, and it is not asked again before it has answered.
 */
function gatherReports(): { add(worker: Worker): void; text(): Promise<string>; openText(): Promise<string> } {
  const latest = new Map<Worker, Report>();
  /** Workers that were asked and have not answered. */
  const asked = new Set<Worker>();
  let onAnswer: () => void = () => undefined;

  function ask(worker: Worker): void {
    asked.add(worker);
    // With this callback a closed channel is no event, which would end the process.
    worker.send(REPORT, (error) => {
      if (error) asked.delete(worker);
      onAnswer();
    });
  }

  /** What was gathered, and each form of it once. There is room for one who waits. */
  const gathered = kept(async () => {
    for (const worker of Object.values(cluster.workers ?? {})) {
      if (worker?.isConnected() && !asked.has(worker)) ask(worker);
    }
    if (asked.size > 0) {
      await new Promise<void>((done) => {
        const late = setTimeout(done, REPORT_TIMEOUT_MS);
        onAnswer = () => {
          if (asked.size > 0) return;
          clearTimeout(late);
          done();
        };
      });
    }
    const all = [...latest.values()];
    return {
      text: kept(() => AggregatorRegistry.aggregate(all).metrics(), Infinity),
      openText: kept(() => openMetricsText(all), Infinity),
    };
  }, METRICS_KEPT_MS);

  return {
    add(worker) {
      worker.on('message', (message: unknown) => {
        if (typeof message !== 'object' || message === null || !(REPORT in message)) return;
        latest.set(worker, message[REPORT] as Report);
        asked.delete(worker);
        onAnswer();
      });
      worker.once('exit', () => {
        latest.delete(worker);
        asked.delete(worker);
        onAnswer();
      });
    },
    text: async () => (await gathered()).text(),
    openText: async () => (await gathered()).openText(),
  };
}

/**
 * In a worker: tells the primary that it serves, and answers with its metrics from then on.
 * Elsewhere: does nothing.
 *
 * @param registry the worker's metrics
 */
export function signalReady(registry: Registry): void {
  if (!isWorker) return;
  process.on('message', (message) => {
    // Where that fails, the last report counts.
    if (message === REPORT)
      registry.getMetricsAsJSON().then(
        (report) => send({ [REPORT]: report }),
        () => undefined,
      );
  });
  send(SERVING);
}

/**
 * In a worker: how it is one of `count`. Elsewhere: undefined.
 */
export function workerGroup(count: number): PeerGroup | undefined {
  if (!isWorker) return undefined;
  return { number: cluster.worker?.id ?? 0, join: (answer) => joinWorkers(count, answer, send) };
}

/** Sends to the primary, if it is there; the callback keeps a closed channel from an event. */
function send(message: unknown): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

/** In a worker: resolves with the reason when it is told to stop, or when its primary has gone. */
export function stopRequested(): Promise<string> {
  return new Promise((resolve) => {
    process.on('disconnect', () => resolve('disconnect'));
    process.on('SIGTERM', () => resolve('SIGTERM'));
    // A terminal sends it to all processes; the primary then sends SIGTERM.
    process.on('SIGINT', () => undefined);
  });
}
