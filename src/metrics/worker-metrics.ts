/**
 * Metrics of several workers as one: the primary asks each of them, and adds up what they tell.
 *
 * A worker that stands still or is going holds nobody up: what it last told counts, and it is not asked again before it has answered.
 */
import cluster, { type Worker } from 'node:cluster';
import { AggregatorRegistry, type Registry } from 'prom-client';

/** What one process tells. */
type Told = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

export interface Gathering {
  /** To be told of each worker that there is. */
  add(worker: Worker): void;
  /** What all of them told, as one text to be scraped. */
  text(): Promise<string>;
  readonly contentType: string;
}

const QUESTION = 'outbox-relay:metrics';

/** How long workers may take to answer, in milliseconds, before what they last told is taken: more than a database may, whom they ask. */
const ANSWER_MS = 1500;

interface Answer {
  readonly [QUESTION]: Told;
}

export function createGathering(): Gathering {
  const told = new Map<Worker, Told>();
  /** Those asked that have not answered. */
  const asked = new Set<Worker>();
  let onAnswer: () => void = () => undefined;

  function forget(worker: Worker): void {
    told.delete(worker);
    asked.delete(worker);
    onAnswer();
  }

  function ask(worker: Worker): void {
    asked.add(worker);
    // Told of a line that is cut, nobody has to hear of it as an event, which would end the process.
    worker.send(QUESTION, (error) => {
      if (error) asked.delete(worker);
      onAnswer();
    });
  }

  return {
    contentType: AggregatorRegistry.PROMETHEUS_CONTENT_TYPE,
    add(worker) {
      worker.on('message', (message: unknown) => {
        if (!isAnswer(message)) return;
        told.set(worker, message[QUESTION]);
        asked.delete(worker);
        onAnswer();
      });
      worker.once('exit', () => forget(worker));
    },
    async text() {
      for (const worker of Object.values(cluster.workers ?? {})) {
        if (worker?.isConnected() && !asked.has(worker)) ask(worker);
      }
      if (asked.size > 0) {
        await new Promise<void>((done) => {
          const late = setTimeout(done, ANSWER_MS);
          onAnswer = () => {
            if (asked.size > 0) return;
            clearTimeout(late);
            done();
          };
        });
      }
      return AggregatorRegistry.aggregate([...told.values()]).metrics();
    },
  };
}

/** In a worker: answers the primary with what `registry` has. */
export function answerGathering(registry: Registry): void {
  if (!cluster.isWorker) return;
  process.on('message', (message) => {
    if (message !== QUESTION) return;
    registry.getMetricsAsJSON().then(
      (told) => {
        const answer: Answer = { [QUESTION]: told };
        // The primary may have gone meanwhile; unheard, that would end this process before its time.
        if (process.connected) process.send?.(answer, undefined, undefined, () => undefined);
      },
      // It then counts with what it last told.
      () => undefined,
    );
  });
}

function isAnswer(message: unknown): message is Answer {
  return typeof message === 'object' && message !== null && QUESTION in message;
}
