/** The engine's log on NATS keeps to what feeders and relays rely on. */
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { openNatsLog } from '../../src/nats/nats-log.js';
import { makeStream, STREAM_DEFAULTS } from '../../src/nats/stream.js';
import { declareEngineLogSuite, type EngineLogStage } from '../support/engine-log-conformance.js';
import { startNats, type NatsServers } from '../support/nats.js';

const logger = pino({ level: 'silent' });

/** Servers that all tests of this file share, each with a stream of its own. */
const ends: (() => unknown)[] = [];
const shared = (servers: number) => {
  let started: Promise<NatsServers> | undefined;
  return () => (started ??= startNats({ teardown: (end) => void ends.push(end) }, { servers }));
};
const [one, cluster] = [shared(1), shared(3)];
test.after.always(async () => {
  for (const end of ends.reverse()) await end();
});

let streams = 0;

async function onNats(t: ExecutionContext, servers: Promise<NatsServers>): Promise<EngineLogStage> {
  const nats = await servers;
  streams += 1;
  const settings = {
    servers: nats.url.split(','),
    credentialsFile: undefined,
    stream: `s${streams}`,
    secret: undefined,
  };
  const open = async () => {
    const log = await openNatsLog(settings, 'outbox-relay test', logger);
    t.teardown(log.close);
    return log;
  };
  const log = await open();
  await makeStream(log, { ...STREAM_DEFAULTS, maxBytes: 64 * 1024 ** 2, replicas: nats.servers.length });
  return {
    open,
    async inject(bytes) {
      await log.manager.jetstream().publish(log.subjects.log, bytes);
    },
  };
}

declareEngineLogSuite("an engine's log on NATS", (t) => onNats(t, one()));
declareEngineLogSuite("an engine's log on a cluster of NATS", (t) => onNats(t, cluster()));
