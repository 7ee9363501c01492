/**
 * The stream: what it has to be like for feeders and relays, how it is made, and what is wrong with
 * one that is there. Somebody else may have made it, or changed it since.
 */
import type { StreamConfig, StreamInfo } from '@nats-io/jetstream';
import { commandLine } from '../command-name.js';
import { OperatorError } from '../operator-error.js';
import type { NatsLog } from './nats-log.js';

/** How a stream is made. */
export interface StreamOptions {
  /** How many servers have a copy. */
  readonly replicas: number;
  readonly maxBytes: number;
  readonly maxAgeSeconds: number;
}

export const STREAM_DEFAULTS: StreamOptions = { replicas: 1, maxBytes: 1024 ** 3, maxAgeSeconds: 3600 };

/**
 * The least that a stream keeps: a relay that was away for a moment, and one that begins, read from
 * it what they would else read from PostgreSQL, all at the same time.
 */
const LEAST_BYTES = 64 * 1024 ** 2;
const LEAST_AGE_SECONDS = 60;

/** The largest message: an entry of `RUN_BYTES`, or one with a long list of redactions. */
const LEAST_MESSAGE_BYTES = 1024 ** 2;

const NANOSECONDS = 1_000_000_000;

/** Something that is not as it has to be. */
export interface Misfit {
  readonly what: string;
  /** What to run; undefined: the stream has to be made anew. */
  readonly fix: string | undefined;
}

/** Undefined: there is no stream of that name. @throws what NATS throws. */
export async function readStream(
  log: Pick<NatsLog, 'manager' | 'stream' | 'connection'>,
): Promise<StreamInfo | undefined> {
  const { JetStreamApiCodes, JetStreamApiError } = log.connection.modules.jetstream;
  try {
    return await log.manager.streams.info(log.stream);
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound) return undefined;
    throw error;
  }
}

/** Makes the stream. @throws OperatorError `unfit-stream` where the servers refuse it as it is asked for. */
export async function makeStream(log: NatsLog, options: StreamOptions): Promise<StreamInfo> {
  const { modules } = log.connection;
  try {
    return await log.manager.streams.add(configOf(log, options));
  } catch (error) {
    if (!(error instanceof modules.jetstream.JetStreamApiError)) throw error;
    const advice = 'Try fewer --replicas than there are servers, or less in --max-bytes';
    throw new OperatorError(
      'unfit-stream',
      `NATS does not make the stream ${log.stream}: ${error.message}. ${advice}.`,
      {
        cause: error,
      },
    );
  }
}

function configOf({ stream, subjects }: NatsLog, options: StreamOptions) {
  return {
    name: stream,
    description: 'the newest part of the outbox, as outbox-relay feed appends it',
    subjects: [subjects.log],
    retention: 'limits',
    storage: 'file',
    discard: 'old',
    num_replicas: options.replicas,
    max_bytes: options.maxBytes,
    max_age: options.maxAgeSeconds * NANOSECONDS,
    max_msgs: -1,
    max_msgs_per_subject: -1,
    max_msg_size: -1,
    // No message has an id to be told apart by.
    duplicate_window: NANOSECONDS,
    allow_direct: true,
    republish: { src: subjects.log, dest: subjects.live },
    deny_delete: false,
    deny_purge: false,
  } satisfies Partial<Record<keyof StreamConfig, unknown>> as Partial<StreamConfig> & { name: string };
}

