/**
 * A stream: one client's connection once its headers are out.
 *
 * It writes frames straight to the socket. The response is delimited by the end of the connection and not chunked, so the
 * buffer that was made for an event is the one that goes out to every reader of it, with nothing around it.
 */
import type { Socket } from 'node:net';
import type { Budget } from './budget.js';
import type { Interest } from './channels.js';
import { resolve, type CursorRequest } from './cursor.js';
import { startExpiry } from './expiry.js';
import type { Beating, Heartbeat } from './heartbeat.js';
import type { History } from './history.js';
import type { Log } from './log.js';
import type { Source } from './outbox.js';
import { COMMENT, encodeControl, encodeCursor, encodeRetry, encodeStart } from './sse.js';
import { subscribe, type Subscription } from './subscription.js';

/** What a stream is to be. */
export interface StreamRequest {
  readonly interest: Interest;
  readonly cursor: CursorRequest;
  /** When the right to it ends, in milliseconds since 1970; `Infinity` where it does not. */
  readonly expiresAt: number;
  /** Called once, when the connection is gone. */
  readonly onGone: () => void;
}

/** All streams of a relay. */
export interface Streams {
  readonly count: number;
  /** Takes over a socket on which the response's headers have been sent. */
  open(socket: Socket, request: StreamRequest): void;
  /** Whether the socket is a stream: whatever else arrives on it must not be answered. */
  has(socket: Socket): boolean;
  /** Ends every stream, telling each client to come back after a pause of its own, and waits until all are gone. */
  close(deadlineMs: number): Promise<void>;
}

export interface StreamsOptions {
  readonly source: Source;
  readonly log: Log;
  readonly history: History;
  readonly budget: Budget;
  readonly heartbeat: Heartbeat;
  readonly retrySeconds: number;
  /** A read for one client failed and will be tried again. */
  readonly onReadError: (error: unknown) => void;
}

/** Pause before a cursor that could not be looked up is looked up again, in milliseconds. */
const LOOKUP_PAUSE = 500;

/**
 * How long a client whose right has ended may take to read what it was given before, and that it has ended, in
 * milliseconds.
 */
const EXPIRED_LINGER = 5000;

const EXPIRED = encodeControl('stream-error', {
  condition: 'expired',
  text: 'The right to these channels has ended. Come back with a fresh one.',
});

/** On shutdown clients are told to come back after one to this many times the usual pause, so that they don't all at once. */
const SHUTDOWN_SPREAD = 3;

