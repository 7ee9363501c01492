/**
 * An HTTP server that answers as the test says, on loopback, closed with the test.
 */
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';

export interface TestServer {
  readonly url: string;
  /** Requests that have come. */
  readonly requests: readonly http.IncomingMessage[];
  /** Resolves when so many requests have come. */
  requested(count: number): Promise<void>;
  close(): Promise<void>;
}

export async function startServer(
  t: Pick<ExecutionContext, 'teardown'>,
  answer: (request: http.IncomingMessage, response: http.ServerResponse) => void,
  /** Default: one that is free. */
  port = 0,
): Promise<TestServer> {
  const requests: http.IncomingMessage[] = [];
  const server = http.createServer((request, response) => {
    requests.push(request);
    answer(request, response);
  });
  const close = async () => {
    if (!server.listening) return;
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  };
  const requested = async (count: number) => {
    while (requests.length < count) await once(server, 'request');
  };
  t.teardown(close);
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests, requested, close };
}

/** Answers in JSON. */
export function json(response: http.ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}
