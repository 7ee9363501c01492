/**
 * Standard output, for commands that print for as long as they run: they wait for a reader that is
 * slow, and end with one that is gone, which is no failure.
 */
import { once } from 'node:events';

export interface Output {
  /** Resolves when there is room for more, or nobody reads any more. */
  print(text: string): Promise<void>;
  /** Aborted once whoever has read stops reading, as `head` does. */
  readonly left: AbortSignal;
}

export function openOutput(): Output {
  const { stdout } = process;
  const left = new AbortController();
  // Of any other failure main.ts hears, too.
  stdout.once('error', () => left.abort());
  return {
    left: left.signal,
    async print(text) {
      if (left.signal.aborted || stdout.write(text)) return;
      await once(stdout, 'drain', { signal: left.signal }).catch(() => undefined);
    },
  };
}
