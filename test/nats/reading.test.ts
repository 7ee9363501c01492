/** The feed from a stream of NATS keeps to what its readers rely on. */
import test from 'ava';
import { pino } from 'pino';
import { openNatsLog } from '../../src/nats/nats-log.js';
import { makeStream, STREAM_DEFAULTS } from '../../src/nats/stream.js';
import { onEngine } from '../support/engine-stage.js';
import { declareFeedSuite } from '../support/feed-conformance.js';
import { startNats, type NatsServers } from '../support/nats.js';

const ends: (() => unknown)[] = [];
let started: Promise<NatsServers> | undefined;
test.after.always(async () => {
  for (const end of ends.reverse()) await end();
});

let streams = 0;

declareFeedSuite('the feed from a stream of NATS', async (t) => {
  const { url } = await (started ??= startNats({ teardown: (end) => void ends.push(end) }));
  streams += 1;
  const settings = { servers: url.split(','), credentialsFile: undefined, stream: `feed${streams}`, secret: undefined };
  const open = () => openNatsLog(settings, 'outbox-relay test', pino({ level: 'silent' }));
  const log = await open();
  t.teardown(log.close);
  await makeStream(log, { ...STREAM_DEFAULTS, maxBytes: 64 * 1024 ** 2 });
  return onEngine(t, open, 2);
});
