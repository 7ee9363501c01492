/**
 * What JetStream has stored of the log: its bounds, its messages one by one, its newest entry, and
 * where to read on from. All but the search is read from the stream's leader.
 */
import type { JetStreamManager, StoredMsg } from '@nats-io/jetstream';
import type { Codec } from '../engine/codec.js';
import type { EngineReader } from '../engine/engine-log.js';
import { through } from '../engine/entry.js';
import { NO_MESSAGE, type CodeOf } from './api-codes.js';

export interface StoredMessages extends Pick<EngineReader, 'tip' | 'find'> {
  /** Sequences of the oldest message that is there, and of the newest that there ever was. */
  bounds(): Promise<{ readonly first: bigint; readonly last: bigint }>;
  /** The message with that sequence; undefined: there is none any more. Asks the leader. */
  message(query: { seq: number } | { last_by_subj: string }): Promise<StoredMsg | undefined>;
}

export interface StoredMessagesParts {
  readonly manager: JetStreamManager;
  readonly stream: string;
  /** The subject of entries. */
  readonly subject: string;
  readonly codec: Pick<Codec, 'decode'>;
  readonly codeOf: CodeOf;
}

/** Most messages at the end of the stream that are looked at for one that can be read. */
const MOST_UNREADABLE = 64;

export function createStoredMessages(parts: StoredMessagesParts): StoredMessages {
  const { manager, stream, subject, codec, codeOf } = parts;

  async function bounds() {
    const { state } = await manager.streams.info(stream);
    return { first: BigInt(state.first_seq), last: BigInt(state.last_seq) };
  }

  async function message(query: Parameters<StoredMessages['message']>[0]): Promise<StoredMsg | undefined> {
    try {
      return (await manager.streams.getMessage(stream, query)) ?? undefined;
    } catch (error) {
      if (codeOf(error) === NO_MESSAGE) return undefined;
      throw error;
    }
  }

  async function tip(): ReturnType<StoredMessages['tip']> {
    const { first, last } = await bounds();
    const newest = await message({ last_by_subj: subject });
    if (newest === undefined) return { sequence: last, entry: undefined, unreadable: 0 };
    const sequence = BigInt(newest.seq) > last ? BigInt(newest.seq) : last;
    let unreadable = 0;
    for (let at = newest.seq, found: StoredMsg | undefined = newest; unreadable < MOST_UNREADABLE;) {
      const entry = found && codec.decode(found.data);
      if (entry) return { sequence, entry, unreadable };
      if (found) unreadable += 1;
      at -= 1;
      if (at < Number(first) || newest.seq - at > MOST_UNREADABLE) break;
      found = await message({ seq: at });
    }
    return { sequence, entry: undefined, unreadable };
  }

  async function find(position: bigint): Promise<bigint> {
    const { entry: newest } = await tip();
    const { first, last } = await bounds();
    if (newest === undefined) return last;
    const isBeyond = (bytes: Uint8Array): boolean | undefined => {
      const entry = codec.decode(bytes);
      return entry && entry.epoch === newest.epoch && through(entry).position > position;
    };
    let low = first > 0n ? first - 1n : 0n;
    for (let high = last; low < high;) {
      const middle = (low + high + 1n) / 2n;
      // What can't be read says nothing: the next that can does.
      let next = await firstFrom(middle);
      while (next && BigInt(next.seq) <= high && isBeyond(next.data) === undefined) {
        next = await firstFrom(BigInt(next.seq) + 1n);
      }
      if (next === undefined || BigInt(next.seq) > high || isBeyond(next.data)) high = middle - 1n;
      else low = BigInt(next.seq);
    }
    return low;
  }

  async function firstFrom(sequence: bigint): Promise<StoredMsg | undefined> {
    const query = { seq: Number(sequence), next_by_subj: subject };
    return (await manager.direct.getMessage(stream, query)) ?? undefined;
  }

  return { bounds, message, tip, find };
}
