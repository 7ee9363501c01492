/**
 * What pages that wait may take together when each client's next event is larger than its page.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { createDatabase } from '../support/database.js';
import { startTestRelay } from '../support/relay.js';

const MEBIBYTE = 1024 * 1024;

/** How often the relay is asked for a state of which it gives no signal. */
const POLL_MS = 5;

/** A client that takes nothing until it is told to, and keeps nothing but the end of what came. */
function openSlow(t: ExecutionContext, url: string, path: string) {
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(url).port) });
  t.teardown(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.pause();
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
  let end = '';
  const done = new Promise<void>((resolve, reject) => {
    socket.on('data', (chunk) => {
      end = (end + chunk.subarray(-100).toString('latin1')).slice(-100);
      if (end.includes('"last"')) resolve();
    });
    socket.on('close', () => reject(new Error(`the relay hung up after ${end}`)));
  });
  return { socket, done };
}

test('R5: clients that take nothing of events that the table keeps compressed are held to the budget, and get all in the end', async (t) => {
  t.timeout(180_000);
  const clients = 12;
  // More than the system keeps for a socket.
  const size = 14 * MEBIBYTE;
  const limit = 16 * MEBIBYTE;
  const database = await createDatabase(t);
  // Each on a channel of its own, so that nothing is shared, and with small ones around it.
  for (let n = 1; n <= clients; n += 1) {
    await database.query(
      `INSERT INTO outbox (channel, data) VALUES ($1, '1'), ($1, to_jsonb(repeat('x', $2))), ($1, '{"n": "last"}')`,
      [`c${n}`, size],
    );
  }
  const relay = await startTestRelay(t, database.url, { REPLAY_MEGABYTES: '16', WINDOW_MEGABYTES: '0' });
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, relay.waitingBytes)), POLL_MS);
  t.teardown(() => clearInterval(watch));
  const crowd = Array.from({ length: clients }, (_, n) =>
    openSlow(t, relay.url, `/events/c${n + 1}?last_event_id=earliest`),
  );
  while (relay.waitingBytes < size) await delay(POLL_MS);
  for (const { socket } of crowd) socket.resume();
  await Promise.all(crowd.map(({ done }) => done));
  t.true(most <= limit * 1.25, `${most} bytes waited`);
  t.true(most >= size);
});
