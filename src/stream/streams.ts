/**
 * All streams of a relay: opens them where their clients want to start, counts them, and ends them
 * together.
 */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { Budget } from './page-budget.js';
import { BREAK_OFF_MS, chunkOf } from '../event/chunk.js';
import { startDeadlines } from './deadlines.js';
import { createFlow, type Flow } from './fair-queue.js';
import { createWindowPages } from './window-pages.js';
import type { Heartbeat } from './heartbeat.js';
import type { History } from './history.js';
import type { Log } from '../feed/log.js';
import { createResumes } from './repeated-resumes.js';
import { encodeControl, pauseText } from '../event/sse.js';
import { startPoint } from './start-point.js';
import { Stream, type Shared, type StreamRequest, type StreamTotals } from './stream.js';
import { subscribe, type Subscription } from './subscription.js';
import type { Tail } from '../feed/tail.js';
import { createRetry } from '../postgres/retry.js';

/** All streams of a relay. */
export interface Streams {
  readonly count: number;
  readonly totals: Readonly<StreamTotals>;
  /** How many began where a stream of the same client had begun and ended before. */
  readonly repeatedResumes: number;
  /**
   * How many are at the head, on their way there, and waiting for a client that takes nothing more.
   */
  byState(): StreamStates;
  /** Those that are open; others may open and end while one goes through them. */
  all(): Iterable<Stream>;
  /** Takes over a bare socket on which the response's headers have been sent. */
  open(socket: Socket, request: StreamRequest): void;
  /** Ends every stream with a pause of its own for each client; resolves when all are gone. */
  close(deadlineMs: number): Promise<void>;
}

export interface StreamStates {
  readonly live: number;
  readonly catchingUp: number;
  readonly stalled: number;
}

/** At the head, waiting for its client, or else on its way to the head. */
export function stateOf(subscription: Subscription | undefined): keyof StreamStates {
  if (subscription?.parked) return 'live';
  return subscription?.blocked ? 'stalled' : 'catchingUp';
}

export interface StreamSettings {
  /** Of the heartbeat. Clients are told, so that they notice a dead connection. */
  readonly heartbeatSeconds: number;
  readonly retrySeconds: number;
  /** A client that takes nothing for so long, of what it was given, is dropped. */
  readonly stallSeconds: number;
  /** The longest that a stream lives, by four fifths of that or more; 0: for ever. */
  readonly maxConnectionSeconds: number;
}

export interface StreamParts {
  readonly log: Log;
  readonly history: History;
  /** The same in envelopes. Cursors are looked up in the other. */
  readonly envelopes: Pick<History, 'read'>;
  readonly budget: Budget;
  readonly heartbeat: Heartbeat;
  /** Keeps the log free of what was redacted, and knows whether its head is the table's. */
  readonly tail: Pick<Tail, 'isReading' | 'upToDate' | 'trouble'>;
  readonly logger: Pick<Logger, 'debug' | 'warn'>;
}

/** Pauses before a cursor that could not be looked up is looked up again. */
const LOOKUP_PAUSES = { firstPauseMs: 700, longestPauseMs: 700 };

/** To the operator, of a client whose resumes are repeated. */
const STUCK =
  'a client comes back to the same cursor again and again: it may be unable to take the event that follows, as clients whose ' +
  'buffers hold 64 KiB (r3labs/sse, go-sse) are with a larger one: raise their limit, or publish a reference in place of what is ' +
  'large; or its page comes from a cache, with an old cursor in it';

/** On shutdown clients come back after 1 to this many times the usual pause. */
const SHUTDOWN_SPREAD = 3;

