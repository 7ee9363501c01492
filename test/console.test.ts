import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { startConsole, PASSWORD } from './support/console.js';
import { openStream } from './support/stream.js';

interface Overview {
  readonly at: string;
  readonly ready: boolean;
  readonly head: { readonly id: string };
  readonly connections: { readonly total: number; readonly live: number };
  readonly totals: { readonly events: number; readonly deliveries: number; readonly refusals: number };
  readonly rates: { readonly events: number } | null;
  readonly latencyMs: { readonly p50: number; readonly p99: number } | null;
}

interface Connections {
  readonly total: number;
  readonly shown: number;
  readonly connections: readonly {
    readonly id: string;
    readonly address: string;
    readonly subject: string | null;
    readonly channels: readonly string[];
    readonly state: string;
    readonly cursor: string;
    readonly lagEvents: number;
    readonly events: number;
  }[];
}

test('whoever has signed in is told of connections, channels and events as they come', async (t) => {
  const relay = await startConsole(t);
  const cookie = await relay.signIn();
  const reader = await openStream(t, `${relay.url}/events?channel=orders&channel=user:*`);
  const live = await openStream(t, `${relay.url}/console/api/live`, { cookie });
  const first = await live.until(({ event }) => event === 'overview');
  t.is((JSON.parse(first.data ?? '') as Overview).connections.total, 1);
  t.is(first.id, undefined);
  const {
    rows: [row],
  } = await relay.database.query<{ id: string }>(
    "INSERT INTO outbox (channel, data) VALUES ('orders', '1') RETURNING id",
  );
  await reader.untilEvents(1);
  const told = await live.until(
    ({ event, data }) => event === 'overview' && (JSON.parse(data ?? '') as Overview).totals.deliveries === 1,
  );
  const overview = JSON.parse(told.data ?? '') as Overview;
  t.is(overview.head.id, row?.id ?? '');
  t.true(overview.ready);
  t.is(overview.totals.events, 1);
  const connections = await live.until(
    ({ event, data }) =>
      event === 'connections' && (JSON.parse(data ?? '') as Connections).connections[0]?.events === 1,
  );
  t.like((JSON.parse(connections.data ?? '') as Connections).connections[0], {
    address: '127.0.0.x',
    subject: null,
    channels: ['orders', 'user:*'],
    state: 'live',
    cursor: row?.id ?? '',
    lagEvents: 0,
  });
  const channels = await live.until(({ event }) => event === 'channels');
  t.like(JSON.parse(channels.data ?? ''), {
    total: 2,
    channels: [
      { channel: 'orders', connections: 1, lagging: 0 },
      { channel: 'user:*', connections: 1, lagging: 0 },
    ],
  });
  await relay.get('/events?channel=');
  const refusal = await live.until(({ event }) => event === 'refusal');
  t.like(JSON.parse(refusal.data ?? ''), { status: 400, code: 'bad_channel', path: '/events', count: 1 });
  t.truthy(PASSWORD);
  await delay(0);
});
