/**
 * Sends one request in one of the ways in which clients behave and misbehave, and keeps what came back.
 */
import { connect } from 'node:net';
import type { FuzzRequest } from './fuzz-request.js';
import type { Random } from './random.js';

export interface Exchange {
  /** All that came, from the status line on, in a character a byte: it may have been cut anywhere. */
  readonly text: string;
  /** Whether the whole request was sent, and nothing but it. */
  readonly isWhole: boolean;
  /** Whether the client stayed until an answer, or the relay's end of the connection, had to come. */
  readonly hasWaited: boolean;
  readonly endedBy: 'relay' | 'client';
  /** Whether the end was seen to be the relay's and orderly: everything that it sent has arrived. */
  readonly isComplete: boolean;
  /** When the client stopped reading, in milliseconds since 1970. */
  readonly endedAt: number;
}

/** How long an answer may take before it counts as none, in milliseconds; nothing else takes this time. */
const ANSWER_MS = 15_000;
/** The same where no answer is owed. */
const WILD_MS = 1_500;
/** How long a client whose right ends soon stays, in milliseconds: longer than any such right, and than it takes to end. */
const STAY_MS = 6_000;
/** Beyond the relay's time for a request to arrive. */
const DAWDLE_MS = 2_500;

/** What follows a request on its connection without being asked for. */
const MORE = [
  'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET /events/news HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET /events/news HT',
  '\0\r\n\r\nhello',
  `GET / HTTP/1.1\r\nCookie: ${'x'.repeat(70_000)}\r\n\r\n`,
] as const;

export function exchange(url: string, request: FuzzRequest, random: Random): Promise<Exchange> {
  const { hostname, port } = new URL(url);
  const isCut = random.chance(0.08);
  const isPipelined = !isCut && random.chance(0.07);
  const cutAt = isCut ? random.integer(0, request.bytes.length - 1) : request.bytes.length;
  const splitAt = random.chance(0.2) ? random.integer(0, cutAt) : undefined;
  const leave = random.pick(['end', 'destroy', 'reset'] as const);
  // A cut request may also be left hanging, until the relay has enough.
  const dawdles = isCut && random.chance(0.1);
  const sees = random.chance(0.9);
  const staysToEnd = request.expiresAt < Date.now() + 5_000;
  const lifetime = staysToEnd ? STAY_MS : random.integer(0, random.pick([20, 100, 100, 200, 200, 1_000]));
  const pause = random.integer(0, 20);
  const more = random.pick(MORE);
  const moreLater = random.chance(0.5);

  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    const chunks: Buffer[] = [];
    let head: string | undefined;
    let length = 0;
    let bodyEnd = Infinity;
    let hasWaited = false;
    let isComplete = false;
    let failed = false;
    let endedBy: Exchange['endedBy'] = 'relay';
    let timer = setTimeout(() => close(true), request.expected === undefined ? WILD_MS : ANSWER_MS);

    function close(waited: boolean): void {
      hasWaited = waited;
      endedBy = 'client';
      clearTimeout(timer);
      if (leave === 'reset') socket.resetAndDestroy();
      else if (leave === 'end') {
        socket.end();
        timer = setTimeout(() => socket.destroy(), 50);
        if (socket.connecting) socket.destroy();
      } else socket.destroy();
    }

    function send(): void {
      if (splitAt === undefined) socket.write(request.bytes.subarray(0, cutAt));
      else {
        socket.write(request.bytes.subarray(0, splitAt));
        setTimeout(() => socket.writable && socket.write(request.bytes.subarray(splitAt, cutAt)), pause);
      }
      if (isCut) setTimeout(() => close(false), dawdles ? DAWDLE_MS : pause * 2);
      else if (isPipelined) setTimeout(() => socket.writable && socket.write(more), moreLater ? pause * 2 : pause);
    }

    socket.on('connect', () => {
      send();
      if (!sees && !staysToEnd) socket.pause();
    });
    socket.on('data', (chunk: Buffer) => {
      if (endedBy === 'client') return;
      chunks.push(chunk);
      length += chunk.length;
      if (head === undefined) {
        const text = Buffer.concat(chunks).toString('latin1');
        const end = text.indexOf('\r\n\r\n');
        if (end === -1) return;
        if (text.startsWith('HTTP/1.1 100')) {
          chunks.splice(0, Infinity, Buffer.from(text.slice(end + 4), 'latin1'));
          length -= end + 4;
          return;
        }
        head = text.slice(0, end);
        clearTimeout(timer);
        if (!request.isHead && /^content-type: text\/event-stream/im.test(head) && !/^content-length:/im.test(head)) {
          timer = setTimeout(() => close(staysToEnd), lifetime);
        } else {
          const [, body = '0'] = /^content-length: (\d+)/im.exec(head) ?? [];
          bodyEnd = end + 4 + (request.isHead ? 0 : Number(body));
          timer = setTimeout(() => close(true), ANSWER_MS);
        }
      }
      if (length < bodyEnd) return;
      bodyEnd = Infinity;
      // What was sent after the request may still be answered.
      setTimeout(() => close(true), isPipelined ? 5 * pause : 0);
    });
    if (!sees && !staysToEnd) {
      clearTimeout(timer);
      timer = setTimeout(() => close(false), lifetime);
    }
    socket.on('end', () => (isComplete = true));
    socket.on('error', () => (failed = true));
    socket.on('close', () => {
      clearTimeout(timer);
      resolve({
        text: Buffer.concat(chunks).toString('latin1'),
        isWhole: !isCut && !isPipelined,
        hasWaited: hasWaited || endedBy === 'relay',
        endedBy,
        isComplete: isComplete && !failed && endedBy === 'relay',
        // The system's clock may be set back meanwhile, and the relay have gone by what it said before.
        endedAt: Math.max(Date.now(), Math.floor(performance.timeOrigin + performance.now())),
      });
    });
  });
}
