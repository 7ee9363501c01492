/**
 * Deadlines of queries: who gives up waiting has the server give up as well, so that it never works
 * for nobody, and no connection is opened beside one that is still busy.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

export interface Deadline {
  /** How long an answer may take. */
  readonly timeoutMs: number;
  /** Ends the query, in the server too, when it fires. */
  readonly signal?: AbortSignal | undefined;
}

/** A query had no answer in time. */
export class QueryTimeoutError extends Error {
  override readonly name = 'QueryTimeoutError';

  constructor(timeoutMs: number, options?: ErrorOptions) {
    super(`timeout: the database has not answered within ${timeoutMs} ms`, options);
  }
}

/** Time that the server has to confirm a cancellation, and at most this part of the timeout. */
const CANCEL_MS = 1000;
const CANCEL_PART = 0.25;

/** `query_canceled` (PostgreSQL manual, appendix A): of ours, or of statement_timeout. */
const CANCELLED = '57014';

/** Pause before a cancellation is sent again: one that overtakes its query ends nothing. */
const CANCEL_AGAIN_MS = 100;

/**
 * Runs queries on a connection, until the deadline. Where the server has not confirmed the end of
 * one by then, the connection is destroyed; otherwise it can be used again.
 *
 * @param run is given a function that throws once the deadline has passed, to be called between two
 * queries
 * @throws QueryTimeoutError; the signal's reason; else what `run` throws
 */
export async function within<T>(
  client: pg.ClientBase,
  deadline: Deadline | undefined,
  run: (ensure: () => void) => Promise<T>,
): Promise<T> {
  if (deadline === undefined) return run(() => undefined);
  const { timeoutMs, signal } = deadline;
  signal?.throwIfAborted();
  let isOver = false;
  const goesOn = () => !isOver;
  const endings: { readonly reason: unknown }[] = [];
  let cancelling: Promise<void> | undefined;
  let grace: NodeJS.Timeout | undefined;
  async function cancelUntilOver(): Promise<void> {
    while (goesOn()) {
      await cancel(client);
      if (goesOn()) await delay(CANCEL_AGAIN_MS);
    }
  }
  const end = (reason: unknown) => {
    if (endings.length > 0) return;
    endings.push({ reason });
    cancelling = cancelUntilOver();
    // What runs fails then, with the connection.
    grace = setTimeout(() => socketOf(client).destroy(), Math.min(CANCEL_MS, timeoutMs * CANCEL_PART));
  };
  const throwIfEnded = () => {
    for (const { reason } of endings) throw reason;
  };
  const timer = setTimeout(() => end(new QueryTimeoutError(timeoutMs)), timeoutMs);
  const onAbort = () => end(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await run(throwIfEnded);
  } catch (error) {
    throwIfEnded();
    throw isCancelled(error) ? new QueryTimeoutError(timeoutMs, { cause: error }) : error;
  } finally {
    isOver = true;
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    // One that is still under way would end the next query.
    await cancelling;
    clearTimeout(grace);
  }
}

function isCancelled(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === CANCELLED;
}

/**
 * The socket of a connection that is open, to be destroyed where its peer may never answer a
 * farewell.
 */
export function socketOf(client: pg.ClientBase): Socket {
  return (client as unknown as { connection: { stream: Socket } }).connection.stream;
}

/**
 * `CancelRequest` (PostgreSQL manual, 55.7): its length and its code, then the key of the session.
 */
const REQUEST_BYTES = 16;
const REQUEST_CODE = 80877102;

/**
 * Asks the server, or a pooler, which passes it on, to end what runs on a connection. Resolves when
 * it has been asked or can't be: it closes then, and answers nothing else. Without TLS, as psql
 * does: it is taken before anything else is looked at.
 */
export async function cancel(client: pg.ClientBase): Promise<void> {
  const { processID, secretKey, host, port } = client as unknown as {
    processID: number | null;
    secretKey: number | null;
    host: string;
    port: number;
  };
  if (processID === null || secretKey === null) return;
  const request = Buffer.alloc(REQUEST_BYTES);
  request.writeInt32BE(REQUEST_BYTES, 0);
  request.writeInt32BE(REQUEST_CODE, 4);
  request.writeInt32BE(processID, 8);
  request.writeInt32BE(secretKey, 12);
  await new Promise<void>((resolve) => {
    const socket = host.startsWith('/') ? connectTcp(`${host}/.s.PGSQL.${String(port)}`) : connectTcp(port, host);
    const timer = setTimeout(() => socket.destroy(), CANCEL_MS);
    socket.on('error', () => undefined);
    socket.on('connect', () => socket.write(request));
    socket.on('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.resume();
  });
}
