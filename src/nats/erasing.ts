/**
 * Erasing entries from the disks of JetStream, one by one or all up to a sequence.
 */
import type { JetStreamManager } from '@nats-io/jetstream';
import type { EngineLog } from '../engine/engine-log.js';
import { DELETE_FAILED, NO_MESSAGE, SEQUENCE_NOT_FOUND, type CodeOf } from './api-codes.js';
import type { StoredMessages } from './stored-messages.js';

export interface EraserParts {
  readonly manager: JetStreamManager;
  readonly stream: string;
  readonly stored: Pick<StoredMessages, 'bounds' | 'message'>;
  readonly codeOf: CodeOf;
}

/**
 * A purge drops files that have nothing else, and leaves the bytes of what is dropped in a file
 * that has more. So the last of what it drops is overwritten first, message by message: more than
 * fit into one file, unless they are tiny.
 */
const MOST_ERASED = 20_000n;
const ERASED_AT_A_TIME = 16;

export function createEraser({ manager, stream, stored, codeOf }: EraserParts): Pick<EngineLog, 'erase' | 'purge'> {
  /** Several at a time: each waits for the disks of all that have a copy. */
  async function erase(sequences: Iterator<bigint>): Promise<void> {
    await Promise.all(
      Array.from({ length: ERASED_AT_A_TIME }, async () => {
        for (let next = sequences.next(); !next.done; next = sequences.next()) await eraseOne(Number(next.value));
      }),
    );
  }

  async function eraseOne(seq: number): Promise<void> {
    try {
      await manager.streams.deleteMessage(stream, seq, true);
    } catch (error) {
      if (![NO_MESSAGE, SEQUENCE_NOT_FOUND, DELETE_FAILED].includes(codeOf(error) ?? 0)) throw error;
      if (await stored.message({ seq })) throw error;
    }
  }

  return {
    erase: (sequences) => erase(sequences.values()),
    async purge(end) {
      const { first } = await stored.bounds();
      await erase(sequencesBetween(first > end - MOST_ERASED ? first : end - MOST_ERASED + 1n, end));
      await manager.streams.purge(stream, { seq: Number(end) + 1 });
    },
  };
}

function* sequencesBetween(first: bigint, last: bigint): Generator<bigint, undefined, undefined> {
  for (let sequence = first; sequence <= last; sequence += 1n) yield sequence;
}
