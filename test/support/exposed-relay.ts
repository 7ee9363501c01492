/**
 * A relay as a process of its own, to which everything may happen: it is killed and rolled, and between it and its database,
 * and it and its clients, there is a network that fails.
 *
 * It is started again as a supervisor would, until it serves.
 */
import type { ExecutionContext } from 'ava';
import type { Fault } from './fate.js';
import { lineOf, networkFaults, type Line } from './network-faults.js';
import { freePort } from './port.js';
import { startProxy, type Proxy } from './proxy.js';
import type { Random } from './random.js';
import { startRelayProcess } from './relay-process.js';
import type { Environment } from './relay.js';
import type { Shift } from './shift.js';

export interface ExposedRelay {
  /** Ways to it: straight, and through the network where that fails. */
  readonly urls: readonly [straight: string, through?: string];
  readonly metricsUrl: string;
  readonly processFaults: Readonly<Record<string, Fault>>;
  readonly networkFaults: Readonly<Record<string, Fault>>;
  /** Whether it looks by itself, and publishers do not ring. */
  isAwake(): Promise<boolean>;
  /** Lets everything through, and ends connections that are dead. */
  heal(): void;
  /** Starts that came to nothing, as the database was away. */
  readonly failedStarts: number;
  /** Times that SIGTERM ended it in disorder, since it did not get ready in time. */
  readonly lateEnds: number;
  /** What it did that it should not have. */
  readonly complaints: readonly string[];
}

export interface ExposedRelayOptions {
  readonly databaseUrl: string;
  readonly env: Environment;
  /** Whether there are networks that fail. */
  readonly networks: boolean;
  readonly random: Random;
  readonly shift: Shift;
  readonly signal: AbortSignal;
  /** Called with each line that it writes. */
  readonly log: (line: string) => void;
}

/** The longest that it stays away, in milliseconds. */
const AWAY_MS = 1_500;
/**
 * Whatever a start waits for has a limit, and all limits in a row are less than that, in milliseconds: looking for migrations
 * (30 s), pruning (50 s), the listener, the newest events and the workers (15 s). One that takes longer waits for ever.
 */
const START_MS = 120_000;
const START_PAUSE_MS = 200;
const METRICS_MS = 1_000;
/** So many starts in a row fail only if something is wrong, once nothing happens to the database any more. */
const MOST_STARTS = 20;

export async function startExposedRelay(
  t: Pick<ExecutionContext, 'teardown'>,
  { databaseUrl, env, networks, random, shift, signal, log }: ExposedRelayOptions,
): Promise<ExposedRelay> {
  const proxies: Proxy[] = [];
  const lines: Record<string, Line> = {};
  /** @param urls separated by commas, where there are several ways. */
  const through = async (line: string, urls: string): Promise<string> => {
    if (!networks) return urls;
    const ways = await Promise.all(urls.split(',').map((url) => startProxy(t, url)));
    const [way, ...more] = ways;
    lines[line] = way !== undefined && more.length === 0 ? way : lineOf(ways, random);
    proxies.push(...ways);
    return ways.map(({ url }) => url).join();
  };
  const [live, replays] = [await through('live', databaseUrl), await through('replays', databaseUrl)];
  const engine = env['NATS_URL'] === undefined ? {} : { NATS_URL: await through('engine', env['NATS_URL']) };
  // The same after every restart.
  const metricsPort = await freePort();
  const complaints: string[] = [];
  let failedStarts = 0;
  let lateEnds = 0;
  let latestError = '';
  const relay = await startRelayProcess(
    t,
    replays,
    { ...env, ...engine, METRICS_PORT: String(metricsPort), LISTEN_DATABASE_URL: live },
    (line) => {
      log(line);
      if (/^\w*error: /i.test(line)) latestError = line;
      // With which Node ends its account of an error that nobody caught.
      if (line.startsWith('Node.js v')) complaints.push(`a relay crashed: ${latestError}`);
    },
  );
  const clients = await through('clients', relay.url);
  const metricsUrl = `http://127.0.0.1:${metricsPort}`;

  async function end(how: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const code = await relay.end(how);
    if (code === null) complaints.push('a relay had ended by itself');
    if (how === 'SIGKILL' || code === 0) return;
    // 1: it was still waiting for something when its time was up.
    if (code === 1) lateEnds += 1;
    else complaints.push(`SIGTERM ended a relay with ${String(code)}`);
  }

  /** One after the other, whoever asks for it. */
  let restarted: Promise<void> = Promise.resolve();
  function restart(how: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    return (restarted = restarted.then(() => restartNow(how)));
  }

  async function restartNow(how: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    await end(how);
    await shift.pause(random.integer(0, AWAY_MS));
    for (let failures = 0; !signal.aborted && !(await serves());) {
      failedStarts += 1;
      failures = shift.isOn ? 0 : failures + 1;
      if (failures === MOST_STARTS) throw new Error('a relay does not start any more');
    }
  }

  async function serves(): Promise<boolean> {
    const deadline = setTimeout(() => {
      complaints.push(`a relay's start had not ended after ${START_MS / 1000} s`);
      void relay.end('SIGKILL');
    }, START_MS);
    try {
      await relay.start();
      return true;
    } catch {
      await new Promise((done) => setTimeout(done, START_PAUSE_MS));
      return false;
    } finally {
      clearTimeout(deadline);
    }
  }

  async function killWorker(): Promise<void> {
    try {
      const [worker] = random.sample(await relay.workers(), 1);
      if (worker !== undefined) process.kill(worker, 'SIGKILL');
    } catch {
      // It is gone, or the whole relay is: `end` will tell.
    }
  }

  return {
    urls: networks ? [relay.url, clients] : [relay.url],
    metricsUrl,
    processFaults: {
      'relay killed': () => restart('SIGKILL'),
      'relay rolled': () => restart('SIGTERM'),
      ...(env['WORKERS'] === undefined ? {} : { 'worker killed': killWorker }),
    },
    networkFaults: Object.assign(
      {},
      ...Object.entries(lines).map(([line, proxy]) => networkFaults(proxy, line, random, shift)),
    ) as Record<string, Fault>,
    async isAwake() {
      try {
        const response = await fetch(`${metricsUrl}/metrics`, { signal: AbortSignal.timeout(METRICS_MS) });
        return /^outbox_relay_awake 1$/m.test(await response.text());
      } catch {
        return false;
      }
    },
    heal() {
      for (const proxy of proxies) {
        proxy.heal();
        proxy.cut();
      }
    },
    get failedStarts() {
      return failedStarts;
    },
    get lateEnds() {
      return lateEnds;
    },
    complaints,
  };
}
