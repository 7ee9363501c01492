/**
 * The generator: opens streams to any server and counts, checks and times what arrives on each of them.
 *
 * It has to be lighter than what it measures. All sockets read into one buffer, a connection is an object and a few numbers in typed arrays, and
 * an event costs the search for its marker.
 */
import net, { type Socket } from 'node:net';
import { performance, monitorEventLoopDelay } from 'node:perf_hooks';
import { createHistogram } from './histogram.js';
import { microseconds, read } from './marker.js';
import { Response, type Receiver } from './response.js';

export interface GeneratorOptions {
  /** `{n}` stands for the number of the connection, from 0 on. Only http. */
  readonly url: string;
  readonly connections: number;
  /** As in `Authorization: Bearer x`; `{n}` stands in them, too. */
  readonly headers: readonly string[];
  /** Connections opened in a second. */
  readonly ramp: number;
  /** Lanes that a connection gets: each is checked by itself. */
  readonly lanes: number;
  /** Addresses 127.0.0.1, 127.0.0.2, … to connect from, by turns: one has no more ports than about 28,000. 0: what the system takes. */
  readonly sources: number;
}

/** What has arrived since the last `reset`. */
export interface Report {
  readonly connections: {
    readonly asked: number;
    readonly open: number;
    readonly failed: number;
    readonly ended: number;
  };
  readonly failures: Readonly<Record<string, number>>;
  readonly deliveries: number;
  /** Sequence numbers that were passed over, were the last one again, or were lower than the last. */
  readonly gaps: number;
  readonly doubles: number;
  readonly disorder: number;
  /** The highest sequence number, and the least and the most that a connection has got. */
  readonly highest: number;
  readonly fewest: number;
  readonly most: number;
  /** Milliseconds from sending to receiving. */
  readonly latency: { readonly p50: number; readonly p99: number; readonly p999: number };
  /** Between the first and the last delivery. */
  readonly seconds: number;
  readonly perSecond: number;
  /** What the generator itself has used. */
  readonly generator: {
    readonly cpuSeconds: number;
    /** Of one core, while there were deliveries. */
    readonly share: number;
    readonly perCpuSecond: number;
    /** By how much its event loop was late, in milliseconds. */
    readonly loopDelay: { readonly p50: number; readonly p99: number; readonly max: number };
  };
}

export interface Generator {
  /** Resolves when all streams are open. @throws where one of them could not be. */
  open(): Promise<void>;
  /** Resolves when so many events have arrived since the last `reset`, on all connections together. */
  until(deliveries: number): Promise<void>;
  /** Begins to count anew; sequence numbers go on. */
  reset(): void;
  report(): Report;
  readonly deliveries: number;
  close(): void;
}

/** Of the buffer that all sockets read into, in bytes. */
const READ = 256 * 1024;
const RAMP_TICK = 10;
const LOOP_RESOLUTION = 10;

