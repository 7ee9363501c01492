/**
 * A stream of a relay that is followed for as long as somebody wants it, through restarts and
 * breaks: each connection starts at the cursor that the one before has brought, so nothing is
 * missed and nothing comes twice.
 *
 * | state      | meaning                             | leaves when                      |
 * |------------|-------------------------------------|----------------------------------|
 * | connecting | the request is under way            | headers are there (open); it     |
 * |            |                                     | fails (waiting, failed)          |
 * | open       | frames arrive                       | it breaks, or is silent for too  |
 * |            |                                     | long (waiting)                   |
 * | waiting    | a pause: what the relay asked for,  | it is over (connecting)          |
 * |            | or longer                           |                                  |
 * | failed     | a refusal, or nobody there at the   | never                            |
 * |            | first try                           |                                  |
 */
import { setTimeout as delay } from 'node:timers/promises';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { OperatorError, isOperatorError } from '../../operator-error.js';
import { oneLine } from '../terminal/terminal-text.js';
import { askRelay } from './request.js';

export interface FollowOptions {
  /** The relay's address. */
  readonly url: string;
  readonly channels: readonly string[];
  /** Names of events; none: all. */
  readonly events: readonly string[];
  /** Where to start: a cursor, `earliest` or `now`; or a time. */
  readonly from: { readonly cursor: string } | { readonly since: string };
  readonly token: () => Promise<string | undefined>;
  readonly signal: AbortSignal;
  /** Told once when a connection is lost, and once when it is there again. */
  readonly onChange: (state: { readonly lost: string } | 'back') => void;
}

export type Received =
  | { readonly kind: 'event'; readonly id: string; readonly event: string; readonly data: string }
  | { readonly kind: 'open' }
  | { readonly kind: 'reset'; readonly reason: string; readonly lastEventId: string; readonly cursor: string };

/** Most that an event may take: 16 MiB of data, each byte of which may be six in JSON. */
const MAX_EVENT_CHARACTERS = 128 * 1024 * 1024;
/** Time for the headers of an answer. */
const CONNECT_TIMEOUT_MS = 30_000;
/** Silence that a connection may keep before it is told how often it beats. */
const FIRST_SILENCE_MS = 60_000;
/** A connection that misses so many heartbeats is dead. */
const HEARTBEATS_MISSED = 2.5;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

/**
 * Ends when the signal is aborted.
 *
 * @throws OperatorError `relay-refused`; `relay-unreachable` where it never was there
 */
