/**
 * The engine's log on NATS JetStream: one stream with one subject, to which messages are appended
 * where its last sequence is the one that the feeder expects. The server sends each once more to a
 * subject without a stream, for those who listen. There are no consumers, and no ids of messages.
 */
import type { JetStreamManager } from '@nats-io/jetstream';
import type { Msg } from '@nats-io/transport-node';
import type { KeyObject } from 'node:crypto';
import type { Logger } from 'pino';
import { createCodec } from '../engine/codec.js';
import type { EngineLog, LoggedEntry, Unsubscribe } from '../engine/engine-log.js';
import { createSeal } from '../engine/seal.js';
import { codesOf, WRONG_LAST_SEQUENCE } from './api-codes.js';
import { connectToNats, type Connection, type NatsSettings } from './connection.js';
import { readBatch } from './direct-get.js';
import { createEraser } from './erasing.js';
import { createMessages } from './messages.js';
import { createQuestions } from './questions.js';
import { createStoredMessages } from './stored-messages.js';
import { subjectsOf, type Subjects } from './subjects.js';

export interface NatsLogSettings extends NatsSettings {
  /** The name of the stream, and a part of all subjects. */
  readonly stream: string;
  /** See `createSeal`. */
  readonly secret: KeyObject | undefined;
}

export interface NatsLog extends EngineLog {
  readonly connection: Connection;
  readonly manager: JetStreamManager;
  readonly stream: string;
  readonly subjects: Subjects;
}

/** Time for an answer of the servers, or of a feeder: an append that has none may have been made. */
const TIMEOUT_MS = 5000;

/**
 * @param name what the servers call this connection.
 * @throws what `connectToNats` throws. Whether there is a stream is not asked.
 */
export async function openNatsLog(settings: NatsLogSettings, name: string, logger: Logger): Promise<NatsLog> {
  const { stream, secret } = settings;
  const subjects = subjectsOf(stream);
  const connection = await connectToNats(settings, name, logger);
  const { nats, modules } = connection;
  const manager = await modules.jetstream.jetstreamManager(nats, { timeout: TIMEOUT_MS, checkAPI: false });
  const client = manager.jetstream();
  const codec = createCodec(secret);
  const messages = createMessages(createSeal(secret));
  const codeOf = codesOf(modules);
  const stored = createStoredMessages({ manager, stream, subject: subjects.log, codec, codeOf });

  // A copy: the client's buffers are larger, and frames may be kept for long.
  const logged = (sequence: number, data: Uint8Array): LoggedEntry => ({
    sequence: BigInt(sequence),
    entry: codec.decode(Buffer.from(data)),
  });

  return {
    connection,
    manager,
    stream,
    subjects,
    tip: stored.tip,
    find: stored.find,
    ...createEraser({ manager, stream, stored, codeOf }),
    ...createQuestions({ nats, subjects, messages, timeoutMs: TIMEOUT_MS, listen }),

    async append(entry, expecting) {
      try {
        const expect = { lastSequence: Number(expecting), streamName: stream };
        const { seq } = await client.publish(subjects.log, codec.encode(entry), { expect, timeout: TIMEOUT_MS });
        return BigInt(seq);
      } catch (error) {
        if (WRONG_LAST_SEQUENCE.includes(codeOf(error) ?? 0)) return undefined;
        throw error;
      }
    },

    async read(after) {
      const found = await readBatch(nats, stream, Number(after) + 1, modules.transport.createInbox());
      return found.map(({ sequence, data }) => logged(sequence, data));
    },

    live: (callback) =>
      listen(subjects.live, ({ headers, data }) => {
        const sequence = headers?.get('Nats-Sequence') ?? '';
        // Without one it was not sent by the server.
        if (/^\d{1,15}$/.test(sequence)) callback(logged(Number(sequence), data));
      }),

    beats: (callback) =>
      listen(subjects.beat, ({ data }) => {
        const beat = messages.readBeat(data);
        if (beat) callback(beat);
      }),

    async beat(beat) {
      nats.publish(subjects.beat, messages.writeBeat(beat));
      await nats.flush();
    },

    get trouble() {
      return connection.trouble;
    },
    onConnect: connection.onConnect,
    close: connection.close,
  };

  function listen(subject: string, callback: (message: Msg) => void, queue?: string): Unsubscribe {
    const subscription = nats.subscribe(subject, {
      ...(queue === undefined ? {} : { queue }),
      callback(error, message) {
        if (error)
          logger.error({ err: error, subject }, 'NATS refuses what this process has to hear; see its permissions');
        else callback(message);
      },
    });
    return () => subscription.unsubscribe();
  }
}
