/**
 * What stands in front in production, such as nginx, in a few lines: one origin, with the relay at /events and its modules, and Django at all else.
 *
 * So the browser needs no CORS, and the token's cookie goes to both.
 */
import http from 'node:http';

/** As nginx's error_page in docs/proxies.md: nothing but a pause, after which EventSource comes back. At a 502 it would give up for good. */
const RELAY_AWAY = 'event: stream-pause\nretry: 1000\ndata: {"reason":"away","retryMs":1000}\n\n';

/**
 * @param {{ app: string, relay: string, port?: number, host?: string }} targets origins; port 0: any that is free
 * @returns {Promise<{ url: string, stop(): Promise<void> }>}
 */
export async function startFront({ app, relay, port = 0, host = '127.0.0.1' }) {
  const server = http.createServer((request, response) => {
    const isStream = /^\/events(?=[/?]|$)/.test(request.url ?? '');
    const isModule = /^\/outbox-relay(-htmx)?\.js$/.test(request.url ?? '');
    const target = new URL(isStream || isModule ? relay : app);
    const headers = { ...request.headers, 'x-forwarded-for': request.socket.remoteAddress, connection: 'close' };
    const upstream = http.request(
      { host: target.hostname, port: target.port, method: request.method, path: request.url, headers, agent: false },
      (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        response.flushHeaders();
        answer.pipe(response);
        // Cut short: what has come still goes out, and what is missing must not look like an end.
        const breakOff = () => response.socket?.destroySoon();
        answer.on('error', breakOff);
        answer.on('aborted', breakOff);
      },
    );
    upstream.on('error', () => {
      if (response.headersSent) response.destroy();
      else if (isStream) response.writeHead(200, { 'content-type': 'text/event-stream' }).end(RELAY_AWAY);
      else response.writeHead(502).end('The application does not answer.\n');
    });
    response.on('close', () => upstream.destroy());
    request.pipe(upstream);
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  return {
    url: `http://${host}:${server.address().port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}
