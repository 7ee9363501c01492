/**
 * A request as an attacker makes it: bytes on a socket, which is closed, kept or forgotten at a moment of choice.
 */
import net from 'node:net';
import type { Scene } from './attack.js';

export interface RawRequest {
  /** Sent as they are, once connected. */
  readonly bytes: string | Buffer;
  /** When it is over. `sent`: the bytes are out; `first byte`: anything has come; `text`: that has come; `end`: the other side hung up. */
  readonly until: 'sent' | 'first byte' | 'end' | { readonly text: string };
  /** Is over after so long at the latest, in milliseconds. Default: 5,000. */
  readonly patience?: number;
}

/** Resolves with what came: never rejects for what the relay does, which it counts. */
export function rawRequest(
  { signal, count, address }: Pick<Scene, 'signal' | 'count' | 'address'>,
  url: string,
  { bytes, until, patience = 5000 }: RawRequest,
): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    let text = '';
    const socket = net.connect({ host: hostname, port: Number(port), localAddress: address, noDelay: true });
    const over = (outcome: string) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', leave);
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.destroy();
      if (!signal.aborted) count(/^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1] ?? outcome);
      resolve(text);
    };
    const leave = () => over('left');
    const timer = setTimeout(() => over('no answer'), patience);
    signal.addEventListener('abort', leave);
    socket.setEncoding('latin1');
    socket.on('connect', () => {
      socket.write(bytes, () => {
        if (until === 'sent') over('sent');
      });
    });
    socket.on('data', (chunk: string) => {
      // Of what is long only its beginning matters.
      if (text.length < 100_000) text += chunk;
      if (until === 'first byte' || (typeof until === 'object' && text.includes(until.text))) over('answered');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => over(error.code ?? 'error'));
    socket.on('close', () => over('hung up'));
  });
}

/** A request for a stream. */
export function get(path: string, headers: Readonly<Record<string, string>> = {}): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${path} HTTP/1.1\r\nHost: bench\r\n${lines.join('')}\r\n`;
}

/** `/events?channel=…&channel=…` */
export function eventsPath(channels: readonly string[], more = ''): string {
  return `/events?${channels.map((name) => `channel=${encodeURIComponent(name)}`).join('&')}${more}`;
}
