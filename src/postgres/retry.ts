/**
 * Retry: how long to wait after a failure, and what is told of it meanwhile.
 *
 * Pauses double from the first to the last, and each is cut at random to between half and all of
 * it, so that those who failed together do not come back together. The first failure in a row is
 * logged, and so is the success that ends the row.
 */
/** What goes wrong, and since when. */
export interface Trouble {
  /** The latest error. */
  readonly error: unknown;
  readonly since: Date;
}

export interface Retry {
  /** Undefined after a success, and before the first failure. */
  readonly trouble: Trouble | undefined;
  /** Takes note of a failure. Returns the pause before the next attempt, in ms. */
  failed(error: unknown): number;
  succeeded(): void;
}

export interface RetryOptions {
  readonly firstPauseMs: number;
  readonly longestPauseMs: number;
  /**
   * What the log says at the first failure in a row, and at the success that ends it. Default:
   * nothing is logged.
   */
  readonly log?: {
    readonly logger: Record<'warn' | 'info', (fields: object, message: string) => void>;
    readonly onFailure: string;
    readonly onRecovery: string;
  };
}

export function createRetry({ firstPauseMs, longestPauseMs, log }: RetryOptions): Retry {
  let trouble: Trouble | undefined;
  let pauseMs = firstPauseMs;

  return {
    get trouble() {
      return trouble;
    },
    failed(error) {
      if (trouble === undefined) log?.logger.warn({ err: error }, log.onFailure);
      trouble = { error, since: trouble?.since ?? new Date() };
      const jittered = pauseMs * (0.5 + Math.random() / 2);
      pauseMs = Math.min(pauseMs * 2, longestPauseMs);
      return jittered;
    },
    succeeded() {
      if (trouble === undefined) return;
      const seconds = Math.round((Date.now() - trouble.since.getTime()) / 1000);
      log?.logger.info({ seconds }, log.onRecovery);
      trouble = undefined;
      pauseMs = firstPauseMs;
    },
  };
}
