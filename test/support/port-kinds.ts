/**
 * Every kind of port that there is, each with the process behind it, as its users run it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { createDatabase } from './database.js';
import { makeFolder } from './folder.js';
import type { Environment } from './relay.js';

export type PortKind = 'main' | 'console' | 'metrics' | 'metrics of workers' | 'demo';

export interface Port {
  readonly url: string;
  /** Where the main port of the same process is, if that is another. */
  readonly mainUrl: string;
  /** What is there, and answers 200. */
  readonly path: string;
  /** What opens whatever is closed there, as a Cookie header has it; empty: nothing is. */
  readonly cookie: string;
  /** Publishes a number to a channel. */
  publish(channel: string, n: number): Promise<void>;
  isAlive(): boolean;
  /** What it wrote on standard error, and what it logged that no client should cause. */
  complaints(): string[];
  /** All that it has logged. */
  output(): string;
  /** Ends it with SIGTERM; resolves with its exit code or signal. */
  stop(): Promise<number | string | null>;
}

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));
const CONSOLE_PASSWORD = 'correct horse battery staple';
const COMMON = { PORT: '0', PUBLIC_CHANNELS: '*', SHUTDOWN_SECONDS: '2' };
const KINDS: Readonly<Record<PortKind, Environment>> = {
  main: {},
  console: { CONSOLE: 'true', CONSOLE_PASSWORD, COMPRESSION: 'gzip' },
  metrics: { METRICS_PORT: '0' },
  'metrics of workers': { METRICS_PORT: '0', WORKERS: '2' },
  demo: { LOG_LEVEL: 'info' },
};

/** Starts the process behind such a port; resolves when it serves. It ends with the test. */
export async function startPort(
  t: Pick<ExecutionContext, 'teardown'>,
  kind: PortKind,
  env: Environment = {},
): Promise<Port> {
  const isDemo = kind === 'demo';
  const database = isDemo ? undefined : await createDatabase(t);
  // The demo's data is made where it is started.
  const cwd = isDemo ? await makeFolder(t, 'demo') : undefined;
  const child: ChildProcess = spawn(process.execPath, [MAIN, ...(isDemo ? ['demo'] : [])], {
    env: {
      PATH: process.env['PATH'] ?? '',
      ...COMMON,
      ...KINDS[kind],
      ...(database === undefined ? {} : { DATABASE_URL: database.url }),
      ...env,
    },
    ...(cwd === undefined ? {} : { cwd }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let hasEnded = false;
  const closed = new Promise<number | string | null>((resolve) => {
    child.once('close', (code, signal) => {
      hasEnded = true;
      resolve(code ?? signal);
    });
  });
  t.teardown(async () => {
    // A demo that is killed would leave its database server behind.
    child.kill('SIGTERM');
    await closed;
  });
  const lines: string[] = [];
  const errors: string[] = [];
  createInterface(child.stderr as Readable).on('line', (line) => errors.push(line));
  const urls = await new Promise<{ main: string; metrics?: string }>((serves, failed) => {
    let [main, metrics]: (string | undefined)[] = [];
    const last = kind === 'metrics of workers' ? 'all workers serve' : 'listening';
    createInterface(child.stdout as Readable).on('line', (line) => {
      lines.push(line);
      if (!line.startsWith('{')) return;
      const { msg, url } = JSON.parse(line) as { msg?: string; url?: string };
      if (msg === 'metrics') metrics = url;
      if (msg === 'listening') main = url;
      if (msg === last && main !== undefined) serves({ main, ...(metrics === undefined ? {} : { metrics }) });
    });
    void closed.then(() => failed(new Error(`it did not start: ${[...lines, ...errors].join('\n')}`)));
  });
  return {
    url: new URL(urls.metrics ?? urls.main).origin,
    mainUrl: urls.main,
    path: urls.metrics === undefined ? '/healthz' : '/metrics',
    cookie: kind === 'console' ? await signIn(urls.main) : '',
    async publish(channel, n) {
      if (database) {
        await database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::int))', [channel, n]);
        return;
      }
      const body = JSON.stringify({ channel, data: n });
      const { status } = await fetch(`${urls.main}/publish`, { method: 'POST', body });
      if (status !== 201) throw new Error(`the demo publishes with ${status}`);
    },
    isAlive: () => !hasEnded,
    complaints: () => [
      ...errors,
      ...lines.filter((line) => line.startsWith('{') && (JSON.parse(line) as { level: number }).level >= 50),
    ],
    output: () => lines.join('\n'),
    async stop() {
      child.kill('SIGTERM');
      return closed;
    },
  };
}

/** @returns the cookie of a session in the console */
async function signIn(url: string): Promise<string> {
  const response = await fetch(`${url}/console/session`, {
    method: 'POST',
    headers: { Origin: url },
    body: JSON.stringify({ password: CONSOLE_PASSWORD }),
  });
  const [cookie = ''] = (response.headers.get('set-cookie') ?? '').split(';');
  if (response.status !== 204 || cookie === '') throw new Error(`the console lets nobody in: ${response.status}`);
  return cookie;
}
