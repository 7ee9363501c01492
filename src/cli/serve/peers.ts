/**
 * Peers: how the workers of a relay are asked together. A worker asks the primary, which asks all
 * of them; one that hangs delays nobody for long, and what it answered last to the same question
 * counts.
 *
 *     worker ── ask ─▶ primary ── question ─▶ each worker ── answer ─▶ primary ── answers ─▶ worker
 */
import type { Worker } from 'node:cluster';
import { LRUCache } from 'lru-cache';
import type { Answer, Answerer, Gathered, Peers, Question } from '../../console/question.js';

/** Time workers have to answer: longer than going through a hundred thousand connections takes. */
const ANSWER_TIMEOUT_MS = 1000;
/** Time the primary has: a little more. */
const GATHER_TIMEOUT_MS = 2 * ANSWER_TIMEOUT_MS;
/** Questions that a worker has yet to answer, beyond which it is asked nothing. */
const MOST_PENDING = 16;
/** Last answers that are kept of each worker. */
const KEPT_ANSWERS = 16;

/** Kinds of messages, in both directions. */
const KINDS = {
  ask: 'outbox-relay:ask',
  question: 'outbox-relay:question',
  answer: 'outbox-relay:answer',
  answers: 'outbox-relay:answers',
} as const;

interface Message<T> {
  readonly kind: string;
  readonly n: number;
  readonly body: T;
}

/** @returns undefined where it is none of that kind */
function readMessage<T>(message: unknown, kind: string): Message<T> | undefined {
  const isOurs = typeof message === 'object' && message !== null && (message as { kind?: unknown }).kind === kind;
  return isOurs ? (message as Message<T>) : undefined;
}

/** In the primary. */
export interface WorkerPeers extends Peers {
  add(worker: Worker): void;
}

interface Crewman {
  readonly worker: Worker;
  /** By the number of the question. */
  readonly pending: Map<number, (answer: Answer | undefined) => void>;
  readonly last: LRUCache<string, Answer>;
}

/** @param count how many workers there are to be. */
export function gatherAnswers(count: number): WorkerPeers {
  const crew = new Map<Worker, Crewman>();
  let n = 0;

  /** Resolves with undefined where there is none in time. */
  function askOne({ worker, pending }: Crewman, question: Question): Promise<Answer | undefined> {
    if (!worker.isConnected() || pending.size >= MOST_PENDING) return Promise.resolve(undefined);
    n += 1;
    const number = n;
    return new Promise((resolve) => {
      // It stays pending: whoever hangs is not asked without an end.
      const late = setTimeout(() => resolve(undefined), ANSWER_TIMEOUT_MS);
      pending.set(number, (answer) => {
        clearTimeout(late);
        resolve(answer);
      });
      // With this callback a closed channel is no event, which would end the process.
      worker.send({ kind: KINDS.question, n: number, body: question }, (error) => {
        if (error) settle(pending, number, undefined);
      });
    });
  }

  async function ask(question: Question): Promise<Gathered> {
    // The stamps of refusals grow, and what is asked is still the same.
    const key = JSON.stringify({ ...question, refusalsAfter: undefined });
    let missing = 0;
    const answers = await Promise.all(
      [...crew.values()].map(async (crewman) => {
        const answer = await askOne(crewman, question);
        if (answer) crewman.last.set(key, answer);
        else missing += 1;
        return answer ?? crewman.last.get(key);
      }),
    );
    return { answers: answers.filter((answer) => answer !== undefined), missing };
  }

  return {
    count,
    ask,
    add(worker) {
      const crewman: Crewman = { worker, pending: new Map(), last: new LRUCache({ max: KEPT_ANSWERS }) };
      crew.set(worker, crewman);
      worker.on('message', (message: unknown) => {
        const answer = readMessage<Answer>(message, KINDS.answer);
        if (answer) settle(crewman.pending, answer.n, answer.body);
        const asked = readMessage<Question>(message, KINDS.ask);
        if (!asked) return;
        void ask(asked.body).then((gathered) => {
          if (worker.isConnected()) {
            worker.send({ kind: KINDS.answers, n: asked.n, body: gathered }, () => undefined);
          }
        });
      });
      worker.once('exit', () => {
        crew.delete(worker);
        for (const number of [...crewman.pending.keys()]) settle(crewman.pending, number, undefined);
      });
    },
  };
}

function settle<T>(pending: Map<number, (value: T) => void>, n: number, value: T): void {
  const done = pending.get(n);
  pending.delete(n);
  done?.(value);
}

/**
 * In a worker: answers the primary, and asks all workers by way of it.
 *
 * @param send sends to the primary, if it is there.
 */
export function joinWorkers(count: number, answer: Answerer, send: (message: unknown) => void): Peers {
  const pending = new Map<number, (gathered: Gathered | undefined) => void>();
  let n = 0;

  process.on('message', (message: unknown) => {
    const question = readMessage<Question>(message, KINDS.question);
    if (question) {
      answer(question.body).then(
        (body) => send({ kind: KINDS.answer, n: question.n, body }),
        // Nobody waits for long, and the next question may go better.
        () => send({ kind: KINDS.answer, n: question.n, body: undefined }),
      );
    }
    const answers = readMessage<Gathered>(message, KINDS.answers);
    if (answers) settle(pending, answers.n, answers.body);
  });

  return {
    count,
    async ask(question) {
      n += 1;
      const number = n;
      const late = setTimeout(() => settle(pending, number, undefined), GATHER_TIMEOUT_MS);
      const gathered = await new Promise<Gathered | undefined>((resolve) => {
        pending.set(number, resolve);
        send({ kind: KINDS.ask, n: number, body: question });
      });
      clearTimeout(late);
      // The primary is going, or hangs: what this one knows is better than nothing.
      return gathered ?? { answers: [await answer(question)], missing: count - 1 };
    },
  };
}
