/**
 * R5: no request to any port ends a process, whatever its bytes are; and no path has a second spelling.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { createDatabase } from '../support/database.js';
import { HOSTILE } from '../support/hostile-bytes.js';
import { startPort, type PortKind } from '../support/port-kinds.js';
import { openRaw, parseAnswer, request, type ErrorBody } from '../support/request.js';
import { openStream } from '../support/stream.js';

const KINDS: readonly PortKind[] = ['main', 'console', 'metrics', 'metrics of workers', 'demo'];

for (const kind of KINDS) {
  test.serial(
    `R5: no request to this port ends a process, and each that is none is refused in words: ${kind}`,
    async (t) => {
      const port = await startPort(t, kind);
      for (const [what, { bytes, statuses }] of HOSTILE) {
        const text = await openRaw(t, port.url, bytes).ended;
        const { status, headers, body } = parseAnswer(text);
        t.true(statuses.includes(text === '' ? undefined : status), `${what}: ${text.slice(0, 200)}`);
        if (text !== '' && !/^TRACE/.test(String(bytes))) {
          t.is(headers['content-type'], 'application/json; charset=utf-8', what);
          t.regex((JSON.parse(body) as ErrorBody).message, /\w.*\.$/, what);
        }
        t.true(port.isAlive(), what);
      }
      t.is((await request(port.url, port.path)).status, 200);
      t.deepEqual(port.complaints(), []);
    },
  );
}

test.serial(
  'R5: what a client sends slowly, or never to its end, ends no process and keeps nobody waiting',
  async (t) => {
    const kinds = ['main', 'metrics'] as const;
    for (const kind of kinds) {
      const port = await startPort(t, kind);
      const slow = ['', 'G', 'GET /', 'GET / HTTP/1.1\r\nHost: x\r\nX: '].map((bytes) => openRaw(t, port.url, bytes));
      t.is((await request(port.url, port.path)).status, 200);
      for (const { socket } of slow) socket.destroy();
      t.true(port.isAlive());
    }
  },
);

test.serial('a request in absolute form is one for its own host, whatever Host says', async (t) => {
  const { url } = await startPort(t, 'main');
  const ask = async (target: string, host: string) =>
    parseAnswer(await openRaw(t, url, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`).ended);
  t.is((await ask('http://relay.example/healthz', 'other.example')).status, 200);
  t.is((await ask('HTTP://relay.example:80/healthz?x', '')).status, 200);
  t.is((await ask('http://relay.example', 'x')).status, 404);
  t.is((await ask('http://relay.example?/healthz', 'x')).status, 404);
});

test.serial('R5: a process that has all the files it may have goes on with those that it has', async (t) => {
  const database = await createDatabase(t);
  const main = fileURLToPath(new URL('../../src/main.js', import.meta.url));
  const child = spawn('sh', ['-c', `ulimit -n 500 && exec "$0" "$@"`, process.execPath, main], {
    env: { PATH: process.env['PATH'], DATABASE_URL: database.url, PORT: '0', PUBLIC_CHANNELS: '*' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const url = await new Promise<string>((serves, failed) => {
    createInterface(child.stdout).on('line', (line) => {
      const { msg, url: address = '' } = JSON.parse(line) as { msg?: string; url?: string };
      if (msg === 'listening') serves(address);
    });
    child.once('exit', () => failed(new Error('it did not start')));
  });
  const witness = await openStream(t, `${url}/events/a`);
  await witness.until(({ event }) => event === 'stream-open');
  const crowd = Array.from({ length: 800 }, () => openRaw(t, url, 'GET /events/b HTTP/1.1\r\nHost: x\r\n\r\n'));
  await Promise.any(crowd.map(({ ended }) => ended));
  await database.query("INSERT INTO outbox (channel, data) VALUES ('a', '1')");
  await witness.untilEvents(1);
  for (const { socket } of crowd) socket.destroy();
  t.is(child.exitCode, null);
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
  t.is(child.exitCode, 0);
});
