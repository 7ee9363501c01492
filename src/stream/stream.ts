/**
 * A stream: one client's connection once its headers are out.
 *
 * It writes frames straight to the socket, in chunks: the buffer that was made for an event, with
 * its chunk around it, is the one that goes out to every reader of it. Only HTTP/1.0, which has no
 * chunks, gets what is in them. However a stream ends, its last chunk is never sent: it has broken
 * off, and its client is to come back.
 */
import type { Socket } from 'node:net';
import type { StreamFormat } from '../event/envelope.js';
import type { EventFilter } from '../event/event-filter.js';
import { BREAK_OFF_MS, CHUNK_END, chunkStart, payloadsOf } from '../event/chunk.js';
import { createCompressedBody, type CompressedBody } from './compressed-body.js';
import type { CursorRequest } from './resume-point.js';
import type { Beating, Heartbeat } from './heartbeat.js';
import type { RestartReason } from '../event/event.js';
import type { Resume } from './repeated-resumes.js';
import { encodeControl } from '../event/sse.js';
import type { Subscription } from './subscription.js';

/** What a stream is to be. */
export interface StreamRequest {
  readonly filter: EventFilter;
  readonly format: StreamFormat;
  readonly cursor: CursorRequest;
  /** Who asks: their user, or else their address. */
  readonly client: string;
  /** Whence, as the operator is shown it. */
  readonly address: string;
  /** Their user, where that was told. */
  readonly subject: string | undefined;
  /** When the right to it ends, in milliseconds since 1970; `Infinity` where it does not. */
  readonly expiresAt: number;
  /** Whether the body is in chunks, as in HTTP/1.1. */
  readonly isChunked: boolean;
  /** Whether the body is compressed, with gzip; it is in chunks then. */
  readonly isCompressed: boolean;
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
  /** Ended by the relay: the right ended, the client took nothing, or the stream was too old. */
  ended: { expired: number; stalled: number; aged: number };
}

/** What all streams of a relay have in common. */
export interface Shared {
  readonly totals: StreamTotals;
  readonly heartbeat: Heartbeat;
  /** A client that takes nothing for so long, of what it was given, is dropped. */
  readonly stallMs: number;
  /** Longest life of a stream; each ends after 80 % to 100 % of it. 0: no limit. */
  readonly maxAgeMs: number;
  /** All of them are being ended. */
  closing: boolean;
  /** Whether the log's head is known to be the table's. */
  readonly isCurrent: () => boolean;
  /** Moves a client's cursor to the log's head. This and all other frames here are in chunks. */
  readonly headFrame: () => Buffer;
  /** Shows a client that its stream lives, and moves nothing. */
  readonly stillFrame: Buffer;
  /** Tells a client that the right to its channels has ended. */
  readonly expiredFrame: Buffer;
  /** Tells a client to come back after a pause of its own. */
  readonly pauseFrame: (reason: 'shutdown' | 'age') => Buffer;
}

/** Time a client has to read pending data before the socket is destroyed. */
const LINGER_MS = 5000;

/** Least part of `maxConnectionSeconds` that a stream lives, at random, to spread the ends. */
const SHORTEST_AGE = 0.8;

export class Stream implements Beating {
  // First what each write needs: it lies together in memory, and for thousands of streams none of
  // it is in a cache.
  readonly socket: Socket;
  readonly #shared: Shared;
  #isEnding = false;
  readonly #isChunked: boolean;
  /** Undefined where the body is as it is. */
  readonly #compressed: CompressedBody | undefined;
  /** Asked at each write, and asking the clock costs as much as all else that is asked there. */
  readonly #canExpire: boolean;
  wroteAt = 0;
  /** How many it was given. */
  events = 0;
  subscription: Subscription | undefined;
  /** Undefined where it began at the head. */
  resume: Resume | undefined;
  /** When the relay ends it, in ms since 1970: its right has ended, or it is too old. */
  readonly deadline: number;
  readonly #expiresAt: number;
  readonly request: StreamRequest;
  /** Which of all that were opened. */
  readonly number: number;
  /** In ms since 1970. */
  readonly openedAt = Date.now();

