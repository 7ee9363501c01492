/**
 * A stream read by fetch, which can send a token and is told why it is refused, as `EventSource` is
 * not. It comes back by itself, from the last id that it was given.
 *
 * | state      | what it does                      | and then                                                       |
 * |------------|-----------------------------------|----------------------------------------------------------------|
 * | connecting | waits for the answer              | open; lost, if it is refused or nobody answers                  |
 * | open       | hands on events                   | lost, when it ends, or is silent for too long                   |
 * | lost       | waits for longer each time        | connecting, by itself or by `restart`                           |
 * | cut        | nothing                           | connecting, by `restart`                                        |
 */
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { ApiError, refusalOf } from './api.js';

export interface SourceOptions {
  /** Asked at each attempt. */
  readonly url: () => URL;
  readonly headers: () => Record<string, string>;
  readonly lastEventId?: string;
  readonly onEvent: (event: EventSourceMessage) => void;
  readonly onOpen?: () => void;
  /**
   * Why it is not there; status 0 where nobody answered or the connection broke. `false` gives up.
   */
  readonly onLost?: (error: ApiError) => boolean | undefined;
}

export interface Source {
  /** The last id. */
  readonly cursor: string | undefined;
  /** Connects now, or anew. */
  restart(): void;
  /** Ends the connection until `restart`. */
  cut(): void;
}

const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
/**
 * The relay sends something at least so often, until it has said otherwise; and how many of these
 * may fail to come.
 */
const HEARTBEAT_SECONDS = 15;
const MISSED = 2.5;

export function openSource({ url, headers, lastEventId, onEvent, onOpen, onLost }: SourceOptions): Source {
  let cursor = lastEventId;
  let pause = SHORTEST_PAUSE_MS;
  let silenceMs = HEARTBEAT_SECONDS * MISSED * 1000;
  let attempt = new AbortController();

  function take(message: EventSourceMessage): void {
    if (message.id !== undefined && message.id !== '') cursor = message.id;
    if (message.event === 'stream-open') {
      const { heartbeatSeconds = HEARTBEAT_SECONDS } = JSON.parse(message.data) as { heartbeatSeconds?: number };
      silenceMs = Math.max(heartbeatSeconds, 2) * MISSED * 1000;
    }
    onEvent(message);
  }

  async function read({ signal }: AbortController, giveUp: (reason: ApiError) => void): Promise<void> {
    let watch: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => giveUp(new ApiError(0, 'silent', 'The connection has gone silent.')), silenceMs);
    };
    try {
      heard();
      const answer = await fetch(url(), {
        signal,
        cache: 'no-store',
        headers: {
          Accept: 'text/event-stream',
          ...(cursor === undefined ? {} : { 'Last-Event-ID': cursor }),
          ...headers(),
        },
      });
      if (!answer.ok || !answer.body) throw await refusalOf(answer);
      pause = SHORTEST_PAUSE_MS;
      onOpen?.();
      const parser = createParser({ onEvent: (message) => signal.aborted || take(message) });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        heard();
        parser.feed(part.value);
      }
    } finally {
      clearTimeout(watch);
    }
  }

  async function run(mine: AbortController): Promise<void> {
    while (!mine.signal.aborted) {
      const connection = new AbortController();
      const end = () => connection.abort();
      mine.signal.addEventListener('abort', end);
      let why = new ApiError(0, 'relay_away', 'The relay does not answer.');
      try {
        await read(connection, (reason) => {
          why = reason;
          end();
        });
        why = new ApiError(0, 'ended', 'The relay has ended the connection.');
      } catch (error) {
        if (error instanceof ApiError) why = error;
      }
      mine.signal.removeEventListener('abort', end);
      end();
      // It is cut, or begun anew, which is no loss.
      if (wasAborted(mine) || onLost?.(why) === false) return;
      await waitFor(pause * (0.5 + Math.random() / 2), mine.signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
  }

  const source: Source = {
    get cursor() {
      return cursor;
    },
    restart() {
      attempt.abort();
      attempt = new AbortController();
      pause = SHORTEST_PAUSE_MS;
      void run(attempt);
    },
    cut: () => attempt.abort(),
  };
  source.restart();
  return source;
}

const wasAborted = ({ signal }: AbortController): boolean => signal.aborted;

function waitFor(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done);
  });
}
