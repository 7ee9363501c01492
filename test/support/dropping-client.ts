/**
 * A client that keeps dropping its connection, at any byte, and comes back with the cursor that a browser would have: the
 * id of the last frame whose blank line has arrived. WHATWG HTML sets the last event id when a frame is dispatched, so an
 * `id:` line of a frame that was cut short does not count, and its event is still owed.
 *
 * It remembers every event that it got, in the order of arrival, and every reset, and judges nothing: that is for
 * resume-judge.ts.
 */
import net from 'node:net';
import { createUnchunker } from './chunks.js';
import type { Random } from './random.js';
import type { Shift } from './shift.js';

export interface DroppingClientOptions {
  readonly random: Random;
  /** Names as a client asks for them: channels, `user:*`, `*`. */
  readonly names: readonly string[];
  /** Where relays are now; read at every connection. */
  readonly relays: () => readonly string[];
  /** While it lasts, the client drops and dawdles; then it reads to the end. */
  readonly shift: Shift;
  /** Default: `BRIEF`. */
  readonly habits?: Habits | undefined;
  /** Called with each event's id and frame. @param connectedAt in milliseconds of `performance.now`, before it connected */
  readonly onEvent?: ((id: string, frame: string, connectedAt: number) => void) | undefined;
}

/** The longest that a client stays and is away, in milliseconds: each time one of these is picked. */
export interface Habits {
  readonly stays: readonly [number, ...number[]];
  readonly absences: readonly [number, ...number[]];
}

/** A client of quiet channels would never spend its bytes. The longest absences leave its place far behind the window. */
export const BRIEF: Habits = { stays: [20, 200, 800, 2_500], absences: [0, 0, 5, 30, 100, 1_500] };

/** What a connection began with: with it and `received`, a failure can be told. Those that came to nothing are not kept. */
export interface Connection {
  readonly cursor: string | undefined;
  readonly request: string;
  readonly relay: string;
  /** How many events had been received before. */
  readonly before: number;
  /** When it began, in milliseconds of `performance.now`. */
  readonly at: number;
  /** Frames that arrived, heartbeats included, and when the last did. */
  readonly frames: number;
  readonly lastFrameAt: number;
}

/** A `stream-reset`: what follows `from` is not owed any more, what follows `to` is. */
export interface Reset {
  readonly reason: string;
  /**
   * The last place that the client knew of. The ids of the frames that open a stream do not count, as they may be those
   * of the place that the reset, which then follows, leads to.
   */
  readonly from: string;
  readonly to: string;
  /** How many events had been received before. */
  readonly before: number;
  /** When it came, in milliseconds of `performance.now`. */
  readonly at: number;
}

export interface DroppingClient {
  readonly names: readonly string[];
  /** Ids of all events, as they arrived. */
  readonly received: readonly string[];
  /** The cursor of the very first frame: everything after it is owed. Undefined until then. */
  readonly startId: string | undefined;
  readonly connections: readonly Connection[];
  readonly resets: readonly Reset[];
  /** Connections that there were, also those that came to nothing. */
  readonly tries: number;
  /** Connections that ended amid a frame. */
  readonly cutFrames: number;
  /** Whatever no relay should ever have sent. */
  readonly complaints: readonly string[];
  /** Resolves when `startId` is known. */
  readonly started: Promise<void>;
  /** Resolves when it is where `readUntil` said, or `abandon` was called. */
  readonly done: Promise<void>;
  readonly isDone: boolean;
  /**
   * Names the event that is the last for this client, and the last of all: a client that a reset has taken past its own
   * is done with the cursor of that. Both may have arrived already.
   */
  readUntil(id: string, head: string): void;
  /** Gives up at once. */
  abandon(): void;
}