  constructor(socket: Socket, request: StreamRequest, shared: Shared) {
    const { expiresAt, isChunked, isCompressed } = request;
    this.socket = socket;
    this.request = request;
    this.number = shared.totals.opened + 1;
    this.#isChunked = isChunked;
    if (isCompressed) {
      this.#compressed = createCompressedBody(
        (bytes) => this.#putCompressed(bytes),
        () => socket.destroy(),
      );
    }
    this.#shared = shared;
    this.#expiresAt = expiresAt;
    this.#canExpire = expiresAt !== Infinity;
    const age = shared.maxAgeMs * (1 - Math.random() * (1 - SHORTEST_AGE));
    this.deadline = Math.min(expiresAt, shared.maxAgeMs === 0 ? Infinity : this.openedAt + age);
  }

  write(chunks: Buffer, events = 0): boolean {
    if (!this.#isTaking()) return this.#isEnding;
    if (this.#compressed) return this.#wrote(events, this.#compress(payloadsOf(chunks)));
    // Not by way of `putAll`: this runs for each event and each of its readers.
    return this.#wrote(events, this.#isChunked ? this.#put(chunks) : this.#putAll(payloadsOf(chunks)));
  }

  writePage(frames: Buffer, events: number): boolean {
    if (!this.#isTaking()) return this.#isEnding;
    if (this.#compressed) return this.#wrote(events, this.#compress([frames]));
    const page = this.#isChunked ? [chunkStart(frames.length), frames, CHUNK_END] : [frames];
    return this.#wrote(events, this.#putAll(page));
  }

  #isTaking(): boolean {
    if (this.#isEnding) return false;
    // The timer may be late, and what is written here may be an event.
    if (this.#canExpire && this.#expiresAt <= Date.now()) {
      this.#expire();
      return false;
    }
    // The client has said that it leaves, and 'close' follows. Until then nothing more is read for
    // it.
    return this.socket.writable;
  }

  #wrote(events: number, hasRoom: boolean): boolean {
    const { heartbeat, totals, stallMs } = this.#shared;
    this.wroteAt = heartbeat.now;
    totals.events += events;
    this.events += events;
    // The clock runs while something waits to be taken; what the system takes from us sets it back.
    if (!hasRoom) this.socket.setTimeout(stallMs);
    return hasRoom;
  }

  #put(bytes: Buffer): boolean {
    this.#shared.totals.bytes += bytes.length;
    return this.socket.write(bytes);
  }

  /** Hands all to the system together, and without a copy. */
  #putAll(parts: readonly Buffer[]): boolean {
    let hasRoom = true;
    this.socket.cork();
    for (const part of parts) hasRoom = this.#put(part);
    this.socket.uncork();
    return hasRoom;
  }

  /** Takes no more until all of it has gone out. */
  #compress(payloads: readonly Buffer[]): boolean {
    this.#compressed?.write(payloads.length === 1 && payloads[0] ? payloads[0] : Buffer.concat(payloads));
    return false;
  }

  #putCompressed(bytes: Buffer): void {
    // An empty chunk would be the last.
    if (!this.socket.writable || bytes.length === 0) return;
    if (this.#putAll([chunkStart(bytes.length), bytes, CHUNK_END])) this.drained();
  }

  drained(): void {
    // What is still inside comes back here.
    if (this.#compressed?.isBusy) return;
    this.socket.setTimeout(0);
    this.subscription?.drained();
  }

  meetDeadline(): void {
    if (this.#expiresAt <= Date.now()) this.#expire();
    else this.#retire();
  }

  /** The right to it has ended. */
  #expire(): void {
    if (this.#isEnding || this.#shared.closing) return;
    this.#shared.totals.ended.expired += 1;
    this.#end(this.#shared.expiredFrame);
  }

  /** It has been open for long enough: its client is to come back, perhaps to another relay. */
  #retire(): void {
    if (this.#isEnding || this.#shared.closing) return;
    this.#shared.totals.ended.aged += 1;
    this.#end(this.#shared.pauseFrame('age'));
  }

  /** The client has taken nothing for too long. It resumes exactly if it ever comes back. */
  drop(): void {
    this.#shared.totals.ended.stalled += 1;
    this.socket.destroy();
  }

  /** The relay is going. */
  shutDown(): void {
    this.subscription?.close();
    this.subscription = undefined;
    this.#finish(this.#shared.pauseFrame('shutdown'));
  }

  reset(reason: RestartReason, lastEventId: string, id: string): void {
    this.#shared.totals.resets[reason] += 1;
    this.write(encodeControl('stream-reset', { reason, lastEventId }, { id }));
  }

  #end(frame: Buffer): void {
    this.#isEnding = true;
    this.#finish(frame);
    setTimeout(() => this.socket.destroy(), LINGER_MS).unref();
    // Not now: the subscription may be amid the write that has led here.
    setImmediate(() => this.subscription?.close());
  }

  #finish(frame: Buffer): void {
    if (!this.socket.writable) return;
    if (this.#compressed) this.#compress(payloadsOf(frame));
    else this.#putAll(this.#isChunked ? [frame] : payloadsOf(frame));
    setTimeout(() => this.socket.end(), BREAK_OFF_MS);
  }

  /** The connection is gone. */
  release(): void {
    this.subscription?.close();
    this.#compressed?.close();
  }

  beat(): void {
    // A client that has not taken the last frames needs no proof of life, and its cursor is not the
    // head.
    if (this.#shared.closing || this.socket.writableNeedDrain || this.#compressed?.isBusy) return;
    // A client still looking for its place, or reading history, must not be told that it has passed
    // the head; nor anybody while the database is away, which may come back as another.
    const { isCurrent, headFrame, stillFrame } = this.#shared;
    this.write(this.subscription?.parked && isCurrent() ? headFrame() : stillFrame);
  }
}
