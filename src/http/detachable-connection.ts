/**
 * A connection as HTTP sees it: a thin layer over the socket, which can be taken off again.
 *
 * Node hangs a parser, the request, the response and a dozen listeners on the socket that a server
 * hands it, and they stay as long as the socket does. For a request that is over in milliseconds
 * this is nothing; for an idle stream it is most of its memory. Here they hang on the layer, and
 * when the headers are out, `release` gives up the layer with all that hangs on it and gives the
 * bare socket away. HTTP servers take any Duplex for a connection (Node.js manual, http, event
 * 'connection').
 */
import type http from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** Puts a layer on each connection of `server`: `socket` of its requests is a `Connection`. */
export function layer(server: http.Server): void {
  const listeners = server.listeners('connection') as ((connection: Duplex) => void)[];
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    const connection = new Connection(socket);
    for (const listener of listeners) listener.call(server, connection);
  });
}

export class Connection extends Duplex {
  #socket: Socket | undefined;
  readonly #listeners: Readonly<Record<string, (value?: unknown) => void>> = {
    data: (chunk) => {
      if (!this.push(chunk)) this.#socket?.pause();
    },
    end: () => this.push(null),
    error: (error) => this.destroy(error as Error),
    close: () => this.destroy(),
    timeout: () => this.emit('timeout'),
  };
  readonly remoteAddress: string | undefined;

  constructor(socket: Socket) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    this.remoteAddress = socket.remoteAddress;
    for (const [name, listener] of Object.entries(this.#listeners)) socket.on(name, listener);
    // It flows when it is read from.
    socket.pause();
  }

  /**
   * Gives the socket away: nothing of the layer is left on it. Undefined where the socket is gone
   * or going. What was written before has been written to the socket. The layer is over when HTTP,
   * whose response is to be ended, has done with it.
   */
  release(): Socket | undefined {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed || !socket.writable) return undefined;
    for (const [name, listener] of Object.entries(this.#listeners)) socket.off(name, listener);
    socket.setTimeout(0);
    this.#socket = undefined;
    return socket;
  }

  /**
   * As a socket's. HTTP ends with it what it uses no more; by `end` alone a client that keeps its
   * side open would hold the connection for ever.
   */
  destroySoon(): void {
    this.end(() => this.destroy());
  }

  get timeout(): number | undefined {
    return this.#socket?.timeout;
  }

  setTimeout(milliseconds: number): this {
    this.#socket?.setTimeout(milliseconds);
    return this;
  }

  override _read(): void {
    this.#socket?.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, written: (error?: Error | null) => void): void {
    if (this.#socket) this.#socket.write(chunk, written);
    else written();
  }

  override _final(ended: (error?: Error | null) => void): void {
    if (this.#socket) this.#socket.end(ended);
    else ended();
  }

  override _destroy(error: Error | null, destroyed: (error?: Error | null) => void): void {
    this.#socket?.destroy();
    destroyed(error);
  }
}
