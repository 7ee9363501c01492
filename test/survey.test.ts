import test from 'ava';
import fc from 'fast-check';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { createAnswerer } from '../src/console/answerer.js';
import { createLive } from '../src/console/live.js';
import { createPulse } from '../src/console/pulse.js';
import { createRefusals } from '../src/console/refusals.js';
import { channelsOf, connectionsOf } from '../src/console/together.js';
import { channelFilter, covers, namesOf } from '../src/event/channel-filter.js';
import type { Log } from '../src/feed/log.js';
import { createTop } from '../src/stream/top.js';
import { survey, type Sort } from '../src/stream/survey.js';
import type { Stream } from '../src/stream/stream.js';
import type { Subscription } from '../src/stream/subscription.js';

const HEAD = 1000n;
/** Longer than the pause between two looks. */
const LEEWAY_MS = 1500;

/** As the relay has it, of what a survey reads. */
interface Made {
  readonly lag: number;
  readonly waiting: number;
  readonly openedAt: number;
  readonly names: readonly string[];
  readonly state: 'parked' | 'blocked' | 'reading';
}

const made = fc.record<Made>({
  lag: fc.integer({ min: 0, max: 999 }),
  waiting: fc.integer({ min: 0, max: 9999 }),
  openedAt: fc.integer({ min: 1, max: 1_000_000 }),
  names: fc.uniqueArray(fc.constantFrom('a', 'b:1', 'b:2', 'b:*', 'c'), { minLength: 1 }),
  state: fc.constantFrom('parked', 'blocked', 'reading'),
});

function streamOf({ lag, waiting, openedAt, names, state }: Made, n: number): Stream {
  const position = state === 'parked' ? HEAD : HEAD - BigInt(lag);
  return {
    number: n,
    openedAt,
    events: n,
    socket: { writableLength: waiting },
    subscription: {
      parked: state === 'parked',
      blocked: state === 'blocked',
      cursor: { position, id: String(position) },
    } as Subscription,
    request: {
      filter: channelFilter(names),
      address: '127.0.0.1',
      subject: undefined,
      format: 'data',
      isCompressed: false,
    },
  } as unknown as Stream;
}

const log = { head: { position: HEAD, id: '1000' } } as Log;
const KEYS = {
  lag: ({ lag, state }: Made) => (state === 'parked' ? 0 : lag),
  age: ({ openedAt }: Made) => -openedAt,
  waiting: ({ waiting }: Made) => waiting,
} as const;

test('the top of many is what sorting them all would give', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -20, max: 20 })), fc.integer({ min: 1, max: 12 }), (ranks, limit) => {
      const top = createTop<number>(limit);
      ranks.forEach((rank, n) => top.add(rank, n));
      const sorted = ranks.map((rank, n) => ({ rank, n })).sort((a, b) => b.rank - a.rank || a.n - b.n);
      t.deepEqual(
        top.list(),
        sorted.slice(0, limit).map(({ n }) => n),
      );
    }),
  );
});

test('what a survey shows, of one process or of several together, is what all connections come to', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(made, { maxLength: 40 }),
      fc.constantFrom<Sort>('lag', 'age', 'waiting'),
      fc.constantFrom(undefined, 'a', 'b:1', 'b:*', 'nobody'),
      fc.integer({ min: 1, max: 10 }),
      fc.integer({ min: 1, max: 3 }),
      async (connections, sort, channel, limit, processes) => {
        const wanted = channel === undefined ? undefined : channelFilter([channel]);
        const request = {
          connections: [{ sort, channel: wanted, limit }],
          channels: [{ prefix: 'b', limit: 100 }],
          delivery: { position: HEAD - 500n, channel: 'b:1', event: 'message' },
        };
        const streams = connections.map(streamOf);
        const answers = await Promise.all(
          Array.from({ length: processes }, (_, n) =>
            survey(
              { streams: { all: () => streams.filter((__, at) => at % processes === n) }, log, prefix: '' },
              request,
            ),
          ),
        );
        const matching = connections
          .map((connection, n) => ({ connection, n }))
          .filter(({ connection }) => wanted === undefined || covers(channelFilter(connection.names), wanted));
        const expected = matching.map(({ connection }) => KEYS[sort](connection)).sort((a, b) => b - a);
        const shown = connectionsOf(answers, 0, { sort, limit });
        t.is(shown.total, matching.length);
        if (sort !== 'age') {
          t.deepEqual(
            shown.connections.map(({ lagEvents, waitingBytes }) => (sort === 'lag' ? lagEvents : waitingBytes)),
            expected.slice(0, limit),
          );
        } else if (processes === 1) {
          const byAge = [...matching].sort((a, b) => a.connection.openedAt - b.connection.openedAt || a.n - b.n);
          t.deepEqual(
            shown.connections.map(({ id }) => id),
            byAge.slice(0, limit).map(({ n }) => String(n)),
          );
        }
        const counted = channelsOf(answers, 0, 100);
        const names = connections.flatMap((connection) => namesOf(channelFilter(connection.names)));
        for (const { channel: name, connections: count } of counted.channels)
          t.is(count, names.filter((one) => one === name).length);
        t.is(counted.total, new Set(names.filter((name) => name.startsWith('b'))).size);
        const readers = connections.filter((connection) =>
          covers(channelFilter(connection.names), channelFilter(['b:1'])),
        );
        const passed = readers.filter(({ state, lag }) => state === 'parked' || lag <= 500).length;
        const delivered = answers.reduce((sum, { delivery }) => sum + (delivery?.passed ?? 0), 0);
        t.is(delivered, passed);
      },
    ),
  );
});

