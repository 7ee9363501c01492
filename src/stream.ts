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
import type { Log, RestartReason } from './log.js';
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

/** Sums since the start. */
export interface StreamTotals {
  opened: number;
  /** Began with a cursor that was not the head. */
  replays: number;
  events: number;
  bytes: number;
  resets: Record<RestartReason, number>;
  /** Ended by us: the right to it had ended, the client took nothing, or it had been open for the longest allowed. */
  ended: { expired: number; stalled: number; aged: number };
}

/** All streams of a relay. */
export interface Streams {
  readonly count: number;
  readonly totals: Readonly<StreamTotals>;
  /** How many are at the head, on their way there, and waiting for a client that takes nothing more. */
  byState(): StreamStates;
  /** Takes over a bare socket on which the response's headers have been sent. */
  open(socket: Socket, request: StreamRequest): void;
  /** Ends every stream, telling each client to come back after a pause of its own, and waits until all are gone. */
  close(deadlineMs: number): Promise<void>;
}

export interface StreamStates {
  readonly live: number;
  readonly catchingUp: number;
  readonly stalled: number;
}

export interface StreamsOptions {
  readonly source: Source;
  readonly log: Log;
  readonly history: History;
  readonly budget: Budget;
  readonly heartbeat: Heartbeat;
  readonly retrySeconds: number;
  /** A client that takes nothing for so long, of what it was given, is dropped. */
  readonly stallSeconds: number;
  /** The longest that a stream lives, by four fifths of that or more; 0: for ever. */
  readonly maxConnectionSeconds: number;
  /** Whether the log's head is known to be the table's. */
  readonly isCurrent: () => boolean;
  /** A read for one client failed and will be tried again. */
  readonly onReadError: (error: unknown) => void;
}

/** Pause before a cursor that could not be looked up is looked up again, in milliseconds. */
const LOOKUP_PAUSE = 500;

/** How long a client whose stream we end may take to read what it was given before, in milliseconds. */
const LINGER = 5000;

const EXPIRED = encodeControl('stream-error', {
  condition: 'expired',
  text: 'The right to these channels has ended. Come back with a fresh one.',
});

/** A stream lives for this part of `maxConnectionSeconds` or more, so that those that began together do not end so. */
const SHORTEST_AGE = 0.8;

/** On shutdown clients are told to come back after one to this many times the usual pause, so that they don't all at once. */
const SHUTDOWN_SPREAD = 3;

