/**
 * Access: what a token costs the relay, for each connection, in CPU time. The same connections to the same channel are opened
 * with a token of their own and, to a relay where that channel is public, without one. The two take turns in one run, so
 * their difference holds on a noisy machine too.
 */
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { mintToken } from '../src/access/jwt.js';
import { readSecret } from '../src/access/secret.js';
import { startObservedRelay, type ObservedRelay } from '../test/support/observed-relay.js';

export interface AccessResult {
  readonly connections: number;
  readonly rounds: number;
  /** CPU milliseconds of the relay for each connection, from its request to its end: medians of the rounds. */
  readonly anonymous: number;
  readonly token: number;
  /** Median of the rounds' own differences. */
  readonly difference: number;
}

/** Connections in a turn; all of them are open at a time. */
const CONNECTIONS = 500;
const WARM_UP_ROUNDS = 3;
const AT_A_TIME = 50;
const POLL_MS = 10;
const SECRET = 'a secret of the benchmark, longer than 32 bytes';

export async function measureAccess(databaseUrl: string, rounds: number): Promise<AccessResult> {
  const common = {
    DATABASE_URL: databaseUrl,
    HEARTBEAT_SECONDS: '3600',
    SWEEP_SECONDS: '3600',
    PUBLIC_METRICS: 'true',
  };
  const anonymous = await startObservedRelay({ ...common, PUBLIC_CHANNELS: 'orders' }, { collects: false });
  const token = await startObservedRelay({ ...common, JWT_SECRET: SECRET }, { collects: false });
  try {
    const spent: { anonymous: number; token: number }[] = [];
    for (let round = -WARM_UP_ROUNDS; round < rounds; round += 1) {
      const tokens = await Promise.all(Array.from({ length: CONNECTIONS }, (_, n) => tokenOf(`${round}:${n}`)));
      const turns = {
        anonymous: () => turn(anonymous, () => ({})),
        token: () => turn(token, (n) => ({ Authorization: `Bearer ${tokens[n] ?? ''}` })),
      };
      // Who goes first takes turns, too.
      const cost = { anonymous: 0, token: 0 };
      for (const name of round % 2 === 0 ? (['anonymous', 'token'] as const) : (['token', 'anonymous'] as const)) {
        cost[name] = (await turns[name]()) / CONNECTIONS;
      }
      if (round >= 0) spent.push(cost);
    }
    return {
      connections: CONNECTIONS,
      rounds,
      anonymous: median(spent.map((cost) => cost.anonymous)),
      token: median(spent.map((cost) => cost.token)),
      difference: median(spent.map((cost) => cost.token - cost.anonymous)),
    };
  } finally {
    await Promise.all([anonymous.stop(), token.stop()]);
  }
}

function tokenOf(subject: string): Promise<string> {
  const options = {
    secret: readSecret(SECRET),
    requireExpiry: true,
    issuer: undefined,
    audience: [],
    clockToleranceSeconds: 0,
    channelsClaim: 'channels',
    consoleClaim: 'console',
  };
  return mintToken(options, { channels: ['orders', 'user:*'], subject, expiresInSeconds: 3600 });
}

/** Opens and ends all connections; resolves with the relay's CPU milliseconds for them. */
async function turn(relay: ObservedRelay, headers: (n: number) => http.OutgoingHttpHeaders): Promise<number> {
  const before = await relay.measure();
  const requests: http.ClientRequest[] = [];
  for (let n = 0; n < CONNECTIONS; n += AT_A_TIME) {
    const some = Array.from({ length: AT_A_TIME }, (_, k) => open(`${relay.url}/events/orders`, headers(n + k)));
    requests.push(...(await Promise.all(some)));
  }
  for (const request of requests) request.destroy();
  while ((await streamsOf(relay)) > 0) await delay(POLL_MS);
  return (await relay.measure()).cpu - before.cpu;
}

async function streamsOf(relay: ObservedRelay): Promise<number> {
  const text = await (await fetch(`${relay.url}/metrics`)).text();
  const states = text.matchAll(/^outbox_relay_connections\{.*\} (\d+)$/gm);
  return [...states].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** Resolves when the stream's first frames have come. */
async function open(url: string, headers: http.OutgoingHttpHeaders): Promise<http.ClientRequest> {
  const request = http.get(url, { agent: false, headers });
  request.on('error', () => undefined);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  if (response.statusCode !== 200) throw new Error(`the relay answered ${response.statusCode ?? 0}`);
  response.on('error', () => undefined);
  await once(response, 'data');
  return request;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
