/** A console in a test: a relay that has one, and requests to it as its page makes them. */
import http from 'node:http';
import type { ExecutionContext } from 'ava';
import { createDatabase, type TestDatabase } from './database.js';
import { startTestRelay, type Environment } from './relay.js';
import { request, type Answer } from './request.js';

export const PASSWORD = 'correct horse battery';

export interface TestConsole {
  readonly database: TestDatabase;
  readonly url: string;
  /** Each line of the relay's log, in JSON. */
  readonly log: readonly string[];
  stop(): Promise<void>;
  /** The cookie of a session, to be sent as it is. */
  signIn(password?: string): Promise<string>;
  get(path: string, headers?: http.OutgoingHttpHeaders): Promise<Answer>;
  /** With a body. */
  send(method: string, path: string, body: string, headers?: http.OutgoingHttpHeaders): Promise<Answer>;
  /** The same as somebody who has signed in, and as JSON; `path` is below /console/api/. */
  api<T>(path: string): Promise<T>;
}

export async function startConsole(t: ExecutionContext, env: Environment = {}): Promise<TestConsole> {
  const database = await createDatabase(t);
  const log: string[] = [];
  const settings = { CONSOLE: 'true', CONSOLE_PASSWORD: PASSWORD, ...env };
  const relay = await startTestRelay(t, database.url, settings, (line) => log.push(line));
  return consoleAt(relay.url, { database, log, stop: relay.stop });
}

/** The same for a relay that runs already. */
export function consoleAt(url: string, parts: Pick<TestConsole, 'database' | 'log' | 'stop'>): TestConsole {
  let cookie: string | undefined;
  const get: TestConsole['get'] = (path, headers = {}) => request(url, path, { headers });
  const send: TestConsole['send'] = (method, path, body, headers = {}) =>
    sendBody(url, { method, path, body, headers });
  async function signIn(password = PASSWORD): Promise<string> {
    const { status, headers, body } = await send('POST', '/console/session', JSON.stringify({ password }));
    if (status !== 204) throw new Error(`${status} ${body}`);
    return (headers['set-cookie']?.[0] ?? '').split(';', 1)[0] ?? '';
  }
  return {
    ...parts,
    url,
    signIn,
    get,
    send,
    async api<T>(path: string) {
      cookie ??= await signIn();
      const { status, body } = await get(`/console/api/${path}`, { cookie });
      if (status !== 200) throw new Error(`${status} ${body}`);
      return JSON.parse(body) as T;
    },
  };
}

async function sendBody(
  url: string,
  { method, path, body, headers }: { method: string; path: string; body: string; headers: http.OutgoingHttpHeaders },
): Promise<Answer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const length = { 'Content-Length': Buffer.byteLength(body) };
    const sent = http.request(
      { hostname, port, path, method, agent: false, headers: { ...length, ...headers } },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }));
      },
    );
    sent.on('error', reject).end(body);
  });
}
