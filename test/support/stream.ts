/**
 * A client for tests: it sees every frame, also those that fire no event, and can stop reading.
 */
import http from 'node:http';
import type { ExecutionContext } from 'ava';

/** One frame as it came, blank line excluded. */
export interface Frame {
  readonly id?: string;
  readonly event?: string;
  readonly data?: string;
  readonly retry?: number;
  readonly comment?: true;
}

export interface TestStream {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  /** All frames up to now. */
  readonly frames: readonly Frame[];
  /** Frames that are published events: neither control events nor frames without data. */
  readonly events: readonly Frame[];
  /** The id that a browser would send on reconnecting. */
  readonly lastEventId: string;
  /** Resolves with the first frame, past or future, for which `test` holds. Rejects when the stream ends first. */
  until(test: (frame: Frame) => boolean): Promise<Frame>;
  /** Resolves when so many published events have arrived. */
  untilEvents(count: number): Promise<readonly Frame[]>;
  /** Resolves when one more frame has arrived. */
  more(): Promise<void>;
  /** Resolves when the relay has ended the stream. */
  readonly ended: Promise<void>;
  /** Whether the body has come to an end of its own, and has not just broken off. */
  readonly isComplete: boolean;
  pause(): void;
  resume(): void;
  close(): void;
}

/** Opens a stream and resolves when its headers are there. An answer that is no stream rejects with its status and body. */
export async function openStream(
  t: Pick<ExecutionContext, 'teardown'>,
  url: string,
  headers: http.OutgoingHttpHeaders = {},
): Promise<TestStream> {
  const request = http.get(url, { agent: false, headers: { Accept: 'text/event-stream', ...headers } });
  t.teardown(() => request.destroy());
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once('response', resolve);
    request.once('error', reject);
  });
  if (response.statusCode !== 200) {
    let body = '';
    for await (const chunk of response) body += String(chunk);
    throw new Error(`${response.statusCode} ${body}`);
  }

  const frames: Frame[] = [];
  const events: Frame[] = [];
  const waiters = new Set<() => void>();
  let lastEventId = '';
  let text = '';
  let over = false;
  const wake = () => {
    for (const waiter of [...waiters]) waiter();
  };

  response.setEncoding('utf8');
  response.on('data', (chunk: string) => {
    text += chunk;
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
      const frame = parseFrame(text.slice(0, end));
      text = text.slice(end + 2);
      frames.push(frame);
      if (frame.id !== undefined) lastEventId = frame.id;
      if (frame.data !== undefined && !frame.event?.startsWith('stream-')) events.push(frame);
    }
    wake();
  });
  const ended = new Promise<void>((resolve) => {
    response.once('close', () => {
      over = true;
      wake();
      resolve();
    });
  });
  response.on('error', () => undefined);
  request.on('error', () => undefined);

  function waitFor<T>(probe: () => T | undefined, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const check = () => {
        const found = probe();
        if (found === undefined && !over) return;
        waiters.delete(check);
        if (found !== undefined) resolve(found);
        else reject(new Error(`the stream ended before ${what}; it had ${JSON.stringify(frames.slice(-5))}`));
      };
      waiters.add(check);
      check();
    });
  }

  return {
    status: response.statusCode,
    headers: response.headers,
    frames,
    events,
    get lastEventId() {
      return lastEventId;
    },
    until: (test) => waitFor(() => frames.find(test), 'the frame that was waited for'),
    untilEvents: (count) => waitFor(() => (events.length >= count ? events : undefined), `${count} events`),
    async more() {
      const count = frames.length;
      await waitFor(() => (frames.length > count ? true : undefined), 'one more frame');
    },
    ended,
    get isComplete() {
      return response.complete;
    },
    pause: () => response.pause(),
    resume: () => response.resume(),
    close: () => request.destroy(),
  };
}

/** A heartbeat: it may move the cursor, and is an event of the relay's own. */
export function isHeartbeat({ event }: Frame): boolean {
  return event === 'stream-cursor';
}

/** Reads a frame, without the blank line that ends it. */
export function parseFrame(text: string): Frame {
  const frame: { id?: string; event?: string; data?: string; retry?: number; comment?: true } = {};
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    const field = line.slice(0, colon);
    const value = line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === '') frame.comment = true;
    else if (field === 'retry') frame.retry = Number(value);
    else if (field === 'data') frame.data = frame.data === undefined ? value : `${frame.data}\n${value}`;
    else if (field === 'id' || field === 'event') frame[field] = value;
  }
  return frame;
}
