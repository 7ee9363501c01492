/**
 * A compressed body: what a stream that its client has as gzip writes, flushed with each write, so
 * that nothing waits inside for what comes next.
 *
 * It can't be shared, since what is written depends on all that went before: each stream has a
 * window of its own, of some 120 kB with what is around it, and each delivery costs some 17
 * microseconds. So its client is taken to be busy until all that it was given has gone out: at most
 * a page and what the relay has to say wait inside.
 */
import { constants, createGzip } from 'node:zlib';

/** Small windows and tables: events of one stream resemble those just before. */
const OPTIONS = { flush: constants.Z_SYNC_FLUSH, windowBits: 12, memLevel: 5, chunkSize: 4096 };

export interface CompressedBody {
  /** Whether something has yet to go out. */
  readonly isBusy: boolean;
  write(frames: Buffer): void;
  /** Lets go of its memory. Safe to call twice. */
  close(): void;
}

/**
 * @param onOutput called with what all writes up to now have come to, when none is left inside.
 * @param onError called where it can't go on.
 */
export function createCompressedBody(onOutput: (bytes: Buffer) => void, onError: () => void): CompressedBody {
  const gzip = createGzip(OPTIONS);
  let output: Buffer[] = [];
  let pending = 0;
  gzip.on('data', (bytes: Buffer) => output.push(bytes));
  gzip.on('error', onError);

  function written(error?: Error | null): void {
    pending -= 1;
    if (error || pending > 0 || gzip.destroyed) return;
    const bytes = Buffer.concat(output);
    output = [];
    onOutput(bytes);
  }

  return {
    get isBusy() {
      return pending > 0;
    },
    write(frames) {
      if (gzip.destroyed) return;
      pending += 1;
      gzip.write(frames, written);
    },
    close: () => void gzip.destroy(),
  };
}
