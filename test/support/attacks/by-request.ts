/**
 * Attacks by request: what anybody who reaches a port can do.
 */
import net from 'node:net';
import { every, pause, type Attack, type Scene } from './attack.js';
import { eventsPath, get, rawRequest } from './raw-request.js';

/** What no client sends, by which parsers, routers and address readers are known to fail. */
const MALFORMED: readonly (string | Buffer)[] = [
  'GET // HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET //:0/ HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET http://x:99999999/metrics HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET /\\\\ HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET /events/%E0%A4%A HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET /events?channel=%00&channel=%ff HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET /metrics HTTP/1.1\r\n\r\n',
  'GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n',
  'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
  'GET /metrics HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\n\r\n',
  'POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
  'GET / HTTP/9.9\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  `GET /${'a'.repeat(70_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
  Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
  Buffer.from('GET /\0 HTTP/1.1\r\nHost: \xff\r\n\r\n', 'latin1'),
];

const malformed: Attack = {
  name: 'malformed requests to every port',
  async loop(scene, attacker) {
    let n = attacker;
    await every(scene, 20, () => {
      const bytes = MALFORMED[(n += 1) % MALFORMED.length] ?? '';
      const url = Math.floor(n / MALFORMED.length) % 2 === 0 ? scene.url : scene.metricsUrl;
      return rawRequest(scene, url, { bytes, until: 'end', patience: 200 });
    });
  },
};

const metrics: Attack = {
  name: '200 requests a second for /metrics',
  loop: (scene) =>
    every(scene, 50, () => {
      // Not one after the other: who floods does not wait for answers.
      void rawRequest(scene, scene.metricsUrl, { bytes: get('/metrics', { Connection: 'close' }), until: 'end' });
      return Promise.resolve();
    }),
};

const sinceNow: Attack = {
  name: 'streams that begin at a time: now, and in a year',
  loop: (scene, attacker) =>
    every(scene, 100, () => {
      const time = Date.now() + (attacker % 2 === 0 ? 0 : 365 * 86_400_000);
      const bytes = get(eventsPath(['news'], `&since=${time}`));
      return rawRequest(scene, scene.url, { bytes, until: { text: 'id:' } });
    }),
};

const sinceClosed: Attack = {
  name: 'streams that begin at a time, 100 a second that are closed at the first byte',
  loop: (scene) =>
    every(scene, 100, () =>
      rawRequest(scene, scene.url, { bytes: get(eventsPath(['news'], `&since=${Date.now()}`)), until: 'first byte' }),
    ),
};

const storm: Attack = {
  name: '500 connections a second that are closed at once',
  async loop(scene) {
    let n = 0;
    await every(scene, 20, () =>
      rawRequest(scene, scene.url, {
        bytes: (n += 1) % 2 === 0 ? '' : get(eventsPath(['news', 'live'])),
        until: 'sent',
      }),
    );
  },
};

const loris: Attack = {
  name: '500 requests that never end, a byte a second each',
  async loop(scene) {
    const sockets = Array.from({ length: 50 }, () => drip(scene));
    await pause(scene.signal, Infinity);
    await Promise.all(sockets);
  },
};

/** Sends a request a byte at a time, and begins anew when the relay has had enough. */
function drip(scene: Scene): Promise<void> {
  const bytes = get('/events/live', { 'X-Padding': 'x'.repeat(1000) });
  const { hostname, port } = new URL(scene.url);
  return every(
    scene,
    1000,
    () =>
      new Promise<void>((resolve) => {
        const socket = net.connect({ host: hostname, port: Number(port), localAddress: scene.address });
        let sent = 0;
        const timer = setInterval(() => socket.write(bytes[(sent += 1)] ?? 'x'), 1000);
        const leave = () => socket.destroy();
        scene.signal.addEventListener('abort', leave);
        socket.resume();
        socket.on('error', () => undefined);
        socket.on('close', () => {
          clearInterval(timer);
          scene.signal.removeEventListener('abort', leave);
          if (!scene.signal.aborted) scene.count('hung up');
          resolve();
        });
      }),
  );
}

const cookies: Attack = {
  name: '900 requests at a time with cookies that nobody has, while the application takes half a second for an answer',
  env: (appUrl) => ({ PUBLIC_CHANNELS: 'live', FORWARD_AUTH_URL: appUrl, TRUST_PROXY: '1' }),
  hasUser: true,
  async loop(scene, attacker) {
    const one = () =>
      every(scene, 100, () => {
        const cookie = `session=${scene.random.next().toString(36).slice(2)}`;
        const bytes = get(eventsPath(['private:1']), {
          Cookie: cookie,
          'X-Forwarded-For': `203.0.113.${attacker + 1}`,
        });
        return rawRequest(scene, scene.url, { bytes, until: 'first byte', patience: 10_000 });
      });
    await Promise.all(Array.from({ length: 90 }, one));
  },
};

export const BY_REQUEST: readonly Attack[] = [malformed, metrics, sinceNow, sinceClosed, storm, loris, cookies];
