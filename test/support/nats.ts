/**
 * Servers of NATS with JetStream: one, or a cluster of several whose network can fail, on loopback and with data in folders of the test.
 */
import { accessSync, constants } from 'node:fs';
import { rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { startDaemon, type Daemon } from './daemon.js';
import { freePort } from './port.js';
import { startProxy, type Proxy } from './proxy.js';

export interface NatsServer {
  readonly name: string;
  /** Of its process. @throws while it does not run. */
  readonly pid: number;
  /** Straight to it, without credentials. */
  readonly url: string;
  /** Where JetStream keeps what it stores. */
  readonly store: string;
  /** Ends it; resolves when its process is gone. */
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Starts it again, after `end`; resolves when it serves, which may be before it has caught up. */
  start(): Promise<void>;
  signal(name: 'SIGSTOP' | 'SIGCONT' | 'SIGHUP'): void;
  /** Deletes all that it has stored. Only after `end`. */
  wipe(): Promise<void>;
  /** What its monitoring says, as in `/jsz`. */
  ask(path: string): Promise<unknown>;
}

export interface NatsServers {
  readonly servers: readonly [NatsServer, ...NatsServer[]];
  /** All of them, as NATS_URL has it. */
  readonly url: string;
  /** Resolves when JetStream works on all of them, and each has what the others have. */
  healthy(): Promise<void>;
  /** Cuts one off from the others, both ways; its clients stay. Only with `networks`. */
  partition(server: number): void;
  /** Lets all routes through again. */
  heal(): void;
}

export interface NatsOptions {
  /** Default: 1. */
  readonly servers?: number;
  /** Whether routes lead through networks that can fail. */
  readonly networks?: boolean;
  /** More of the configuration, such as users and their permissions. */
  readonly config?: string;
  /** How JetStream writes to its disk: default `2m`, as it has it by itself. */
  readonly syncInterval?: string;
  /** Called with each line that one writes. */
  readonly log?: (line: string) => void;
}

/** Of nats-server's start, and of a cluster that elects a leader on a busy machine. */
const HEALTHY_MS = 60_000;
const POLL_MS = 100;
/** Nobody listens there: servers learn of each other by their lists alone, and get no way around a partition. */
const NOWHERE = '127.0.0.1:9';

const PATHS = [
  fileURLToPath(new URL('../../../.cache/nats/nats-server', import.meta.url)),
  join(homedir(), 'go/bin/nats-server'),
];

/** Starts them, with JetStream working; ends them with the test. @throws when nats-server is not installed. */
export async function startNats(
  t: Pick<ExecutionContext, 'teardown'>,
  { servers: count = 1, networks = false, config = '', syncInterval = '2m', log }: NatsOptions = {},
): Promise<NatsServers> {
  const numbers = Array.from({ length: count }, (_, n) => n);
  const ports = await Promise.all(
    numbers.map(async () => [await freePort(), await freePort(), await freePort()] as const),
  );
  const routeOf = (n: number) => `nats://127.0.0.1:${ports[n]?.[1] ?? 0}`;
  const routes = new Map<string, Proxy>();
  const startOne = async (n: number): Promise<NatsServer> => {
    const [port = 0, clusterPort = 0, monitorPort = 0] = ports[n] ?? [];
    const name = `n${n + 1}`;
    const others: string[] = [];
    for (const other of numbers.filter((each) => each !== n)) {
      if (!networks) {
        others.push(routeOf(other));
        continue;
      }
      const proxy = await startProxy(t, routeOf(other));
      routes.set(`${n} ${other}`, proxy);
      others.push(proxy.url);
    }
    const cluster = `cluster {
  name: test
  listen: "127.0.0.1:${clusterPort}"
  ${networks ? `advertise: "${NOWHERE}"` : ''}
  no_advertise: true
  routes: [${others.map((url) => `"${url}"`).join(', ')}]
}`;
    const daemon: Daemon = await startDaemon(t, {
      program: findServer(),
      install: 'CONTRIBUTING.md, "Test", says how',
      asOurselves: true,
      args: (folder) => ['-c', join(folder, 'nats.conf')],
      config: {
        name: 'nats.conf',
        text: (folder) => `
server_name: ${name}
listen: "127.0.0.1:${port}"
http: "127.0.0.1:${monitorPort}"
jetstream { store_dir: "${join(folder, 'store')}", max_mem: 64M, max_file: 4G, sync_interval: "${syncInterval}" }
${count > 1 ? cluster : ''}
${config}
`,
      },
      ready: /Server is ready/,
      log: (line) => log?.(`${name}: ${line}`),
    });
    return {
      name,
      get pid() {
        if (daemon.pid === undefined) throw new Error(`${name} does not run`);
        return daemon.pid;
      },
      url: `nats://127.0.0.1:${port}`,
      store: join(daemon.folder, 'store'),
      end: daemon.end,
      start: daemon.start,
      signal: daemon.signal,
      wipe: () => rm(join(daemon.folder, 'store'), { recursive: true, force: true }),
      async ask(path) {
        const response = await fetch(`http://127.0.0.1:${monitorPort}${path}`, {
          signal: AbortSignal.timeout(POLL_MS * 20),
        });
        if (!response.ok) throw new Error(`${name} says ${response.status}: ${await response.text()}`);
        return response.json();
      },
    };
  };
  const [first, ...more] = await Promise.all(numbers.map(startOne));
  if (first === undefined) throw new RangeError('no server is too few');
  const servers = [first, ...more] as const;

  async function healthy(): Promise<void> {
    for (const end = performance.now() + HEALTHY_MS; ;) {
      try {
        await Promise.all(servers.map((server) => server.ask('/healthz')));
        return;
      } catch (error) {
        if (performance.now() > end) throw new Error('JetStream does not get healthy', { cause: error });
      }
      await delay(POLL_MS);
    }
  }

  await healthy();
  return {
    servers,
    url: servers.map(({ url }) => url).join(','),
    healthy,
    partition(server) {
      for (const [line, proxy] of routes) if (line.split(' ').includes(String(server))) proxy.blackhole();
    },
    heal() {
      for (const proxy of routes.values()) {
        proxy.heal();
        // What it kept is of no use any more, and a route that is made anew is there at once.
        proxy.cut();
      }
    },
  };
}

/** Its path in NATS_SERVER_PATH; else where `.ci/run` and Go put it; else its name, to be looked for on the path. */
export function findServer(): string {
  const given = process.env['NATS_SERVER_PATH'];
  if (given !== undefined && given !== '') return given;
  for (const path of PATHS) {
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there.
    }
  }
  return 'nats-server';
}
