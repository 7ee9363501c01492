/**
 * Signals to a command that runs for a while.
 */

/** Exit code of what was broken off by Ctrl-C or SIGTERM before it was done, as shells have it. */
export const INTERRUPTED = 130;

/** @returns a signal that SIGINT and SIGTERM abort; a second one ends the process at once. */
export function interruption(): AbortSignal {
  const asked = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (asked.signal.aborted) process.exit(INTERRUPTED);
      asked.abort();
    });
  }
  return asked.signal;
}
