/**
 * `outbox-relay feed` as a process of its own, and what the stream has that it feeds.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { LoggedEntry } from '../../src/engine/engine-log.js';
import type { RunEvent } from '../../src/engine/entry.js';
import { openNatsLog, type NatsLog } from '../../src/nats/nats-log.js';
import { MAIN } from './command.js';
import { freePort } from './port.js';

export interface FeederProcess {
  /** Its health and metrics. */
  readonly url: string;
  readonly output: () => string;
  /** Resolves with its exit code. */
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null>;
}

const READY_MS = 30_000;
const POLL_MS = 20;

/** Resolves when it says that it is ready. */
export async function startFeederProcess(
  t: Pick<ExecutionContext, 'teardown'>,
  env: Readonly<Record<string, string>>,
): Promise<FeederProcess> {
  const port = await freePort();
  const child = spawn(process.execPath, [MAIN, 'feed'], {
    env: { PATH: process.env['PATH'] ?? '', SHUTDOWN_SECONDS: '5', METRICS_PORT: String(port), ...env },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)));
  const gone = once(child, 'close') as Promise<[number | null]>;
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    child.kill(signal);
    const [code] = await gone;
    return code;
  };
  t.teardown(() => end('SIGKILL'));
  const url = `http://127.0.0.1:${port}`;
  for (const late = performance.now() + READY_MS; ; await delay(POLL_MS)) {
    const answer = await fetch(`${url}/readyz`).catch(() => undefined);
    if (answer?.ok) return { url, output: () => output, end };
    if (performance.now() > late || child.exitCode !== null) throw new Error(`the feeder is not ready:\n${output}`);
  }
}

export interface StreamSettings {
  readonly url: string;
  readonly stream: string;
}

/** Connects to a stream, without a secret. */
export async function openStream(
  t: Pick<ExecutionContext, 'teardown'>,
  { url, stream }: StreamSettings,
): Promise<NatsLog> {
  const settings = { servers: url.split(','), credentialsFile: undefined, stream, secret: undefined };
  const log = await openNatsLog(settings, 'outbox-relay test', pino({ level: 'silent' }));
  t.teardown(log.close);
  return log;
}

/** All that is in the stream. */
export async function readWhole(log: Pick<NatsLog, 'read' | 'tip'>): Promise<LoggedEntry[]> {
  const all: LoggedEntry[] = [];
  const { sequence } = await log.tip();
  for (let at = 0n; at < sequence;) {
    const page = await log.read(at);
    if (page.length === 0) break;
    all.push(...page);
    at = page.at(-1)?.sequence ?? at;
  }
  return all;
}

export function eventsIn(entries: readonly LoggedEntry[]): RunEvent[] {
  return entries.flatMap(({ entry }) => (entry?.kind === 'run' ? entry.events : []));
}
