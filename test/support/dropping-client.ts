/**
 * A client that keeps dropping its connection, at any byte, and comes back with the cursor that a browser would have: the
 * id of the last frame whose blank line has arrived. WHATWG HTML sets the last event id when a frame is dispatched, so an
 * `id:` line of a frame that was cut short does not count, and its event is still owed.
 *
 * It remembers every event that it got in the order of arrival and judges nothing: that is for who reads `received`.
 */
import net from 'node:net';
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
}

/** What a connection began with: with it and `received`, a failure can be told. */
export interface Connection {
  readonly cursor: string | undefined;
  readonly request: string;
  readonly relay: string;
  /** How many events had been received before. */
  readonly before: number;
}

export interface DroppingClient {
  readonly names: readonly string[];
  /** Ids of all events, as they arrived. */
  readonly received: readonly string[];
  /** The cursor of the very first frame: everything after it is owed. Undefined until then. */
  readonly startId: string | undefined;
  readonly connections: readonly Connection[];
  /** Connections that ended amid a frame. */
  readonly cutFrames: number;
  /** `stream-reset` frames, and whatever else no relay should ever have sent. */
  readonly complaints: readonly string[];
  /** Resolves when `startId` is known. */
  readonly started: Promise<void>;
  /** Resolves when the event of `readUntil` has arrived, or `abandon` was called. */
  readonly done: Promise<void>;
  /** Names the event that is the last for this client; it may have arrived already. */
  readUntil(id: string): void;
  /** Gives up at once. */
  abandon(): void;
}

const QUERY_NAMES = ['last_event_id', 'lastEventId', 'lastEventID', 'Last-Event-ID'] as const;
/** Bytes that a connection may live for; the first few are enough for headers at most. */
const BUDGETS = [200, 2_000, 20_000, 1_000_000, 10_000_000] as const;
/** Milliseconds that a connection may live for: a client of quiet channels would never spend its bytes. */
const LIFETIMES = [20, 200, 800, 2_500] as const;
/** Milliseconds between connections. The longest leave the client's place far behind the window. */
const ABSENCES = [0, 0, 5, 30, 100, 1_500] as const;
const EVENT = /^id: (\d+)\n(?:event: [a-z]+\n)?data: (\{.*\})$/;

export function startDroppingClient(options: DroppingClientOptions): DroppingClient {
  const { random, names, shift } = options;
  const received: string[] = [];
  const connections: Connection[] = [];
  const complaints: string[] = [];
  const first = random.chance(0.2) ? 'earliest' : undefined;
  let cursor: string | undefined;
  let startId: string | undefined;
  let cutFrames = 0;
  let over = false;
  let lastId: string | undefined;
  let isStarted: () => void = () => undefined;
  const started = new Promise<void>((resolve) => (isStarted = resolve));
  let current: net.Socket | undefined;

  function take(frame: string): void {
    const id = /^id: (.*)$/m.exec(frame)?.[1];
    if (id !== undefined) cursor = id;
    if (startId === undefined && cursor !== undefined) {
      startId = cursor;
      isStarted();
    }
    if (!/^data:/m.test(frame) || /^event: stream-open$/m.test(frame)) return;
    const event = EVENT.exec(frame);
    if (event?.[1] === undefined || !isJson(event[2])) {
      complaints.push(`an unexpected frame: ${JSON.stringify(frame.slice(0, 300))}`);
      return;
    }
    received.push(event[1]);
    if (event[1] === lastId) over = true;
  }

  /** One connection, from its request to its end, whichever side ends it. */
  function connect(): Promise<void> {
    const relay = random.pick(options.relays() as [string, ...string[]]);
    const { hostname, port } = new URL(relay);
    const request = requestFor(names, cursor ?? first, random);
    connections.push({ cursor, request, relay, before: received.length });
    const slow = random.chance(0.15);
    let budget = random.integer(0, random.pick(BUDGETS));
    let isHead = true;
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
        text += cut ? chunk.slice(0, budget) : chunk;
        budget -= chunk.length;
        if (isHead) {
          const end = text.indexOf('\r\n\r\n');
          if (end === -1) {
            if (cut) socket.destroy();
            return;
          }
          if (!text.startsWith('HTTP/1.1 200 ')) complaints.push(`refused: ${text.slice(0, 500)}`);
          text = text.slice(end + 4);
          isHead = false;
        }
        let start = 0;
        for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n', start)) {
          take(text.slice(start, end));
          start = end + 2;
        }
        text = text.slice(start);
        if (cut || over) socket.destroy();
        else if (slow && shift.isOn) {
          socket.pause();
          void shift.pause(random.integer(1, 800)).then(() => socket.resume());
        }
      });
      void shift.pause(random.integer(0, random.pick(LIFETIMES))).then(() => {
        if (shift.isOn) socket.destroy();
      });
      socket.on('error', () => undefined);
      socket.on('close', () => {
        if (text !== '' && !isHead) cutFrames += 1;
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
      const pause = random.integer(0, random.pick(ABSENCES));
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
    complaints,
    started,
    done,
    get startId() {
      return startId;
    },
    get cutFrames() {
      return cutFrames;
    },
    readUntil(id) {
      lastId = id;
      if (received.includes(id)) abandon();
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
