/**
 * A proxy for programs that take an answer for one when it has ended: it ends streams once they have begun, and lets nobody wait for
 * events. All else it passes on as it is.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ExecutionContext } from 'ava';

/** Where the first frame of a stream is whole. */
const FRAME_END = '\n\n';

/** @returns its address, without a path. */
export async function startEndingProxy(t: Pick<ExecutionContext, 'teardown'>, target: string): Promise<string> {
  const { hostname, port } = new URL(target);
  const proxy = http.createServer((request, response) => {
    const { method, headers, url = '' } = request;
    // What is no number of seconds is for the relay to refuse.
    const path = url.replace(/(?<=[?&]wait=)\d{1,2}(?=&|$)/, (seconds) => (Number(seconds) <= 60 ? '0' : seconds));
    const passed = http.request({ hostname, port, method, headers, path, agent: false, insecureHTTPParser: true });
    passed.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      const isStream = answer.headers['content-type']?.startsWith('text/event-stream') === true;
      let text = '';
      answer.on('data', (chunk: Buffer) => {
        response.write(chunk);
        text += chunk.toString('latin1');
        if (!isStream || !text.includes(FRAME_END)) return;
        response.end();
        passed.destroy();
      });
      answer.on('end', () => response.end());
      answer.on('error', () => response.end());
    });
    passed.on('error', () => response.destroy());
    request.pipe(passed);
  });
  await new Promise<void>((listening) => proxy.listen(0, '127.0.0.1', listening));
  t.teardown(() => {
    proxy.close();
    proxy.closeAllConnections();
  });
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
}