/** Everything that keeps the stream from serving; empty: it is fit. */
export function misfitsOf(
  { config, state }: Pick<StreamInfo, 'config' | 'state'>,
  log: Pick<NatsLog, 'subjects' | 'stream'>,
): Misfit[] {
  const { subjects, stream } = log;
  const found: Misfit[] = [];
  const edit = (flags: string) => `nats stream edit ${stream} ${flags}`;
  const check = (isFit: boolean, what: string, fix?: string) => {
    if (!isFit) found.push({ what, fix });
  };
  check(
    config.subjects.length === 1 && config.subjects[0] === subjects.log,
    `it has the subjects ${config.subjects.join(', ')}, and has to have ${subjects.log} alone`,
    edit(`--subjects ${subjects.log}`),
  );
  const { republish } = config;
  check(
    republish?.dest === subjects.live && !republish.headers_only && [subjects.log, '>'].includes(republish.src),
    `it does not send each message once more to ${subjects.live}, where relays listen`,
    edit(`--republish-source ${subjects.log} --republish-destination ${subjects.live}`),
  );
  check(config.allow_direct, 'it does not allow direct gets, by which relays read it', edit('--allow-direct'));
  check((config.retention as string) === 'limits', `its retention is ${config.retention}, and has to be limits`);
  check((config.discard as string) === 'old', 'it refuses new messages where it is full', edit('--discard old'));
  check(!config.sealed, 'it is sealed: nothing can be appended');
  check(!config.deny_delete, 'it denies deletion, so that what is redacted stays in it');
  check(!config.deny_purge, 'it denies purging, so that what is redacted stays in it');
  check(config.mirror === undefined && !config.sources?.length, 'it is a copy of another stream: feed that one');
  check(
    config.max_msg_size === -1 || config.max_msg_size >= LEAST_MESSAGE_BYTES,
    `its messages may have ${config.max_msg_size} bytes, and entries have up to ${LEAST_MESSAGE_BYTES}`,
    edit('--max-msg-size=-1'),
  );
  check(
    config.max_msgs === -1 && config.max_msgs_per_subject === -1,
    'it is bounded in messages, and not only in bytes and age',
    edit('--max-msgs=-1 --max-msgs-per-subject=-1'),
  );
  check(
    config.max_bytes === -1 || config.max_bytes >= LEAST_BYTES,
    `it keeps ${config.max_bytes} bytes, and ${LEAST_BYTES} (64 MiB) is the least`,
    edit(`--max-bytes ${STREAM_DEFAULTS.maxBytes}`),
  );
  check(
    config.max_age === 0 || config.max_age >= LEAST_AGE_SECONDS * NANOSECONDS,
    `it keeps messages for ${config.max_age / NANOSECONDS} seconds, and ${LEAST_AGE_SECONDS} is the least`,
    edit(`--max-age ${STREAM_DEFAULTS.maxAgeSeconds}s`),
  );
  check(state.last_seq < Number.MAX_SAFE_INTEGER, 'its sequences are larger than this version can tell apart');
  return found;
}

/** The stream, where it is there and fit. @throws OperatorError `no-stream`, `unfit-stream` */
export async function requireStream(log: NatsLog): Promise<StreamInfo> {
  const info = await readStream(log);
  if (info === undefined) {
    throw new OperatorError(
      'no-stream',
      `NATS has no stream ${log.stream}. Make it once, with the settings of the feeder: ${commandLine('feed --setup')}`,
    );
  }
  const misfits = misfitsOf(info, log);
  if (misfits.length > 0) throw new OperatorError('unfit-stream', unfitText(log.stream, misfits));
  return info;
}

export function unfitText(stream: string, misfits: readonly Misfit[]): string {
  const anew = `has to be made anew: nats stream rm ${stream}, and then ${commandLine('feed --setup')}. Relays go on from PostgreSQL`;
  const lines = misfits.map(({ what, fix }) => `  ${what}\n    ${fix ?? anew}`);
  return `The stream ${stream} is not as feeders and relays need it:\n${lines.join('\n')}`;
}

/** What its settings are, in words. */
export function streamText({ config, state }: StreamInfo): string {
  const age = config.max_age === 0 ? 'for ever' : `for ${config.max_age / NANOSECONDS} seconds`;
  const bytes = config.max_bytes === -1 ? 'without a bound in bytes' : `up to ${config.max_bytes} bytes`;
  const copies = `${config.num_replicas} ${config.num_replicas === 1 ? 'copy' : 'copies'}`;
  return `${copies} on ${config.storage}, kept ${age}, ${bytes}; ${state.messages} messages`;
}
