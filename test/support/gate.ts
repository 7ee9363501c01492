/**
 * The network between a client and a relay: while it is shut, connections are cut and no new one comes through.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';

export interface Gate {
  readonly url: string;
  /** All that clients have sent through it. */
  readonly sent: string;
  shut(): void;
  open(): void;
}

/** Starts one that is open, in front of `target`. */
export async function startGate(t: Pick<ExecutionContext, 'teardown'>, target: string): Promise<Gate> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let isOpen = true;
  let sent = '';
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  };
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  const server = createServer((client) => {
    keep(client);
    if (!isOpen) {
      client.destroy();
      return;
    }
    const relay = connect({ host: hostname, port: Number(port) });
    keep(relay);
    client.on('data', (chunk) => (sent += chunk.toString('latin1')));
    client.pipe(relay).pipe(client);
    client.once('close', () => relay.destroy());
    relay.once('close', () => client.destroy());
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  t.teardown(() => {
    cut();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get sent() {
      return sent;
    },
    shut() {
      isOpen = false;
      cut();
    },
    open() {
      isOpen = true;
    },
  };
}
