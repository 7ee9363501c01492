/**
 * The connection to NATS: loads the client, which is an optional dependency, connects, and connects
 * again for ever.
 */
import type { ConnectionOptions, NatsConnection } from '@nats-io/transport-node';
import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import { OperatorError } from '../operator-error.js';
import { createRetry, type Trouble } from '../postgres/retry.js';
import type * as Client from './client.js';

export interface NatsSettings {
  /** URLs, all `nats://` or all `tls://`, with a user and a password where there are any. */
  readonly servers: readonly string[];
  readonly credentialsFile: string | undefined;
}

export interface Connection {
  readonly nats: NatsConnection;
  /** The client's modules. */
  readonly modules: Modules;
  /** Undefined while it is connected. */
  readonly trouble: Trouble | undefined;
  /** Calls back after each connection but the first. */
  onConnect(callback: () => void): () => void;
  /** Safe to call twice. */
  close(): Promise<void>;
}

export type Modules = typeof Client;

const PACKAGES = '@nats-io/transport-node @nats-io/jetstream';

/** A server that has not answered so many pings is dead: a cut is found within some seconds. */
const PING_MS = 2000;
const PINGS = 2;

const RECONNECT_MS = 250;
const RECONNECT_JITTER_MS = 500;
const CONNECT_TIMEOUT_MS = 5000;

/** The largest entry. */
const LEAST_PAYLOAD_BYTES = 1024 ** 2;

/** The oldest server that is tested. Before 2.11 there are no batches of direct gets. */
const OLDEST_SERVER = [2, 12] as const;

/**
 * Connects as `name`.
 *
 * @throws OperatorError `nats-client-missing`, `nats-failed`, `nats-too-old`,
 * `no-jetstream`, `unfit-stream`
 */
export async function connectToNats(settings: NatsSettings, name: string, logger: Logger): Promise<Connection> {
  const modules = await loadModules();
  const nats = await modules.transport
    .connect(await connectionOptions(settings, name, modules.transport))
    .catch((error: unknown) => {
      throw new OperatorError('nats-failed', connectFailure(error, settings), { cause: error });
    });
  try {
    requireServer(nats);
  } catch (error) {
    await nats.close();
    throw error;
  }
  const retry = createRetry({
    firstPauseMs: 0,
    longestPauseMs: 0,
    log: {
      logger,
      onFailure: 'the connection to NATS is lost; connecting again',
      onRecovery: 'NATS is connected again',
    },
  });
  const callbacks = new Set<() => void>();
  void (async () => {
    for await (const status of nats.status()) {
      if (status.type === 'disconnect') retry.failed(new Error(`disconnected from ${status.server}`));
      if (status.type === 'reconnect') {
        retry.succeeded();
        for (const callback of callbacks) callback();
      }
      // What may not be done is told by whoever does it.
      if (status.type === 'slowConsumer') logger.warn({ pending: status.pending }, 'NATS is read too slowly');
    }
  })();

  return {
    nats,
    modules,
    get trouble() {
      return retry.trouble;
    },
    onConnect(callback) {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
    close: () => nats.close(),
  };
}

async function loadModules(): Promise<Modules> {
  try {
    return await import('./client.js');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    const message = `NATS_URL is set, and the client of NATS is not installed. Run: npm install ${PACKAGES}`;
    throw new OperatorError('nats-client-missing', message, { cause: error });
  }
}

async function connectionOptions(
  { servers, credentialsFile }: NatsSettings,
  name: string,
  { credsAuthenticator }: Modules['transport'],
): Promise<ConnectionOptions> {
  const urls = servers.map((server) => new URL(server));
  const user = urls.find(({ username }) => username !== '');
  return {
    name,
    servers: urls.map(({ host }) => host),
    ...(urls.some(({ protocol }) => protocol === 'tls:') ? { tls: {} } : {}),
    ...(user ? { user: decoded(user.username), pass: decoded(user.password) } : {}),
    ...(credentialsFile === undefined ? {} : { authenticator: credsAuthenticator(await readFile(credentialsFile)) }),
    timeout: CONNECT_TIMEOUT_MS,
    pingInterval: PING_MS,
    maxPingOut: PINGS,
    maxReconnectAttempts: -1,
    reconnectTimeWait: RECONNECT_MS,
    reconnectJitter: RECONNECT_JITTER_MS,
    reconnectJitterTLS: RECONNECT_JITTER_MS,
    // A password may be put right while the process runs.
    ignoreAuthErrorAbort: true,
  };
}

/** A part of an address as it was meant; as it stands where its percent signs are meant as such. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Without a user and a password. */
function serverNames({ servers }: Pick<NatsSettings, 'servers'>): string {
  return servers.map((server) => new URL(server).host).join(', ');
}

function connectFailure(error: unknown, settings: NatsSettings): string {
  const message = error instanceof Error ? error.message : String(error);
  const where = serverNames(settings);
  if (/authori[sz]ation|authentication/i.test(message)) {
    return `NATS at ${where} refused: ${message}. Check the user and the password in NATS_URL, or NATS_CREDENTIALS_FILE.`;
  }
  return `NATS at ${where} is not reachable: ${message}. Check NATS_URL and that nats-server runs.`;
}

function requireServer({ info }: NatsConnection): void {
  const version = info?.version ?? '';
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < OLDEST_SERVER[0] || (major === OLDEST_SERVER[0] && minor < OLDEST_SERVER[1])) {
    const least = OLDEST_SERVER.join('.');
    const message = `nats-server ${version} is too old: ${least} or newer is needed. Upgrade the servers in NATS_URL.`;
    throw new OperatorError('nats-too-old', message);
  }
  if (info !== undefined && info.max_payload < LEAST_PAYLOAD_BYTES) {
    const message = `Messages of NATS may have ${info.max_payload} bytes, and entries have up to ${LEAST_PAYLOAD_BYTES}. Set max_payload: 1MB in nats.conf, or leave it out.`;
    throw new OperatorError('unfit-stream', message);
  }
  if (info?.jetstream !== true) {
    throw new OperatorError(
      'no-jetstream',
      'JetStream is off at NATS_URL. Add to nats.conf: jetstream { store_dir: "/data" }',
    );
  }
}