export async function* follow(options: FollowOptions): AsyncGenerator<Received> {
  const { url, signal, onChange } = options;
  let cursor: string | undefined;
  let retryMs = FIRST_PAUSE_MS;
  let failures = 0;
  let isLost = false;
  while (!signal.aborted) {
    let ending = 'the stream ended';
    try {
      for await (const message of connection(options, cursor, (ms) => (retryMs = ms))) {
        const isFirst = cursor === undefined;
        cursor = message.id ?? cursor;
        failures = 0;
        if (isLost) onChange('back');
        isLost = false;
        if (message.event === 'stream-pause') ending = pauseText(message.data) ?? ending;
        const received = read(message, cursor ?? '');
        if (received && (received.kind !== 'open' || isFirst)) yield received;
      }
      throw new OperatorError('relay-unreachable', `${url}: ${ending}.`);
    } catch (error) {
      if (isAborted(signal)) return;
      // Who was never there is mistyped more often than restarted.
      if (!isOperatorError(error, 'relay-unreachable') || cursor === undefined) throw error;
      if (!isLost) onChange({ lost: error.message });
      isLost = true;
      const pause = Math.min(LONGEST_PAUSE_MS, Math.max(retryMs, FIRST_PAUSE_MS * 2 ** Math.min(failures, 10)));
      failures += 1;
      await delay(pause * (0.75 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    }
  }
}

/** A function, so that no earlier look at the signal is taken for this one. */
const isAborted = ({ aborted }: AbortSignal) => aborted;

async function* connection(
  { url, channels, events, from, token, signal }: FollowOptions,
  cursor: string | undefined,
  onRetry: (milliseconds: number) => void,
): AsyncGenerator<EventSourceMessage> {
  const address = new URL(`${url}/events`);
  for (const channel of channels) address.searchParams.append('channel', channel);
  for (const name of events) address.searchParams.append('event', name);
  address.searchParams.set('format', 'envelope');
  const start = cursor ?? ('cursor' in from ? from.cursor : undefined);
  if ('since' in from) address.searchParams.set('since', from.since);
  const bearer = await token();
  const headers: Record<string, string> = {
    Accept: 'text/event-stream',
    ...(start === undefined ? {} : { 'Last-Event-ID': start }),
    ...(bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` }),
  };

  const ended = new AbortController();
  const either = AbortSignal.any([signal, ended.signal]);
  const endAfter = (milliseconds: number, why: string) =>
    setTimeout(() => ended.abort(new OperatorError('relay-unreachable', why)), milliseconds);
  const late = endAfter(CONNECT_TIMEOUT_MS, `No answer from ${url} within ${CONNECT_TIMEOUT_MS / 1000} s.`);
  try {
    const response = await askRelay(address, { headers, signal: either });
    clearTimeout(late);
    const type = response.headers.get('Content-Type') ?? '';
    if (!/^text\/event-stream\b/i.test(type)) {
      throw new OperatorError('relay-refused', `${url} is no relay's address: it answers with no event stream.`);
    }
    let silenceMs = FIRST_SILENCE_MS;
    const waiting: EventSourceMessage[] = [];
    let failure: OperatorError | undefined;
    const parser = createParser({
      maxBufferSize: MAX_EVENT_CHARACTERS,
      onRetry,
      onEvent: (message) => waiting.push(message),
      onError({ type }) {
        if (type === 'max-buffer-size-exceeded')
          failure = new OperatorError('relay-refused', `${url} sends what no relay sends: an event that has no end.`);
      },
    });
    const decoder = new TextDecoder();
    const reader = (response.body ?? new ReadableStream<Uint8Array>()).getReader();
    for (;;) {
      // While nothing is read for want of room on the output, silence means nothing.
      const silent = endAfter(silenceMs, `Nothing came from ${url} for ${Math.round(silenceMs / 1000)} s.`);
      const { done, value } = await readChunk(reader, ended.signal, url).finally(() => clearTimeout(silent));
      if (done) return;
      parser.feed(decoder.decode(value, { stream: true }));
      for (let message = waiting.shift(); message; message = waiting.shift()) {
        if (message.event === 'stream-open') silenceMs = silenceOf(message.data) ?? silenceMs;
        yield message;
      }
      if (failure) throw failure;
    }
  } finally {
    clearTimeout(late);
    ended.abort();
  }
}

async function readChunk(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  ended: AbortSignal,
  url: string,
): Promise<{ done: boolean; value?: Uint8Array | undefined }> {
  try {
    return await reader.read();
  } catch (error) {
    ended.throwIfAborted();
    throw new OperatorError('relay-unreachable', `The connection to ${url} broke.`, { cause: error });
  }
}

function silenceOf(data: string): number | undefined {
  const { heartbeatSeconds } = fieldsOf(data);
  return typeof heartbeatSeconds === 'number' ? Math.max(1, heartbeatSeconds) * 1000 * HEARTBEATS_MISSED : undefined;
}

/** Undefined: nothing to be told of. */
function read({ event = 'message', data }: EventSourceMessage, cursor: string): Received | undefined {
  if (!event.startsWith('stream-')) return { kind: 'event', id: cursor, event, data };
  if (event === 'stream-open') return { kind: 'open' };
  if (event !== 'stream-reset') return undefined;
  const { reason, lastEventId } = fieldsOf(data);
  return { kind: 'reset', reason: textOf(reason), lastEventId: textOf(lastEventId), cursor };
}

/** Why a relay ends a stream, as it says itself. */
function pauseText(data: string): string | undefined {
  const { reason, message } = fieldsOf(data);
  if (reason === 'busy') return `the relay is busy. ${oneLine(textOf(message)).slice(0, 300)}`;
  return reason === 'shutdown' ? 'the relay stops' : undefined;
}

const textOf = (value: unknown) => (typeof value === 'string' ? value : '');

function fieldsOf(data: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(data);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
