import test from 'ava';
import { consoleAt, PASSWORD } from './support/console.js';
import { createDatabase } from './support/database.js';
import { startRelayProcess } from './support/relay-process.js';
import { request } from './support/request.js';
import { openStream } from './support/stream.js';

const STREAMS = 12;

interface Connections {
  readonly total: number;
  readonly connections: readonly { readonly id: string; readonly address: string }[];
}

interface Overview {
  readonly connections: { readonly total: number };
  readonly workers: { readonly answered: number; readonly missing: number };
}

test('with WORKERS the console and the metrics port show all of them, and go on where one hangs', async (t) => {
  const database = await createDatabase(t);
  const relay = await startRelayProcess(t, database.url, {
    WORKERS: '2',
    METRICS_PORT: '0',
    CONSOLE: 'true',
    CONSOLE_PASSWORD: PASSWORD,
    CONSOLE_SHOWS: 'addresses',
  });
  const streams = await Promise.all(
    Array.from({ length: STREAMS }, (_, n) => openStream(t, `${relay.url}/events?channel=c${n % 3}`)),
  );
  await Promise.all(streams.map((stream) => stream.until(({ event }) => event === 'stream-open')));
  await database.query("INSERT INTO outbox (channel, data) VALUES ('c0', '1')");
  const reached = streams.filter((_, n) => n % 3 === 0);
  await Promise.all(reached.map((stream) => stream.untilEvents(1)));

  const site = consoleAt(relay.url, { database, log: [], stop: () => Promise.resolve() });
  const { total, connections } = await site.api<Connections>('connections');
  t.is(total, STREAMS);
  t.is(new Set(connections.map(({ id }) => id)).size, STREAMS);
  t.true(connections.every(({ address }) => address === '127.0.0.1'));
  t.like(await site.api('channels?prefix=c'), {
    total: 3,
    isComplete: true,
    channels: [{ connections: 4 }, { connections: 4 }, { connections: 4 }],
  });
  t.like(await site.api('session'), { workers: 2 });

  const port = new URL(relay.metricsUrl ?? '').origin;
  const told = JSON.parse((await request(port, '/connections?sort=age&limit=5')).body) as Connections;
  t.like(told, { total: STREAMS, shown: 5, states: { total: STREAMS, live: STREAMS }, channelsTotal: 3 });
  t.like(JSON.parse((await request(port, '/delivered/1')).body), { open: 4, passed: 4, behind: 0 });
  t.is((await request(port, '/delivered/77')).status, 404);

  const cookie = await site.signIn();
  const live = await openStream(t, `${relay.url}/console/api/live?views=overview`, { cookie });
  const overviews = (): Overview[] =>
    live.frames.filter(({ event }) => event === 'overview').map(({ data }) => JSON.parse(data ?? '') as Overview);
  await live.until(({ event }) => event === 'overview');
  t.like(overviews()[0], { connections: { total: STREAMS }, workers: { answered: 2, missing: 0 } });
  // One of the two serves this stream. Whichever the other is, it stands still in one of these
  // rounds.
  for (const pid of await relay.workers()) {
    process.kill(pid, 'SIGSTOP');
    const before = live.frames.length;
    const next = live.until((frame) => {
      if (live.frames.indexOf(frame) < before || frame.event !== 'overview') return false;
      return (JSON.parse(frame.data ?? '') as Overview).workers.missing === 1;
    });
    const found = await Promise.race([next, new Promise<undefined>((done) => setTimeout(() => done(undefined), 5000))]);
    process.kill(pid, 'SIGCONT');
    if (found) t.is((JSON.parse(found.data ?? '') as Overview).connections.total, STREAMS);
  }
  t.true(overviews().some(({ workers }) => workers.missing === 1));
});
