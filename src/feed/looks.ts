/**
 * Looks: callers who wait for a read, each for one that began after the call.
 *
 * | look     | meaning                                | leaves when                                  |
 * |----------|----------------------------------------|----------------------------------------------|
 * | asked    | it waits for the next read             | a read begins (answered), or it is refused   |
 * | begun    | the read that answers it is under way  | nothing follows (answered), or it is refused |
 * | answered | -                                      | never                                        |
 */

/** What a look found. */
export interface Look {
  /** How many events were new since the look before. */
  readonly events: number;
  readonly isHeld: boolean;
}

export interface Looks {
  /** Rejects with what it is refused with. */
  ask(): Promise<Look>;
  /** A read begins, which sees what was committed before. */
  begin(): void;
  found(events: number): void;
  /** Nothing follows what was read. */
  answer(isHeld: boolean): void;
  /** Refuses all. */
  refuse(error: unknown): void;
}

interface Waiter {
  readonly resolve: (look: Look) => void;
  readonly reject: (error: unknown) => void;
}

export function createLooks(): Looks {
  const asked: Waiter[] = [];
  const begun: Waiter[] = [];
  /** How many events have been found since a look was answered. */
  let found = 0;

  return {
    ask: () => new Promise((resolve, reject) => asked.push({ resolve, reject })),
    begin() {
      begun.push(...asked.splice(0));
    },
    found(events) {
      found += events;
    },
    answer(isHeld) {
      if (begun.length === 0) return;
      for (const { resolve } of begun.splice(0)) resolve({ events: found, isHeld });
      found = 0;
    },
    refuse(error) {
      for (const { reject } of [...begun.splice(0), ...asked.splice(0)]) reject(error);
    },
  };
}
