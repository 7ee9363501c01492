/**
 * The bare writer: the least that Node can do for a fan-out, in a process of its own. It answers any request with the headers of a stream
 * and writes one buffer of chunks, made once, to all sockets. It knows no HTTP, no cursor and no slow client; a relay that comes near to it has
 * little left to save.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { chunkOf } from '../../src/event/chunk.js';
import { markedText } from './marker.js';
import { paced } from './publish.js';

export interface Writing {
  readonly events: number;
  /** Events that go out as one buffer. */
  readonly burst: number;
  /** Events in a second; 0: as fast as they are taken. */
  readonly rate: number;
  /** Bytes of an event's data; around it is what the relay's events have, too. */
  readonly size: number;
}

export interface BareWriter {
  readonly url: string;
  readonly pid: number;
  /**
   * Resolves when all has been written.
   *
   * @param written waited for after each burst, with how many events have been written by then.
   */
  write(writing: Writing, written?: (events: number) => Promise<void>): Promise<void>;
  stop(): Promise<void>;
}

export async function startBareWriter(): Promise<BareWriter> {
  const child = fork(fileURLToPath(import.meta.url));
  const [port] = (await once(child, 'message')) as [number];
  return {
    url: `http://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    async write({ events, burst, ...writing }, written) {
      child.send({ events, burst, ...writing });
      for (let sent = 0; sent < events;) {
        [sent] = (await once(child, 'message')) as [number];
        await written?.(sent);
        child.send('go on');
      }
    },
    async stop() {
      const gone = once(child, 'exit');
      child.disconnect();
      await gone;
    },
  };
}

const HEAD =
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n';

function serve(): void {
  const sockets = new Set<Socket>();
  let sequence = 0;
  const server = net.createServer({ noDelay: true }, (socket) => {
    socket.once('data', () => {
      socket.write(HEAD);
      sockets.add(socket);
      socket.resume();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));

  let goOn = (): void => undefined;

  process.on('message', (writing: Writing | 'go on') => {
    if (writing === 'go on') return goOn();
    const frame = () => `id: ${(sequence += 1)}\ndata: ${markedText(0, sequence, writing.size)}\n\n`;
    void paced(writing, async (from, count) => {
      const buffer = Buffer.concat(Array.from({ length: count }, () => chunkOf(frame())));
      for (const socket of sockets) socket.write(buffer);
      const goesOn = new Promise<void>((resolve) => (goOn = resolve));
      process.send?.(from + count);
      await goesOn;
    });
  });
  process.on('disconnect', () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) serve();
