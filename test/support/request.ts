/**
 * Requests as no well-behaved client would make them: bytes on a socket, and what came back until the relay hung up.
 */
import { once } from 'node:events';
import http from 'node:http';
import { connect, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

/** An answer's body, read as the relay's errors are. */
export interface ErrorBody {
  readonly error: string;
  readonly message: string;
  readonly channels?: string[];
}

/** Makes a request whose path is sent as it is, and reads the answer to its end. Of a stream only the headers are read. */
export async function request(url: string, path: string, options: http.RequestOptions = {}): Promise<Answer> {
  const { hostname, port } = new URL(url);
  const sent = http.request({ hostname, port, path, agent: false, ...options });
  sent.end();
  const [response] = (await once(sent, 'response')) as [http.IncomingMessage];
  let body = '';
  if (response.statusCode === 200 && response.headers['content-type']?.startsWith('text/event-stream')) sent.destroy();
  else for await (const chunk of response) body += String(chunk);
  return { status: response.statusCode ?? 0, headers: response.headers, body };
}

export interface RawConnection {
  readonly socket: Socket;
  /** All that has come up to now. */
  readonly text: string;
  /** Resolves when the text holds `part`. Rejects when the relay hangs up first. */
  until(part: string): Promise<void>;
  /** Resolves with all that came, when the relay has hung up. */
  readonly ended: Promise<string>;
}

/** Opens a connection and sends `bytes`. The relay's end of it is answered with ours. */
export function openRaw(t: Pick<ExecutionContext, 'teardown'>, url: string, bytes: string | Buffer): RawConnection {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port) });
  t.teardown(() => socket.destroy());
  let text = '';
  const listeners = new Set<() => void>();
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    text += chunk;
    for (const listener of [...listeners]) listener();
  });
  // What matters is what had come before a reset.
  socket.on('error', () => undefined);
  const ended = new Promise<string>((resolve) => socket.once('close', () => resolve(text)));
  socket.write(bytes);
  return {
    socket,
    get text() {
      return text;
    },
    until: (part) =>
      new Promise((resolve, reject) => {
        const listener = () => {
          if (!text.includes(part)) return;
          listeners.delete(listener);
          resolve();
        };
        listeners.add(listener);
        void ended.then(() => reject(new Error(`the relay hung up before ${part}; it had sent ${text.slice(-500)}`)));
        listener();
      }),
    ended,
  };
}

/** Reads an answer that was taken as text. */
export function parseAnswer(text: string): Answer {
  const [head = '', ...rest] = text.split('\r\n\r\n');
  const [statusLine = '', ...lines] = head.split('\r\n');
  const headers: http.IncomingHttpHeaders = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { status: Number(statusLine.split(' ')[1]), headers, body: rest.join('\r\n\r\n') };
}