export function createStreams(options: StreamsOptions): Streams {
  const { source, log, history, budget, heartbeat } = options;
  const retry = options.retrySeconds * 1000;
  const streams = new Map<Socket, Stream>();
  let allGone: (() => void) | undefined;
  let closing = false;
  const expiry = startExpiry<Stream>((stream) => stream.expire());
  let cursorFrame: { id: string; frame: Buffer } = { id: '', frame: COMMENT };

  /** Parked streams have all passed the same head, so one frame serves a whole round of heartbeats. */
  function headFrame(): Buffer {
    if (cursorFrame.id !== log.head.id) cursorFrame = { id: log.head.id, frame: encodeCursor(log.head.id) };
    return cursorFrame.frame;
  }

  /** Tells a client to come back after a pause of its own, which an error status would keep an EventSource from. */
  function sendAway(socket: Socket): void {
    if (socket.writable) socket.end(encodeRetry(retry * (1 + Math.random() * (SHUTDOWN_SPREAD - 1))));
  }

  class Stream implements Beating {
    wroteAt = 0;
    subscription: Subscription | undefined;
    readonly socket: Socket;
    readonly expiresAt: number;
    readonly onGone: () => void;
    #isExpired = false;

    constructor(socket: Socket, { expiresAt, onGone }: StreamRequest) {
      this.socket = socket;
      this.expiresAt = expiresAt;
      this.onGone = onGone;
    }

    write(frames: Buffer): boolean {
      // The timer may be late, and what is written here may be an event.
      if (this.#isExpired || this.expiresAt <= Date.now()) {
        this.expire();
        return true;
      }
      // The client has said that it leaves, and 'close' follows. Until then nothing more is read for it.
      if (!this.socket.writable) return false;
      this.wroteAt = heartbeat.now;
      return this.socket.write(frames);
    }

    /** Ends the stream: the right to it has ended. */
    expire(): void {
      if (this.#isExpired || closing) return;
      this.#isExpired = true;
      if (this.socket.writable) this.socket.end(EXPIRED);
      setTimeout(() => this.socket.destroy(), EXPIRED_LINGER).unref();
      // Not now: the subscription may be amid the write that has led here.
      setImmediate(() => this.subscription?.close());
    }

    beat(): void {
      // A client that has not taken the last frames needs no proof of life, and its cursor is not the head.
      if (closing || this.socket.writableNeedDrain) return;
      // A client still looking for its place, or reading history, must not be told that it has passed the head.
      this.write(this.subscription?.parked ? headFrame() : COMMENT);
    }
  }

  async function start(stream: Stream, request: StreamRequest): Promise<void> {
    const cursor = await retried(stream, () => resolve(request.cursor, log, source));
    if (cursor === undefined) return;
    const frames = [
      encodeStart(retry, cursor.id),
      encodeControl('stream-open', { lastEventId: cursor.id, head: log.head.id }, cursor.id),
    ];
    if (cursor.reset) frames.push(encodeControl('stream-reset', { ...cursor.reset }, cursor.id));
    stream.write(Buffer.concat(frames));
    stream.subscription = subscribe({
      log,
      history,
      budget,
      interest: request.interest,
      after: cursor,
      sink: stream,
      onExpired: (lastEventId) => {
        const reset = { reason: 'expired', lastEventId };
        stream.write(encodeControl('stream-reset', reset, log.head.id));
      },
      onReadError: options.onReadError,
    });
  }

  /** The client already has a status of 200, and any other would end an EventSource for good: so it waits with us. */
  async function retried<T>(stream: Stream, attempt: () => Promise<T>): Promise<T | undefined> {
    const isWanted = () => !closing && streams.has(stream.socket);
    while (isWanted()) {
      try {
        const result = await attempt();
        return isWanted() ? result : undefined;
      } catch (error) {
        options.onReadError(error);
        await new Promise((done) => setTimeout(done, LOOKUP_PAUSE * (0.5 + Math.random())));
      }
    }
    return undefined;
  }

  function remove(stream: Stream): void {
    if (!streams.delete(stream.socket)) return;
    heartbeat.remove(stream);
    expiry.remove(stream, stream.expiresAt);
    stream.subscription?.close();
    stream.onGone();
    if (streams.size === 0) allGone?.();
  }

  return {
    get count() {
      return streams.size;
    },
    has: (socket) => streams.has(socket),

    open(socket, request) {
      if (closing) {
        request.onGone();
        return sendAway(socket);
      }
      const stream = new Stream(socket, request);
      streams.set(socket, stream);
      heartbeat.add(stream);
      expiry.add(stream, request.expiresAt);
      socket.setTimeout(0);
      socket.on('drain', () => stream.subscription?.drained());
      socket.on('close', () => remove(stream));
      // 'close' follows: a client that resets its connection has left, and that is no error.
      socket.on('error', () => undefined);
      void start(stream, request);
    },

    async close(deadlineMs) {
      closing = true;
      expiry.stop();
      if (streams.size === 0) return;
      const gone = new Promise<void>((done) => (allGone = done));
      for (const stream of [...streams.values()]) {
        stream.subscription?.close();
        stream.subscription = undefined;
        sendAway(stream.socket);
      }
      const deadline = setTimeout(() => {
        for (const socket of [...streams.keys()]) socket.destroy();
      }, deadlineMs);
      await gone;
      clearTimeout(deadline);
    },
  };
}
