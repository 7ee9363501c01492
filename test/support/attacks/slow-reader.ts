/**
 * A client that takes a little now and then: too much to be dropped, too little to get anywhere.
 */
import net from 'node:net';
import type { Scene } from './attack.js';

const TAKES_BYTES = 16 * 1024;
const PAUSE_MS = 500;

export function openSlowReader(
  { url, signal, count, address }: Pick<Scene, 'url' | 'signal' | 'count' | 'address'>,
  request: string,
): { close(): void } {
  const { hostname, port } = new URL(url);
  let socket: net.Socket;
  let isOver = false;

  function connect(): void {
    socket = net.connect({ host: hostname, port: Number(port), localAddress: address });
    socket.write(request);
    socket.pause();
    socket.on('readable', () => undefined);
    const timer = setInterval(() => void socket.read(Math.min(TAKES_BYTES, socket.readableLength)), PAUSE_MS);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearInterval(timer);
      if (isOver || signal.aborted) return;
      count('hung up');
      setTimeout(connect, PAUSE_MS).unref();
    });
  }

  connect();
  return {
    close() {
      isOver = true;
      socket.destroy();
    },
  };
}
