/**
 * A relay that is told to stop while its database is away ends as promptly as otherwise, and with success.
 */
import test from 'ava';
import { createDatabase } from '../support/database.js';
import { startProxy } from '../support/proxy.js';
import { startRelayProcess } from '../support/relay-process.js';
import { request } from '../support/request.js';
import { startStopwatch } from '../support/stopwatch.js';
import { openStream } from '../support/stream.js';

const SHUTDOWN = 2;

for (const [what, fault] of [
  ['refuses', 'refuse'],
  ['is silent', 'blackhole'],
] as const) {
  test(`a relay whose database ${what} ends within SHUTDOWN_SECONDS when it is told to`, async (t) => {
    const database = await createDatabase(t);
    const proxy = await startProxy(t, database.url);
    const relay = await startRelayProcess(t, proxy.url, {
      SHUTDOWN_SECONDS: String(SHUTDOWN),
      LISTEN_TIMEOUT_SECONDS: '2',
      HEARTBEAT_SECONDS: '0.3',
    });
    const live = await openStream(t, `${relay.url}/events/a`);
    await live.until(({ event }) => event === 'stream-open');
    proxy[fault]();
    while ((await request(relay.url, '/readyz')).status === 200) await live.more();
    // One that waits for its place.
    const waiting = await openStream(t, `${relay.url}/events/a?last_event_id=earliest`);

    const since = startStopwatch();
    t.is(await relay.end('SIGTERM'), 0);
    const took = since.seconds();
    t.log(`it took ${took.toFixed(2)} s`);
    t.true(took <= SHUTDOWN + 1, `it took ${took.toFixed(2)} s`);
    await Promise.all([live.ended, waiting.ended]);
    t.is(live.frames.at(-1)?.event, 'stream-pause');
    t.true((live.frames.at(-1)?.retry ?? 0) > 0, 'told when to come back');
  });
}