export function createStreams(settings: StreamSettings, parts: StreamParts): Streams {
  const { log, history, budget, heartbeat, tail, logger } = parts;
  const histories = {
    data: history,
    envelope: { read: parts.envelopes.read, lookUpCursor: history.lookUpCursor },
  };
  const { heartbeatSeconds } = settings;
  const retry = Math.round(settings.retrySeconds * 1000);
  const streams = new Map<Socket, Stream>();
  let allGone: (() => void) | undefined;
  const deadlines = startDeadlines<Stream>((stream) => stream.meetDeadline());
  const totals: StreamTotals = {
    opened: 0,
    replays: 0,
    events: 0,
    bytes: 0,
    resets: { expired: 0, unknown: 0 },
    ended: { expired: 0, stalled: 0, aged: 0 },
  };
  const shared: Shared = {
    totals,
    heartbeat,
    stallMs: settings.stallSeconds * 1000,
    maxAgeMs: settings.maxConnectionSeconds * 1000,
    closing: false,
    isCurrent: () => tail.trouble === undefined,
    headFrame,
    stillFrame: encodeControl('stream-cursor', { lastEventId: null }, { retry }),
    expiredFrame: encodeControl(
      'stream-error',
      {
        condition: 'expired',
        text: 'The right to these channels has ended. Come back with a fresh one.',
        retryMs: retry,
      },
      { retry },
    ),
    pauseFrame: (reason) => chunkOf(pauseText(reason, retry * (1 + Math.random() * (SHUTDOWN_SPREAD - 1)))),
  };
  const pages = createWindowPages(log);
  const resumes = createResumes((stuck) => logger.warn(stuck, STUCK));
  let cursorFrame: { id: string; frame: Buffer } | undefined;

  function onReadError(error: unknown): void {
    logger.debug({ err: error }, 'a read for one client failed; it is tried again');
  }

  /**
   * Parked streams have all passed the same head, so one frame serves a whole round of heartbeats.
   */
  function headFrame(): Buffer {
    const { id } = log.head;
    if (cursorFrame?.id !== id) {
      cursorFrame = { id, frame: encodeControl('stream-cursor', { lastEventId: id }, { id, retry }) };
    }
    return cursorFrame.frame;
  }

  async function start(stream: Stream, request: StreamRequest): Promise<void> {
    const cursor = await retried(stream, (flow) => startPoint(request.cursor, parts, flow));
    if (cursor === undefined) return;
    const isBehind = cursor.position < log.head.position;
    if (isBehind) totals.replays += 1;
    if (request.cursor.kind === 'id' && (isBehind || cursor.reset)) {
      stream.resume = resumes.begin(request.client, request.filter.key, request.cursor.id);
    }
    // Ahead of a reset no frame may move the client's cursor: cut off in between, it would come
    // back past what it has missed.
    const lastEventId = `${cursor.id}${cursor.exclusions?.suffix ?? ''}`;
    const id = cursor.reset ? undefined : lastEventId;
    const place = { lastEventId, head: log.head.id };
    stream.write(encodeControl('stream-open', { ...place, heartbeatSeconds, retryMs: retry }, { id, retry }));
    if (cursor.reset) stream.reset(cursor.reset.reason, cursor.reset.lastEventId, cursor.id);
    stream.subscription = subscribe({
      log,
      pages,
      history: histories[request.format],
      budget,
      filter: request.filter,
      format: request.format,
      after: cursor,
      exclusions: cursor.exclusions,
      sink: stream,
      onReset: (reason, lastEventId) => stream.reset(reason, lastEventId, log.head.id),
      onReadError,
    });
  }

  /** The status (200) is sent, so no error can be reported: retries until the client leaves. */
  async function retried<T>(stream: Stream, attempt: (flow: Flow) => Promise<T>): Promise<T | undefined> {
    const isWanted = () => !shared.closing && stream.socket.writable;
    const flow = createFlow(isWanted);
    const retry = createRetry(LOOKUP_PAUSES);
    while (isWanted()) {
      stream.socket.once('close', flow.leave);
      try {
        const result = await attempt(flow);
        return isWanted() ? result : undefined;
      } catch (error) {
        onReadError(error);
        await new Promise((done) => setTimeout(done, retry.failed(error)));
      } finally {
        stream.socket.off('close', flow.leave);
      }
    }
    return undefined;
  }

  function remove(stream: Stream): void {
    if (!streams.delete(stream.socket)) return;
    heartbeat.remove(stream);
    deadlines.remove(stream, stream.deadline);
    stream.release();
    if (stream.resume) resumes.end(stream.resume);
    stream.request.onGone();
    if (streams.size === 0) allGone?.();
  }

  return {
    get count() {
      return streams.size;
    },
    totals,
    get repeatedResumes() {
      return resumes.repeated;
    },
    byState() {
      const counts = { live: 0, catchingUp: 0, stalled: 0 };
      for (const { subscription } of streams.values()) counts[stateOf(subscription)] += 1;
      return counts;
    },
    all: () => streams.values(),
    open(socket, request) {
      const stream = new Stream(socket, request, shared);
      if (shared.closing) {
        request.onGone();
        socket.on('error', ignore);
        socket.on('close', () => stream.release());
        stream.shutDown();
        setTimeout(() => socket.destroySoon(), BREAK_OFF_MS).unref();
        return;
      }
      streams.set(socket, stream);
      heartbeat.add(stream);
      deadlines.add(stream, stream.deadline);
      totals.opened += 1;
      // What else it has to say cannot be answered amid the frames.
      socket.on('data', disconnect);
      socket.on('end', disconnect);
      socket.on('drain', () => stream.drained());
      socket.on('timeout', () => stream.drop());
      socket.on('close', () => remove(stream));
      // 'close' follows: a client that resets its connection has left, and that is no error.
      socket.on('error', ignore);
      void start(stream, request);
    },

    async close(deadlineMs) {
      shared.closing = true;
      deadlines.stop();
      if (streams.size === 0) return;
      const gone = new Promise<void>((done) => (allGone = done));
      for (const stream of [...streams.values()]) stream.shutDown();
      const deadline = setTimeout(() => {
        for (const socket of [...streams.keys()]) socket.destroy();
      }, deadlineMs);
      await gone;
      clearTimeout(deadline);
    },
  };
}

function disconnect(this: Socket): void {
  this.destroy();
}

function ignore(): void {}
