/**
 * The network between two parties, on loopback, and all that it can do to them.
 *
 * | mode       | connections that are open                        | new connections                     |
 * |------------|--------------------------------------------------|-------------------------------------|
 * | passing    | bytes go through, after `delay`, at `trickle`    | go through                          |
 * | black hole | nothing arrives, no end of either side included  | are taken and never answered        |
 * | refusing   | were cut when it began                           | are closed at once                  |
 *
 * What a black hole swallowed arrives after `heal`, as TCP sends again what was not acknowledged; `strand` first makes the
 * open connections stay dead for ever, as behind a firewall that has forgotten them.
 */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';

export interface Proxy {
  /** The target's URL with the proxy's address in it. */
  readonly url: string;
  /** How many connections are open through it now, dead ones included. */
  readonly connections: number;
  /** Sends each chunk on so many milliseconds late. 0: at once. */
  delay(milliseconds: number): void;
  /** Lets through at most so many bytes a second in each direction of each connection. Infinity: all. */
  trickle(bytesPerSecond: number): void;
  /** Ends all connections; new ones go through. */
  cut(): void;
  /** Ends all connections and takes no new ones. */
  refuse(): void;
  blackhole(): void;
  /**
   * The connections that are open now are dead for ever: nothing passes, nothing ends. With `name` only those that gave
   * it in what they sent first, as a session of PostgreSQL does with its application_name.
   */
  strand(name?: string): void;
  /** What the targets of the connections that are open now send is lost from now on: what they are asked for, they do. */
  mute(): void;
  /** New connections lead to the host and port of that URL; those that are open stay where they are. */
  retarget(target: string): void;
  /** Passes everything again, at full speed. */
  heal(): void;
}

export interface ProxyOptions {
  /** Sees what the connecting side sends. */
  readonly onSent?: (chunk: Buffer) => void;
  /** Default: one that is free. */
  readonly port?: number;
}

/** The two sockets of a connection through the proxy: that of the party that connected, and ours to the target. */
interface Connection {
  readonly near: Socket;
  readonly far: Socket;
  /** What the connecting side sent first. */
  hello: string | undefined;
  isStranded: boolean;
  isMuted: boolean;
}

/** Between two pieces of a trickle, in milliseconds. */
const TRICKLE_PAUSE = 20;

/** Starts one that passes everything on to the host and port of `target`, a URL with any scheme. */
export async function startProxy(
  t: Pick<ExecutionContext, 'teardown'>,
  target: string,
  options: ProxyOptions = {},
): Promise<Proxy> {
  let address = new URL(target);
  const connections = new Set<Connection>();
  let mode: 'passing' | 'blackhole' | 'refusing' = 'passing';
  let late = 0;
  let bytesPerSecond = Infinity;
  let healed = deferred();

  function cut(): void {
    for (const { near, far } of connections) for (const socket of [near, far]) socket.destroy();
  }

  /** Resolves when the connection may pass something on. */
  async function passable(connection: Connection): Promise<void> {
    if (connection.isStranded) await new Promise(() => undefined);
    while (mode === 'blackhole') {
      await healed.promise;
      if (connection.isStranded) await new Promise(() => undefined);
    }
  }

  async function pump(from: Socket, to: Socket, connection: Connection): Promise<void> {
    try {
      for await (const chunk of from) {
        if (from === connection.near) {
          connection.hello ??= (chunk as Buffer).toString('latin1');
          options.onSent?.(chunk as Buffer);
        } else if (connection.isMuted) continue;
        if (late > 0) await delay(late);
        await passable(connection);
        await pass(chunk as Buffer, to, connection);
      }
      await passable(connection);
      to.end();
    } catch {
      // One side is gone; the other hears of it as soon as anything gets through.
      await passable(connection);
      to.destroy();
    }
  }

  async function pass(chunk: Buffer, to: Socket, connection: Connection): Promise<void> {
    for (let sent = 0; sent < chunk.length;) {
      const size =
        bytesPerSecond === Infinity ? chunk.length : Math.max(1, Math.round((bytesPerSecond * TRICKLE_PAUSE) / 1000));
      if (!to.write(chunk.subarray(sent, sent + size))) await drained(to);
      sent += size;
      if (sent < chunk.length) {
        await delay(TRICKLE_PAUSE);
        await passable(connection);
      }
    }
  }

  const server = createServer({ allowHalfOpen: true }, (near) => {
    near.on('error', () => undefined);
    if (mode === 'refusing') {
      near.destroy();
      return;
    }
    const far = connect({ host: address.hostname, port: Number(address.port), allowHalfOpen: true });
    far.on('error', () => undefined);
    const connection: Connection = { near, far, hello: undefined, isStranded: false, isMuted: false };
    connections.add(connection);
    for (const socket of [near, far]) {
      socket.once('close', () => {
        if (near.destroyed && far.destroyed) connections.delete(connection);
      });
    }
    void pump(near, far, connection);
    void pump(far, near, connection);
  });
  await new Promise<void>((listening, failed) => {
    server.once('error', failed);
    server.listen(options.port ?? 0, '127.0.0.1', listening);
  });
  t.teardown(() => {
    cut();
    server.close();
  });
  const here = new URL(target);
  here.hostname = '127.0.0.1';
  here.port = String((server.address() as AddressInfo).port);

  function heal(): void {
    mode = 'passing';
    late = 0;
    bytesPerSecond = Infinity;
    healed.resolve();
    healed = deferred();
  }

  return {
    // As it was given: `http://host:port` gets a slash when it is parsed.
    url: target.endsWith('/') ? here.href : here.href.replace(/\/$/, ''),
    get connections() {
      return connections.size;
    },
    delay(milliseconds) {
      late = milliseconds;
    },
    trickle(rate) {
      bytesPerSecond = rate;
    },
    cut,
    refuse() {
      mode = 'refusing';
      cut();
    },
    blackhole() {
      mode = 'blackhole';
    },
    strand(name) {
      for (const connection of connections) {
        if (name === undefined || connection.hello?.includes(name)) connection.isStranded = true;
      }
    },
    mute() {
      for (const connection of connections) connection.isMuted = true;
    },
    retarget(next) {
      address = new URL(next);
    },
    heal,
  };
}

/** Rejects when the socket has closed instead. */
async function drained(socket: Socket): Promise<void> {
  const over = new AbortController();
  const closed = once(socket, 'close', { signal: over.signal }).then(() => {
    throw new Error('closed');
  });
  try {
    await Promise.race([once(socket, 'drain', { signal: over.signal }), closed]);
  } finally {
    // A long wait for a slow reader would leave as many listeners as it has chunks.
    over.abort();
    closed.catch(() => undefined);
  }
}

function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((resolved) => (resolve = resolved));
  return { promise, resolve };
}