test('nothing is measured, and no connection looked at, while nobody looks', async (t) => {
  let walks = 0;
  const pulse = createPulse();
  t.teardown(pulse.stop);
  const answer = createAnswerer(
    { addresses: true },
    {
      streams: {
        all: () => ((walks += 1), []),
        byState: () => ((walks += 1), { live: 0, catchingUp: 0, stalled: 0 }),
        totals: { events: 0, bytes: 0 } as never,
      },
      log: { head: { position: 1n, id: '1' }, size: { bytes: 0, events: 0 } } as Log,
      budget: { heldBytes: 0 },
      readiness: () => ({ ready: true, reasons: [] }),
      processNumber: 0,
      pulse,
      refusals: createRefusals({ trustProxy: 0, processNumber: 0 }),
      placeOf: () => Promise.resolve(undefined),
    },
  );
  const events = Array.from({ length: 10 }, () => ({ createdAt: Date.now() - 5 }));
  pulse.delivered(events);
  t.is(pulse.events, 10);
  t.is(walks, 0);
  // Nobody had looked when they came.
  t.deepEqual((await answer({ overview: true })).overview?.latenciesMs, []);
  pulse.delivered(events);
  t.is((await answer({ overview: true })).overview?.latenciesMs.length, 10);
  t.is(walks, 2);
  await answer({ refusalsAfter: 0 });
  t.is(walks, 2);
});

test('a survey of many connections lets others have their turn in between', async (t) => {
  const streams = Array.from({ length: 60_000 }, (_, n) =>
    streamOf({ lag: n % 999, waiting: n, openedAt: n + 1, names: ['a', 'b:*'], state: 'reading' }, n),
  );
  let turns = 0;
  let isOver = false;
  const count = (): void => {
    turns += 1;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  const { connections } = await survey(
    { streams: { all: () => streams }, log, prefix: '' },
    { connections: [{ sort: 'waiting', channel: undefined, limit: 50 }], channels: [{ prefix: '', limit: 100 }] },
  );
  isOver = true;
  t.is(connections[0]?.connections[0]?.waitingBytes, 59_999);
  t.true(turns >= 2, String(turns));
});

test('peers are asked while a page is open, and not once it has gone', async (t) => {
  let asked = 0;
  const peers = { count: 1, ask: () => ((asked += 1), Promise.resolve({ answers: [], missing: 0 })) };
  const live = createLive({ peers, heartbeatSeconds: 15, retrySeconds: 1, stallSeconds: 5 });
  const viewer = { kind: 'open' as const, subject: undefined, channels: channelFilter([]), expiresAt: Infinity };
  const server = http.createServer((request, response) => {
    live.open(request, response, {
      views: new Set(),
      sort: 'lag',
      channel: undefined,
      refusalsAfter: undefined,
      viewer,
    });
  });
  t.teardown(() => server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  await delay(LEEWAY_MS);
  t.is(asked, 0);
  const request = http.get({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  await once(response, 'data');
  while (asked < 2) await delay(20);
  request.on('error', () => undefined).destroy();
  while (live.count > 0) await delay(20);
  const before = asked;
  await delay(LEEWAY_MS);
  t.is(asked, before);
});
