/**
 * Readers: clients of a relay and of a database that do as little as they can, in a process of their own, so that a
 * measurement tells of the one who serves them. Each is a bare socket that counts events and looks whether their ids ascend;
 * the bytes are searched for ids and not parsed.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import pg from 'pg';

/** One client, and what it is to get. */
export interface Expected {
  /** Path and query of its request. */
  readonly path: string;
  readonly events: number;
  /** It has everything when it has the event of this id. */
  readonly lastId: string;
}

export interface Reading {
  /** From the first connection until the last had everything. */
  readonly seconds: number;
  readonly events: number;
  /** From a client's connection until it had everything: the median of all. */
  readonly median: number;
  /** CPU seconds of this process meanwhile. */
  readonly cpu: number;
}

export interface Readers {
  /** Opens all at once. @throws when one gets anything else than it expects, or none of it for too long. */
  read(url: string, clients: readonly Expected[]): Promise<Reading>;
  /** Runs `COPY (query) TO STDOUT` and takes what comes. */
  copy(databaseUrl: string, query: string): Promise<Reading>;
  stop(): Promise<void>;
}

type Order =
  | { readonly kind: 'read'; readonly url: string; readonly clients: readonly Expected[] }
  | { readonly kind: 'copy'; readonly url: string; readonly query: string };
type Answer = Reading | { readonly error: string };

/** A client that gets nothing for so long will get nothing more. */
const SILENCE_MS = 60_000;

export function startReaders(): Readers {
  const child = fork(fileURLToPath(import.meta.url), ['serve']);
  return {
    read: (url, clients) => ask(child, { kind: 'read', url, clients }),
    copy: (url, query) => ask(child, { kind: 'copy', url, query }),
    async stop() {
      const gone = once(child, 'exit');
      child.kill();
      await gone;
    },
  };
}

async function ask(child: ChildProcess, order: Order): Promise<Reading> {
  const answered = once(child, 'message') as Promise<[Answer]>;
  child.send(order);
  const [answer] = await answered;
  if ('error' in answer) throw new Error(answer.error);
  return answer;
}

async function read(url: string, clients: readonly Expected[]): Promise<Reading> {
  const { hostname, port } = new URL(url);
  const before = process.cpuUsage();
  const began = performance.now();
  const times = await Promise.all(clients.map((client) => readOne({ host: hostname, port: Number(port) }, client)));
  return {
    seconds: (performance.now() - began) / 1000,
    events: clients.reduce((sum, { events }) => sum + events, 0),
    median: (times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN) / 1000,
    cpu: secondsOf(process.cpuUsage(before)),
  };
}

const ID = Buffer.from('\nid: ');
const LINE_FEED = 0x0a;
const ZERO = 0x30;
/** What follows the id of an event that has no name; in other frames with an id it is another field, or nothing. */
const DATA = 'd'.charCodeAt(0);

function readOne(address: net.TcpNetConnectOpts, expected: Expected): Promise<number> {
  const began = performance.now();
  const socket = net.connect(address);
  const lastId = Number(expected.lastId);
  let rest: Buffer = Buffer.alloc(0);
  let events = 0;
  let last = 0;
  socket.write(`GET ${expected.path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  return new Promise((resolve, reject) => {
    const fail = (reason: string) => {
      socket.destroy();
      reject(new Error(`${expected.path}: ${reason}, after ${events} events of ${expected.events}`));
    };
    socket.setTimeout(SILENCE_MS, () => fail('silence'));
    socket.on('error', (error) => fail(error.message));
    socket.on('close', () => fail('the relay hung up'));
    socket.on('data', (chunk) => {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let from = 0;
      for (let at = bytes.indexOf(ID, from); at !== -1; at = bytes.indexOf(ID, from)) {
        let id = 0;
        let digit = at + ID.length;
        for (let byte = bytes[digit]; byte !== undefined && byte !== LINE_FEED; byte = bytes[(digit += 1)]) {
          id = id * 10 + byte - ZERO;
        }
        const next = bytes[digit + 1];
        // The rest of it is in the next chunk.
        if (next === undefined) {
          rest = bytes.subarray(at);
          return;
        }
        from = digit;
        if (next !== DATA) continue;
        if (id <= last) return fail(`event ${id} came after ${last}`);
        last = id;
        events += 1;
      }
      rest = bytes.subarray(Math.max(from, bytes.length - ID.length + 1));
      if (last < lastId) return;
      if (last > lastId || events !== expected.events) return fail(`event ${last} is not the ${expected.events}th`);
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.destroy();
      resolve(performance.now() - began);
    });
  });
}

const COPY_DATA = 'd'.charCodeAt(0);
const READY = 'Z'.charCodeAt(0);
const ERROR = 'E'.charCodeAt(0);

/** Source: PostgreSQL manual, "Message Formats": a byte that says what it is, and four for the length of what follows. */
async function copy(databaseUrl: string, query: string): Promise<Reading> {
  const client = new pg.Client({ connectionString: databaseUrl });
  // When we hang up.
  client.on('error', () => undefined);
  await client.connect();
  // Logged in by the driver, the socket is ours: its parser would make an object of each row.
  const socket = (client as unknown as { connection: { stream: net.Socket } }).connection.stream;
  socket.removeAllListeners('data');
  const before = process.cpuUsage();
  const began = performance.now();
  const text = Buffer.from(`COPY (${query}) TO STDOUT\0`);
  const head = Buffer.alloc(5);
  head.write('Q');
  head.writeUInt32BE(4 + text.length, 1);
  socket.write(Buffer.concat([head, text]));
  let rest: Buffer = Buffer.alloc(0);
  let rows = 0;
  /** Bytes of the message that is on the way. */
  let missing = 0;
  await new Promise<void>((resolve, reject) => {
    socket.on('data', (chunk) => {
      let from = Math.min(missing, chunk.length);
      missing -= from;
      if (missing > 0) return;
      let bytes = chunk;
      if (rest.length > 0) {
        bytes = Buffer.concat([rest, chunk]);
        from = 0;
      }
      while (from + 5 <= bytes.length) {
        const kind = bytes[from];
        if (kind === COPY_DATA) rows += 1;
        if (kind === ERROR) return reject(new Error(bytes.toString('latin1', from)));
        if (kind === READY) return resolve();
        from += 1 + bytes.readUInt32BE(from + 1);
      }
      missing = Math.max(0, from - bytes.length);
      rest = bytes.subarray(Math.min(from, bytes.length));
    });
  });
  const seconds = (performance.now() - began) / 1000;
  const cpu = secondsOf(process.cpuUsage(before));
  socket.destroy();
  return { seconds, events: rows, median: seconds, cpu };
}

function secondsOf({ user, system }: NodeJS.CpuUsage): number {
  return (user + system) / 1e6;
}

if (process.argv[2] === 'serve' && process.send) {
  process.on('message', (order: Order) => {
    const answer = order.kind === 'read' ? read(order.url, order.clients) : copy(order.url, order.query);
    answer.then(
      (reading) => process.send?.(reading),
      (error: unknown) => process.send?.({ error: error instanceof Error ? error.message : String(error) }),
    );
  });
}
