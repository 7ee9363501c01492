/**
 * A question that many may ask at a time and that is put once: in the turn of whichever asker's
 * comes first, and not at all when all of them have left before.
 */
import type { Turns } from './fair-turns.js';

export interface Question<T> {
  /**
   * Resolves with the answer, or rejects with why there is none.
   *
   * @param who whose turn is waited for
   * @param left aborted when the asker is gone: it then rejects with the signal's reason
   * @throws QueueTooLong when the turn has not come in time
   */
  ask(who: string, left: AbortSignal): Promise<T>;
}

/** There are too many questions before this one. */
export class QueueTooLong extends Error {
  override readonly name = 'QueueTooLong';
}

export interface QuestionOptions<T> {
  readonly turns: Turns;
  /** How long an asker waits for the turn. */
  readonly turnTimeoutMs: number;
  readonly put: () => Promise<T>;
  /**
   * Called once, when there is nothing to be had of it any more: it was answered, or nobody asks.
   */
  readonly onOver: () => void;
}

export function createQuestion<T>({ turns, turnTimeoutMs, put, onOver }: QuestionOptions<T>): Question<T> {
  let isPut = false;
  const hasBeenPut = () => isPut;
  let askers = 0;
  /** By who asks: gives up the turn that is waited for. */
  const tickets = new Map<string, () => void>();
  const answer = new Deferred<T>();

  function start(over: () => void): void {
    // It was put in the turn of another at the same time.
    if (isPut) return over();
    isPut = true;
    withdraw();
    put()
      .then(answer.resolve, answer.reject)
      .finally(() => {
        over();
        onOver();
      });
  }

  function withdraw(): void {
    for (const giveUp of tickets.values()) giveUp();
    tickets.clear();
  }

  function leave(): void {
    askers -= 1;
    // What has been put is waited for: it is work for whoever answers, gone or not, and counts
    // until it is done.
    if (askers > 0 || isPut) return;
    withdraw();
    onOver();
  }

  return {
    ask(who, left) {
      return new Promise((resolve, reject) => {
        askers += 1;
        let isHere = true;
        const end = (): boolean => {
          if (!isHere) return false;
          isHere = false;
          clearTimeout(late);
          left.removeEventListener('abort', onLeft);
          return true;
        };
        const giveUp = (reason: Error) => {
          if (!end()) return;
          leave();
          reject(reason);
        };
        const onLeft = () => giveUp(left.reason as Error);
        const late = setTimeout(() => {
          if (!isPut) giveUp(new QueueTooLong('the turn did not come in time'));
        }, turnTimeoutMs);
        left.addEventListener('abort', onLeft);
        answer.promise.then(
          (value) => end() && resolve(value),
          (error: unknown) => end() && reject(error as Error),
        );
        if (left.aborted) onLeft();
        else if (!isPut && !tickets.has(who)) {
          const withdrawn = turns.wait(who, start);
          // Its turn may have come at once.
          if (!hasBeenPut()) tickets.set(who, withdrawn);
        }
      });
    },
  };
}

class Deferred<T> {
  resolve!: (value: T) => void;
  reject!: (reason: unknown) => void;
  readonly promise = new Promise<T>((resolve, reject) => {
    this.resolve = resolve;
    this.reject = reject;
  });

  constructor() {
    // Whoever asked may have left.
    this.promise.catch(() => undefined);
  }
}