const QUERY_NAMES = ['last_event_id', 'lastEventId', 'lastEventID', 'Last-Event-ID'] as const;
/** Bytes that a connection may live for; the first few are enough for headers at most. */
const BUDGETS = [200, 2_000, 20_000, 1_000_000, 10_000_000] as const;
/** Milliseconds for which a reader that stops reads nothing, where it stays for so long. */
const STOP = 60_000;
/** Data of one line is JSON where it looks like it; other data is any text. */
const EVENT = /^id: (\d+)\n(?:event: [^\n]+\n)?data: (\{.*$)?/s;
const RESET = /^id: (.+)\nevent: stream-reset\ndata: (\{.*\})$/;
/** A frame that opens a stream. */
const OPENING = /^event: stream-open$/m;
/** What the relay says of itself, and what is no event to a client. */
const CONTROL = /^event: stream-(?:open|cursor|pause)$/m;

export function startDroppingClient(options: DroppingClientOptions): DroppingClient {
  const { random, names, shift, habits = BRIEF } = options;
  const received: string[] = [];
  const connections: Connection[] = [];
  const resets: Reset[] = [];
  const complaints: string[] = [];
  const first = random.chance(0.2) ? 'earliest' : undefined;
  let cursor: string | undefined;
  /** The cursor without the ids of opening frames. */
  let place: string | undefined;
  let startId: string | undefined;
  let tries = 0;
  let cutFrames = 0;
  let over = false;
  let lastId: string | undefined;
  let headId: string | undefined;
  let isStarted: () => void = () => undefined;
  const started = new Promise<void>((resolve) => (isStarted = resolve));
  let current: net.Socket | undefined;

  function take(frame: string): void {
    const isReset = takeReset(frame);
    const id = /^id: (.*)$/m.exec(frame)?.[1];
    if (id !== undefined) cursor = id;
    if (startId === undefined && cursor !== undefined) {
      startId = cursor;
      isStarted();
    }
    if (place === undefined || !OPENING.test(frame)) place = cursor;
    if (place !== undefined && place === headId) over = true;
    if (isReset || CONTROL.test(frame)) return;
    const event = EVENT.exec(frame);
    if (event?.[1] !== undefined && (event[2] === undefined || isJson(event[2]))) {
      received.push(event[1]);
      options.onEvent?.(event[1], frame, connections.at(-1)?.at ?? 0);
      if (event[1] === lastId) over = true;
    } else complaints.push(`an unexpected frame: ${JSON.stringify(frame.slice(0, 300))}`);
  }

  /** Whether the frame is a reset. */
  function takeReset(frame: string): boolean {
    const [, to, data] = RESET.exec(frame) ?? [];
    if (to === undefined || !isJson(data)) return false;
    const { reason } = JSON.parse(data ?? '') as { reason?: unknown };
    resets.push({
      reason: String(reason),
      from: place ?? to,
      to,
      before: received.length,
      at: performance.now(),
    });
    return true;
  }

  /** One connection, from its request to its end, whichever side ends it. */
  function connect(): Promise<void> {
    const relay = random.pick(options.relays() as [string, ...string[]]);
    const { hostname, port } = new URL(relay);
    const request = requestFor(names, cursor ?? first, random);
    place = cursor;
    const began = performance.now();
    const connection = { cursor, request, relay, before: received.length, at: began, frames: 0, lastFrameAt: began };
    connections.push(connection);
    const slow = random.chance(0.15);
    let budget = random.integer(0, random.pick(BUDGETS));
    const stopsAt = random.chance(0.05) ? random.integer(0, budget) : -Infinity;
    const unchunker = createUnchunker();
    let isHead = true;
    let head = '';
    let text = '';

    return new Promise((ended) => {
      const socket = net.connect({ host: hostname, port: Number(port), noDelay: true });
      current = socket;
      socket.setEncoding('latin1'); // A character a byte: it can be cut anywhere, and what is looked at is ASCII.
      socket.write(request);

      socket.on('data', (chunk: string) => {
        // What was buffered while the socket was paused still comes after destroy; this client has left by then.
        if (socket.destroyed) return;
        const cut = shift.isOn && chunk.length > budget;
        let bytes = cut ? chunk.slice(0, budget) : chunk;
        budget -= chunk.length;
        if (isHead) {
          head += bytes;
          const end = head.indexOf('\r\n\r\n');
          if (end === -1) {
            if (cut) socket.destroy();
            return;
          }
          if (!head.startsWith('HTTP/1.1 200 ')) complaints.push(`refused: ${head.slice(0, 500)}`);
          bytes = head.slice(end + 4);
          isHead = false;
        }
        // Of a large frame's every chunk only what is new is searched.
        const seen = Math.max(0, text.length - 1);
        try {
          text += unchunker.take(bytes);
        } catch (error) {
          complaints.push(String(error));
        }
        if (unchunker.isComplete) complaints.push('a stream came to an end, and did not break off');
        let start = 0;
        for (let end = text.indexOf('\n\n', seen); end !== -1; end = text.indexOf('\n\n', start)) {
          take(text.slice(start, end));
          connection.frames += 1;
          start = end + 2;
        }
        if (start > 0) connection.lastFrameAt = performance.now();
        text = text.slice(start);
        if (cut || over) socket.destroy();
        else if (shift.isOn && (slow || budget < stopsAt)) {
          socket.pause();
          void shift.pause(budget < stopsAt ? STOP : random.integer(1, 800)).then(() => socket.resume());
        }
      });
      void shift.pause(random.integer(0, random.pick(habits.stays))).then(() => {
        if (shift.isOn) socket.destroy();
      });
      socket.once('connect', () => (tries += 1));
      socket.on('error', () => undefined);
      socket.on('close', () => {
        if (isHead) connections.pop();
        else if (text !== '' || !unchunker.isBetween) cutFrames += 1;
        ended();
      });
    });
  }

  async function run(): Promise<void> {
    // Not all at once: some join while events flow.
    await shift.pause(random.integer(0, 1_500));
    while (!isOver()) {
      await connect();
      if (isOver()) return;
      // A relay that is gone refuses at once; without a pause its clients would leave no time to anyone.
      const pause = random.integer(0, random.pick(habits.absences));
      await (shift.isOn ? shift.pause(pause) : new Promise((done) => setTimeout(done, 20)));
    }
  }

  function isOver(): boolean {
    return over;
  }

  function abandon(): void {
    over = true;
    current?.destroy();
  }

  const done = run();
  return {
    names,
    received,
    connections,
    resets,
    complaints,
    started,
    done,
    get isDone() {
      return over;
    },
    get startId() {
      return startId;
    },
    get tries() {
      return tries;
    },
    get cutFrames() {
      return cutFrames;
    },
    readUntil(id, head) {
      lastId = id;
      headId = head;
      if (place === head || received.includes(id)) abandon();
    },
    abandon,
  };
}

function requestFor(names: readonly string[], cursor: string | undefined, random: Random): string {
  const query: [string, string][] = [];
  let path = '/events';
  const [only] = names;
  if (names.length === 1 && only !== undefined && random.chance(0.5)) path += `/${encodeURIComponent(only)}`;
  else for (const name of names) query.push(['channel', name]);
  let header = '';
  if (cursor !== undefined) {
    // What the address had before is older, and must not count.
    if (random.chance(0.2)) query.push([random.pick(QUERY_NAMES), '0']);
    if (random.chance(0.5)) header = `Last-Event-ID: ${cursor}\r\n`;
    else query.push([random.pick(QUERY_NAMES), cursor]);
  }
  const search = query.length === 0 ? '' : `?${new URLSearchParams(query).toString()}`;
  return `GET ${path}${search} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n${header}\r\n`;
}

function isJson(text: string | undefined): boolean {
  try {
    return typeof JSON.parse(text ?? '') === 'object';
  } catch {
    return false;
  }
}
