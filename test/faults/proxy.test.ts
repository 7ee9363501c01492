/**
 * nginx with the recipe of docs/proxies.md in front: what it and the relay make of a client that says it is somebody else.
 */
import http from 'node:http';
import test from 'ava';
import { createDatabase } from '../support/database.js';
import { startNginx } from '../support/nginx.js';
import { startTestRelay } from '../support/relay.js';
import { openRaw, parseAnswer } from '../support/request.js';

test('R5: with the recipe for nginx and TRUST_PROXY=1 a client cannot choose its address', async (t) => {
  const database = await createDatabase(t);
  const relay = await startTestRelay(t, database.url, { TRUST_PROXY: '1', MAX_CONNECTIONS_PER_ADDRESS: '2' });
  const url = await startNginx(t, [relay.url]);
  const ask = async (...lines: string[]) => {
    const headers = lines.map((line) => `${line}\r\n`).join('');
    const connection = openRaw(t, url, `GET /events/a HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);
    await connection.until('\r\n\r\n');
    return parseAnswer(connection.text).status;
  };
  t.is(await ask('X-Forwarded-For: 203.0.113.1'), 200);
  t.is(await ask('X-Forwarded-For: 203.0.113.2'), 200);
  t.is(await ask('X-Forwarded-For: 203.0.113.3'), 429);
  t.is(await ask('X-Forwarded-For: 203.0.113.4', 'X-Forwarded-For: 203.0.113.5'), 429);
  t.is(await ask('x-forwarded-for: 203.0.113.6, '), 429);
  t.is(await ask('X_Forwarded_For: 203.0.113.7'), 429);
  t.is(await ask('Forwarded: for=203.0.113.8', 'X-Real-IP: 203.0.113.8'), 429);
  t.is(await ask(), 429);
  t.is(await fromElsewhere(url), 200);
});

/** The status for a client at another address of the loopback. */
function fromElsewhere(url: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const request = http.get(`${url}/events/a`, { localAddress: '127.0.0.2', agent: false }, (response) => {
      resolve(response.statusCode);
      request.destroy();
    });
    request.once('error', reject);
  });
}