export function createGenerator(options: GeneratorOptions): Generator {
  const { connections: asked, lanes } = options;
  const buffer = Buffer.alloc(READ);
  const sockets: Socket[] = [];
  const isOpen = new Uint8Array(asked);
  const counts = new Uint32Array(asked);
  /** The last sequence number of each lane of each connection. */
  const last = new Float64Array(asked * lanes);
  const latency = createHistogram();
  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION });
  loop.enable();
  let [open, failed, ended] = [0, 0, 0];
  let [deliveries, gaps, doubles, disorder, highest] = [0, 0, 0, 0, 0];
  let [firstAt, lastAt, now] = [0, 0, 0];
  let cpu = process.cpuUsage();
  let isClosing = false;
  const failures: Record<string, number> = {};
  let opened: { resolve: () => void; reject: (error: Error) => void } | undefined;
  let waiting: { deliveries: number; resolve: () => void } | undefined;

  const receiver: Receiver = {
    opened(connection) {
      isOpen[connection] = 1;
      open += 1;
      if (open === asked) opened?.resolve();
    },
    refused: (_, status) => fail(status),
    marked(connection) {
      const place = connection * lanes + (read.lane % lanes);
      const previous = last[place] ?? 0;
      const { sequence } = read;
      if (sequence > previous) {
        // Where others published before, the first may have any number.
        if (sequence !== previous + 1 && previous !== 0) gaps += sequence - previous - 1;
        last[place] = sequence;
        if (sequence > highest) highest = sequence;
      } else if (sequence === previous) doubles += 1;
      else disorder += 1;
      counts[connection] = (counts[connection] ?? 0) + 1;
      deliveries += 1;
      latency.add(now - read.sentAt);
    },
  };

  function fail(reason: string): void {
    failed += 1;
    failures[reason] = (failures[reason] ?? 0) + 1;
    opened?.reject(new Error(`not all streams could be opened: ${reason}`));
  }

  function connect(connection: number): void {
    const fill = (text: string) => text.replaceAll('{n}', String(connection));
    const url = new URL(fill(options.url));
    const response = new Response(connection, receiver);
    const socket = net.connect({
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: Number(url.port || 80),
      ...(options.sources > 0 ? { localAddress: `127.0.0.${1 + (connection % options.sources)}` } : {}),
      onread: {
        buffer,
        callback(length) {
          now = microseconds();
          const before = deliveries;
          response.take(buffer.subarray(0, length));
          if (deliveries !== before) {
            if (before === 0) firstAt = now;
            lastAt = now;
            if (waiting && deliveries >= waiting.deliveries) {
              waiting.resolve();
              waiting = undefined;
            }
          }
          return true;
        },
      },
    });
    sockets.push(socket);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (!isClosing && isOpen[connection] === 0) fail(error.code ?? error.message);
    });
    socket.on('close', () => {
      if (isClosing || isOpen[connection] === 0) return;
      isOpen[connection] = 0;
      open -= 1;
      ended += 1;
    });
    const headers = options.headers.map((header) => `${fill(header)}\r\n`).join('');
    socket.write(
      `GET ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\nAccept: text/event-stream\r\n${headers}\r\n`,
    );
  }

  return {
    async open() {
      const allOpen = new Promise<void>((resolve, reject) => (opened = { resolve, reject }));
      const began = performance.now();
      const timer = setInterval(() => {
        const due = Math.min(asked, Math.ceil(((performance.now() - began) / 1000) * options.ramp));
        while (sockets.length < due) connect(sockets.length);
        if (sockets.length === asked) clearInterval(timer);
      }, RAMP_TICK);
      await allOpen.finally(() => clearInterval(timer));
    },
    until(wanted) {
      if (deliveries >= wanted) return Promise.resolve();
      return new Promise((resolve) => (waiting = { deliveries: wanted, resolve }));
    },
    reset() {
      [deliveries, gaps, doubles, disorder] = [0, 0, 0, 0];
      [firstAt, lastAt] = [0, 0];
      counts.fill(0);
      latency.clear();
      loop.reset();
      cpu = process.cpuUsage();
    },
    report() {
      const used = process.cpuUsage(cpu);
      const cpuSeconds = (used.user + used.system) / 1e6;
      const seconds = (lastAt - firstAt) / 1e6;
      const late = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - LOOP_RESOLUTION);
      return {
        connections: { asked, open, failed, ended },
        failures,
        deliveries,
        gaps,
        doubles,
        disorder,
        highest,
        fewest: counts.reduce((least, count) => Math.min(least, count), Infinity),
        most: counts.reduce((most, count) => Math.max(most, count), 0),
        latency: { p50: latency.percentile(0.5), p99: latency.percentile(0.99), p999: latency.percentile(0.999) },
        seconds,
        perSecond: seconds > 0 ? deliveries / seconds : 0,
        generator: {
          cpuSeconds,
          share: seconds > 0 ? cpuSeconds / seconds : 0,
          perCpuSecond: cpuSeconds > 0 ? deliveries / cpuSeconds : 0,
          loopDelay: { p50: late(loop.percentile(50)), p99: late(loop.percentile(99)), max: late(loop.max) },
        },
      };
    },
    get deliveries() {
      return deliveries;
    },
    close() {
      isClosing = true;
      loop.disable();
      for (const socket of sockets) socket.destroy();
    },
  };
}