export function createStreams(options: StreamsOptions): Streams {
  const { source, log, history, budget, heartbeat } = options;
  const retry = options.retrySeconds * 1000;
  const maxAge = options.maxConnectionSeconds * 1000;
  const streams = new Map<Socket, Stream>();
  let allGone: (() => void) | undefined;
  let closing = false;
  const expiry = startExpiry<Stream>((stream) => stream.expire());
  const ageing = startExpiry<Stream>((stream) => stream.retire());
  const totals: StreamTotals = {
    opened: 0,
    replays: 0,
    events: 0,
    bytes: 0,
    resets: { expired: 0, unknown: 0 },
    ended: { expired: 0, stalled: 0, aged: 0 },
  };
  let cursorFrame: { id: string; frame: Buffer } = { id: '', frame: COMMENT };

  /** Parked streams have all passed the same head, so one frame serves a whole round of heartbeats. */
  function headFrame(): Buffer {
    if (cursorFrame.id !== log.head.id) cursorFrame = { id: log.head.id, frame: encodeCursor(log.head.id) };
    return cursorFrame.frame;
  }

  /** Tells a client to come back after a pause of its own, which an error status would keep an EventSource from. */
  function pauseFrame(): Buffer {
    return encodeRetry(retry * (1 + Math.random() * (SHUTDOWN_SPREAD - 1)));
  }

  class Stream implements Beating {
    wroteAt = 0;
    subscription: Subscription | undefined;
    readonly socket: Socket;
    readonly expiresAt: number;
    readonly retiresAt: number;
    readonly onGone: () => void;
    #isEnding = false;
    /** Asked at each write, and asking the clock costs as much as all else that is asked there. */
    readonly #canExpire: boolean;

    constructor(socket: Socket, { expiresAt, onGone }: StreamRequest) {
      this.socket = socket;
      this.expiresAt = expiresAt;
      this.#canExpire = expiresAt !== Infinity;
      this.retiresAt = maxAge === 0 ? Infinity : Date.now() + maxAge * (1 - Math.random() * (1 - SHORTEST_AGE));
      this.onGone = onGone;
    }

    write(frames: Buffer, events = 0): boolean {
      if (this.#isEnding) return true;
      // The timer may be late, and what is written here may be an event.
      if (this.#canExpire && this.expiresAt <= Date.now()) {
        this.expire();
        return true;
      }
      // The client has said that it leaves, and 'close' follows. Until then nothing more is read for it.
      if (!this.socket.writable) return false;
      this.wroteAt = heartbeat.now;
      totals.events += events;
      totals.bytes += frames.length;
      const hasRoom = this.socket.write(frames);
      // The clock runs while something waits to be taken; what the system takes from us sets it back.
      if (!hasRoom) this.socket.setTimeout(options.stallSeconds * 1000);
      return hasRoom;
    }

    drained(): void {
      this.socket.setTimeout(0);
      this.subscription?.drained();
    }

    /** The right to it has ended. */
    expire(): void {
      if (this.#isEnding || closing) return;
      totals.ended.expired += 1;
      this.#end(EXPIRED);
    }

    /** It has been open for long enough: its client is to come back, perhaps to another relay. */
    retire(): void {
      if (this.#isEnding || closing) return;
      totals.ended.aged += 1;
      this.#end(pauseFrame());
    }

    /** The client has taken nothing for too long. It resumes exactly if it ever comes back. */
    drop(): void {
      totals.ended.stalled += 1;
      this.socket.destroy();
    }

    reset(reason: RestartReason, lastEventId: string, cursor: string): void {
      totals.resets[reason] += 1;
      this.write(encodeControl('stream-reset', { reason, lastEventId }, cursor));
    }

    #end(frame: Buffer): void {
      this.#isEnding = true;
      if (this.socket.writable) this.socket.end(frame);
      setTimeout(() => this.socket.destroy(), LINGER).unref();
      // Not now: the subscription may be amid the write that has led here.
      setImmediate(() => this.subscription?.close());
    }

    beat(): void {
      // A client that has not taken the last frames needs no proof of life, and its cursor is not the head.
      if (closing || this.socket.writableNeedDrain) return;
      // A client still looking for its place, or reading history, must not be told that it has passed the head; nor anybody
      // while the database is away, which may come back as another.
      this.write(this.subscription?.parked && options.isCurrent() ? headFrame() : COMMENT);
    }
  }

  async function start(stream: Stream, request: StreamRequest): Promise<void> {
    const cursor = await retried(stream, async () => {
      for (;;) {
        const { era } = log;
        const resolved = await resolve(request.cursor, log, history, source);
        // Else it is a place in a table that is no longer ours.
        if (era === log.era) return resolved;
      }
    });
    if (cursor === undefined) return;
    if (cursor.position < log.head.position) totals.replays += 1;
    // Ahead of a reset no frame may move the client's cursor: cut off in between, it would come back past what it has missed.
    const known = cursor.reset ? undefined : cursor.id;
    const open = encodeControl('stream-open', { lastEventId: cursor.id, head: log.head.id }, known);
    stream.write(Buffer.concat([known === undefined ? encodeRetry(retry) : encodeStart(retry, known), open]));
    if (cursor.reset) stream.reset(cursor.reset.reason, cursor.reset.lastEventId, cursor.id);
    stream.subscription = subscribe({
      log,
      history,
      budget,
      interest: request.interest,
      after: cursor,
      sink: stream,
      onReset: (reason, lastEventId) => stream.reset(reason, lastEventId, log.head.id),
      onReadError: options.onReadError,
    });
  }

  /** The client already has a status of 200, and any other would end an EventSource for good: so it waits with us. */
  async function retried<T>(stream: Stream, attempt: () => Promise<T>): Promise<T | undefined> {
    const isWanted = () => !closing && stream.socket.writable;
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
    ageing.remove(stream, stream.retiresAt);
    stream.subscription?.close();
    stream.onGone();
    if (streams.size === 0) allGone?.();
  }

  return {
    get count() {
      return streams.size;
    },
    totals,
    byState() {
      const counts = { live: 0, catchingUp: 0, stalled: 0 };
      for (const { subscription } of streams.values()) {
        if (subscription?.parked) counts.live += 1;
        else if (subscription?.blocked) counts.stalled += 1;
        else counts.catchingUp += 1;
      }
      return counts;
    },
    open(socket, request) {
      if (closing) {
        request.onGone();
        socket.on('error', ignore);
        socket.end(pauseFrame(), () => socket.destroy());
        return;
      }
      const stream = new Stream(socket, request);
      streams.set(socket, stream);
      heartbeat.add(stream);
      expiry.add(stream, stream.expiresAt);
      ageing.add(stream, stream.retiresAt);
      totals.opened += 1;
      // What else it has to say cannot be answered amid the frames.
      socket.on('data', hangUp);
      socket.on('end', hangUp);
      socket.on('drain', () => stream.drained());
      socket.on('timeout', () => stream.drop());
      socket.on('close', () => remove(stream));
      // 'close' follows: a client that resets its connection has left, and that is no error.
      socket.on('error', ignore);
      void start(stream, request);
    },

    async close(deadlineMs) {
      closing = true;
      expiry.stop();
      ageing.stop();
      if (streams.size === 0) return;
      const gone = new Promise<void>((done) => (allGone = done));
      for (const stream of [...streams.values()]) {
        stream.subscription?.close();
        stream.subscription = undefined;
        if (stream.socket.writable) stream.socket.end(pauseFrame());
      }
      const deadline = setTimeout(() => {
        for (const socket of [...streams.keys()]) socket.destroy();
      }, deadlineMs);
      await gone;
      clearTimeout(deadline);
    },
  };
}

function hangUp(this: Socket): void {
  this.destroy();
}

function ignore(): void {}
