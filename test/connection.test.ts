/**
 * The layer between HTTP and the socket: it must not change what HTTP does with a connection.
 */
import { once } from 'node:events';
import http from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { Connection, layer } from '../src/http/detachable-connection.js';

/** A server whose connections have the layer, and a client that has sent `request` and keeps its own side open. */
async function setUp(t: ExecutionContext, request: string, answer: http.RequestListener) {
  const server = http.createServer(answer);
  layer(server);
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true });
  t.teardown(() => {
    client.destroy();
    server.close();
    server.closeAllConnections();
  });
  client.setEncoding('latin1');
  client.write(request);
  const [socket] = await accepted;
  return { client, socket };
}

test('the last answer on a connection ends it, also for a client that keeps its own side open', async (t) => {
  const { client, socket } = await setUp(t, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', (_, response) =>
    response.end('all'),
  );
  let text = '';
  client.on('data', (chunk: string) => (text += chunk));
  await Promise.all([once(socket, 'close'), once(client, 'end')]);
  t.regex(text, /\r\n\r\nall$/);
  t.false(client.writableEnded, 'the client has not ended its side');
});

test('several requests are answered on one connection', async (t) => {
  const get = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
  const { client } = await setUp(t, get, (_, response) => response.end('answered;'));
  let text = '';
  const answered = async (times: number) => {
    while (text.split('answered;').length <= times) text += String((await once(client, 'data'))[0]);
  };
  await answered(1);
  client.write(get);
  await answered(2);
  t.is(text.match(/HTTP\/1\.1 200 /g)?.length, 2);
});

test('what is released is the bare socket, with what was written before on its way and nothing left on it', async (t) => {
  let released: Socket | undefined;
  const { client, socket } = await setUp(t, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', ({ socket: connection }, response) => {
    response.flushHeaders();
    released = (connection as unknown as Connection).release();
    released?.end('and this');
  });
  let text = '';
  client.on('data', (chunk) => (text += String(chunk)));
  await once(client, 'end');
  t.is(released, socket);
  t.regex(text, /^HTTP\/1.1 200 OK\r\n[^]*\r\n\r\nand this$/);
  for (const name of ['data', 'timeout', 'drain']) t.is(socket.listenerCount(name), 0, name);
});

test('of a client that has left nothing is released', async (t) => {
  const { client, socket } = await setUp(t, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', () => undefined);
  const connection = new Connection(socket);
  client.destroy();
  await once(socket, 'close');
  t.is(connection.release(), undefined);
});
