/**
 * The engine of the random requests: a relay in a process of its own, a writer that never stops, and clients that ask for
 * everything in every way. At the end the relay has to be as it was before: same streams, sockets, places and memory.
 *
 * All that is wrong is told in words; nothing stops at the first.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { TestDatabase } from './database.js';
import { exchange } from './fuzz-client.js';
import { judge } from './fuzz-judge.js';
import { ALLOWED_ORIGIN, makeRequest, SESSIONS, SUBJECTS, type FuzzSettings } from './fuzz-request.js';
import { CHANNELS, findSecrets, PUBLIC, sign } from './fuzz-truth.js';
import { startObservedRelay, type ObservedRelay } from './observed-relay.js';
import { randomOf } from './random.js';
import { openRaw, parseAnswer, type RawConnection } from './request.js';
import { startShift } from './shift.js';
import { openStream, type TestStream } from './stream.js';

export interface FuzzOptions {
  readonly seed: number;
  readonly requests: number;
  readonly database: TestDatabase;
  /**
   * `rights`: limits that nobody meets, and an application that is asked. `limits`: limits that most meet, behind a proxy,
   * with tokens in the query.
   */
  readonly scene: 'rights' | 'limits';
  readonly onProgress?: (done: number) => void;
}

export interface FuzzFigures {
  readonly seed: number;
  readonly scene: FuzzOptions['scene'];
  readonly seconds: number;
  readonly requests: number;
  /** Answers by status; `none` where the client left or nothing was owed, `away` for a 200 that sends away. */
  readonly answers: Readonly<Record<string, number>>;
  readonly streams: number;
  readonly events: number;
  /** Streams that were ended because the right to them had. */
  readonly expired: number;
  /** Bytes by which the heap was larger after the second half of the requests than after the first. */
  readonly growth: number;
  readonly growthAllowed: number;
  readonly logBytes: number;
  readonly secrets: number;
  readonly violations: readonly string[];
}

const CLIENTS = 48;
const MAX_CHANNELS = 10;
const LIMITS = {
  rights: { all: 400, address: undefined, subject: 90 },
  limits: { all: 24, address: 10, subject: 4 },
} as const;
const ADDRESSES = ['198.51.100.1', '198.51.100.2', '2001:db8::1', 'unknown'] as const;
/** How long the relay may take to notice that clients have gone, and the operating system to tell it. */
const SETTLE_MS = 10_000;
/** The longest that the relay itself keeps what has gone: a client whose right has ended may linger for 5 s. */
const LINGER_MS = 5_500;
const POLL_MS = 50;
/** So many of the newest events are kept, or each replay of everything would take longer than the one before. */
const KEPT_EVENTS = 1_500;

/** Requests after which all code that they run has been compiled. */
const WARM = 5_000;

/**
 * By how much the heap may grow in the second half, in bytes. Compiled code and inline caches take most of a megabyte while the
 * relay warms up, and little later; neither goes by the number of requests. On top of that come 100 for each request, which
 * is less than the least that could leak of one: a closure with a place, or an entry in a map. A stream with its socket
 * holds more than 10,000.
 */
function growthAllowed(requests: number): number {
  return (requests < WARM ? 1_000_000 : 500_000) + 100 * requests;
}

export async function runFuzz(
  t: Pick<ExecutionContext, 'teardown'>,
  { seed, requests, database, scene, onProgress }: FuzzOptions,
): Promise<FuzzFigures> {
  const started = Date.now();
  const violations: string[] = [];
  const secrets = new Set<string>();
  const shown: string[] = [];
  const answers: Record<string, number> = {};
  let [streams, events, expired] = [0, 0, 0];
  const complain = (text: string) => void violations.push(text);

  const limits = LIMITS[scene];
  const password = randomBytes(24).toString('hex');
  const secret = randomBytes(36).toString('base64');
  for (const one of [password, secret, ...SESSIONS.keys()]) secrets.add(one);
  const application = await startApplication(t);
  const relay = await startObservedRelay({
    DATABASE_URL: await createReader(t, database, password),
    LOG_LEVEL: 'trace',
    JWT_SECRET: secret,
    PUBLIC_CHANNELS: PUBLIC.join(','),
    ALLOWED_ORIGINS: ALLOWED_ORIGIN,
    MAX_CHANNELS: String(MAX_CHANNELS),
    MAX_CONNECTIONS: String(limits.all),
    MAX_CONNECTIONS_PER_SUBJECT: String(limits.subject),
    REQUEST_TIMEOUT_SECONDS: '2',
    HEARTBEAT_SECONDS: '0.2',
    SWEEP_SECONDS: '1',
    WINDOW_MEGABYTES: '0.1',
    REPLAY_MEGABYTES: '1',
    HISTORY_CONNECTIONS: '2',
    SHUTDOWN_SECONDS: '2',
    ...(scene === 'rights'
      ? { FORWARD_AUTH_URL: application.url }
      : { MAX_CONNECTIONS_PER_ADDRESS: String(limits.address), TRUST_PROXY: '1', ALLOW_QUERY_TOKEN: 'true' }),
  });
  t.teardown(() => relay.kill());

  const recentIds: string[] = [];
  const settings: FuzzSettings = {
    host: new URL(relay.url).host,
    secret,
    maxChannels: MAX_CHANNELS,
    allowQueryToken: scene === 'limits',
    hasApplication: scene === 'rights',
    addresses: scene === 'limits' ? ADDRESSES : [],
    recentIds,
  };
  const tokenFor = (channels: readonly string[], subject?: string) => {
    const claims = { channels, exp: Math.floor(Date.now() / 1000) + 3600, ...(subject ? { sub: subject } : {}) };
    const token = sign({ alg: 'HS256' }, claims, secret);
    secrets.add(token);
    return token;
  };

  const witness = await openStream(t, `${relay.url}/events/witness`, {
    Authorization: `Bearer ${tokenFor(['witness'])}`,
  });
  await witness.until((frame) => frame.event === 'stream-open');
  const writing = startShift();
  const written = write(database, seed, writing.pause, () => writing.isOn, recentIds);

  let next = 0;
  async function ask(until: number): Promise<void> {
    while (next < until && !relay.hasEnded) {
      const n = next;
      next += 1;
      const random = randomOf(seed, `${scene} request ${n}`);
      const request = makeRequest(random, settings);
      for (const one of request.secrets) secrets.add(one);
      const exchanged = await exchange(relay.url, request, random);
      const verdict = judge(request, exchanged, scene === 'limits');
      const told = `${scene} request ${n}, ${JSON.stringify(request.bytes.toString('latin1').slice(0, 600))}`;
      for (const text of verdict.violations) complain(`${told}: ${text}`);
      const kind = verdict.isSentAway ? 'away' : String(verdict.status ?? 'none');
      answers[kind] = (answers[kind] ?? 0) + 1;
      if (verdict.isStream) streams += 1;
      if (verdict.hasExpired) expired += 1;
      events += verdict.events;
      shown.push(verdict.shown);
      if (n % 1000 === 999) onProgress?.(n + 1);
    }
  }
  const askAll = (until: number) => Promise.all(Array.from({ length: CLIENTS }, () => ask(until)));

  /** Waits until the relay has no connection but the witness's, and those that its own parts hold; tells its heap. */
  async function settle(): Promise<number> {
    const deadline = Date.now() + SETTLE_MS;
    for (;;) {
      const { heap, sockets } = await relay.measure();
      const own = (await backends(database)) + (await application.connections()) + 1;
      if (sockets === own) return heap;
      if (Date.now() > deadline) {
        complain(`${sockets} sockets are left, and ${own} should be`);
        return heap;
      }
      await delay(POLL_MS);
    }
  }

  await askAll(Math.floor(requests / 2));
  const before = await settle();
  await askAll(requests);
  const allowed = growthAllowed(requests / 2);
  let growth = (await settle()) - before;
  for (const end = Date.now() + LINGER_MS; growth > allowed && Date.now() < end; await delay(POLL_MS)) {
    growth = (await settle()) - before;
  }
  if (growth > allowed) complain(`the heap has grown by ${growth} bytes in the second half; ${allowed} are allowed`);

  await fillPlaces(t, relay.url, settings, scene, tokenFor, complain);
  await settle();
  await breakSessions(database, relay, async () => {
    // What is logged now has errors of the database, and of requests amid them.
    for (let n = 0; n < 5; n += 1) {
      const random = randomOf(seed, `${scene} request amid faults ${n}`);
      const request = makeRequest(random, settings);
      for (const one of request.secrets) secrets.add(one);
      shown.push((await exchange(relay.url, request, random)).text);
    }
  });

  writing.end();
  const last = await written;
  await witness.untilEvents(last).catch((error: unknown) => complain(`the witness: ${String(error)}`));
  judgeWitness(witness, last, complain);
  witness.close();
  while ((await relay.measure()).sockets > (await backends(database)) + (await application.connections())) {
    await delay(POLL_MS);
  }
  const code = await relay.stop();
  if (code !== 0) complain(`the relay ended with ${String(code)}`);
  if (relay.errors !== '') complain(`the relay wrote on standard error: ${relay.errors.slice(0, 2000)}`);
  judgeLog(relay.output, complain);
  for (const found of findSecrets(`${relay.output}\n${shown.join('\n')}`, secrets))
    complain(`a secret was told: ${found}`);

  return {
    seed,
    scene,
    seconds: (Date.now() - started) / 1000,
    requests: next,
    answers,
    streams,
    events,
    expired,
    growth,
    growthAllowed: allowed,
    logBytes: relay.output.length,
    secrets: secrets.size,
    violations,
  };
}

/** One line, for logs. */
export function describeFuzz(figures: FuzzFigures): string {
  const { answers, growth, growthAllowed: allowed } = figures;
  const told = Object.entries(answers).map(([status, count]) => `${status} ${count}`);
  return (
    `seed ${figures.seed}, ${figures.scene}: ${figures.requests} requests in ${figures.seconds.toFixed(1)} s ` +
    `(${told.join(', ')}), ${figures.streams} streams with ${figures.events} events, ${figures.expired} expired, heap ` +
    `${(growth / 1000).toFixed(0)} of ${(allowed / 1000).toFixed(0)} kB, ${figures.secrets} secrets looked for in ` +
    `${(figures.logBytes / 1000).toFixed(0)} kB of log, ${figures.violations.length} violations`
  );
}

/** A role that only reads, with a password that is looked for in all that the relay says. */
async function createReader(
  t: Pick<ExecutionContext, 'teardown'>,
  database: TestDatabase,
  password: string,
): Promise<string> {
  const role = `fuzz_${randomBytes(6).toString('hex')}`;
  await database.query(`CREATE ROLE ${role} LOGIN PASSWORD '${password}'`);
  await database.query(`GRANT SELECT ON outbox TO ${role}`);
  t.teardown(async () => {
    await database.query(`DROP OWNED BY ${role}`);
    await database.query(`DROP ROLE ${role}`);
  });
  const url = new URL(database.url);
  url.username = role;
  url.password = password;
  return url.href;
}

interface Application {
  readonly url: string;
  connections(): Promise<number>;
}

/** What the relay asks about clients without a token. */
async function startApplication(t: Pick<ExecutionContext, 'teardown'>): Promise<Application> {
  const server: Server = createServer((request, response) => {
    const id = /\bsessionid=([^;]*)/.exec(request.headers.cookie ?? '')?.[1] ?? '';
    const session = SESSIONS.get(id) ?? { kind: 'denies', status: 401 };
    if (session.kind === 'allows') {
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({ channels: session.channels, expires_in: 3600, sub: 7 }));
    } else if (session.kind === 'denies') {
      response.writeHead(session.status, { 'Content-Type': 'text/plain' }).end('The application says no.');
    } else {
      response.writeHead(302, { Location: `/login?next=${id}` }).end(id);
    }
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/may-listen`,
    connections: () =>
      new Promise((resolve, reject) =>
        server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      ),
  };
}

/** Publishes to all channels, each event with its channel and its time, until it is told to stop; tells the witness's last. */
async function write(
  database: TestDatabase,
  seed: number,
  pause: (milliseconds: number) => Promise<void>,
  isOn: () => boolean,
  recentIds: string[],
): Promise<number> {
  const random = randomOf(seed, 'writer');
  let count = 0;
  let forWitness = 0;
  const publish = async (channels: readonly string[], numbers: readonly number[]) => {
    const { rows } = await database.query<{ id: string }>(
      `INSERT INTO outbox (channel, event, data)
       SELECT channel, $3, jsonb_build_object(
         'n', n, 'channel', channel, 'at', floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
       FROM unnest($1::text[], $2::int[]) AS row (channel, n) RETURNING id::text`,
      [channels, numbers, random.pick(['message', 'changed'])],
    );
    recentIds.push(...rows.map((row) => row.id));
    recentIds.splice(0, Math.max(0, recentIds.length - 2 * KEPT_EVENTS));
  };
  for (let round = 0; isOn(); round += 1) {
    const channels = Array.from({ length: random.integer(1, 6) }, () => random.pick(CHANNELS));
    await publish(
      channels,
      channels.map(() => (count += 1)),
    );
    if (round % 5 === 0) await publish(['witness'], [(forWitness += 1)]);
    if (round % 50 === 49) {
      await database.query(
        'DELETE FROM outbox WHERE position < (SELECT max(position) FROM outbox) - $1 - random() * 200',
        [KEPT_EVENTS],
      );
    }
    await pause(random.integer(2, 20));
  }
  await publish(['witness'], [(forWitness += 1)]);
  return forWitness;
}

async function backends(database: TestDatabase): Promise<number> {
  const { rows } = await database.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'outbox-relay%'`,
  );
  return rows[0]?.count ?? 0;
}

/** Of a place that was not given back, nothing else would tell: so all are taken, and then there must be one too few. */
async function fillPlaces(
  t: Pick<ExecutionContext, 'teardown'>,
  url: string,
  settings: FuzzSettings,
  scene: FuzzOptions['scene'],
  tokenFor: (channels: readonly string[], subject?: string) => string,
  complain: (text: string) => void,
): Promise<void> {
  const limits = LIMITS[scene];
  async function fill(what: string, places: number, status: number, headers: (n: number) => string): Promise<void> {
    const open: RawConnection[] = [];
    const ask = (n: number) => {
      const bytes = `GET /events/news HTTP/1.1\r\nHost: ${settings.host}\r\n${headers(n)}\r\n`;
      const connection = openRaw(t, url, bytes);
      open.push(connection);
      return connection.until('\r\n\r\n').then(() => parseAnswer(connection.text).status);
    };
    const statuses: (number | undefined)[] = [];
    while (statuses.length < places) {
      // Not all at once: on a busy machine some would run into the relay's time for a request to arrive.
      const some = Array.from({ length: Math.min(CLIENTS, places - statuses.length) }, (_, n) =>
        ask(statuses.length + n),
      );
      statuses.push(...(await Promise.all(some)));
    }
    const given = statuses.filter((one) => one === 200).length;
    const refused = await ask(places);
    if (given !== places) complain(`${what}: ${given} of ${places} places could be had`);
    if (refused !== status) complain(`${what}: the one too many got ${refused}`);
    for (const { socket } of open) socket.destroy();
    await Promise.all(open.map(({ ended }) => ended));
    // The relay learns of it a moment later, and the next is to find all places free.
    for (const end = Date.now() + SETTLE_MS; ;) {
      const probe = openRaw(t, url, `HEAD /events/news HTTP/1.1\r\nHost: x\r\n${headers(0)}Connection: close\r\n\r\n`);
      if (parseAnswer(await probe.ended).status === 200) break;
      if (Date.now() > end) return complain(`${what}: no place was given back`);
      await delay(POLL_MS);
    }
    await delay(POLL_MS);
  }

  const elsewhere = (n: number) => (scene === 'limits' ? `X-Forwarded-For: 192.0.2.${n}\r\n` : '');
  await fill('all', limits.all - 1, 503, elsewhere);
  for (const subject of SUBJECTS) {
    const token = tokenFor([], subject);
    await fill(`of ${subject}`, limits.subject, 429, (n) => `${elsewhere(n)}Authorization: Bearer ${token}\r\n`);
  }
  if (limits.address === undefined) return;
  for (const address of settings.addresses) {
    await fill(`from ${address}`, limits.address, 429, () => `X-Forwarded-For: ${address}\r\n`);
  }
}

/** Ends the relay's sessions some times, and waits until it delivers again. */
async function breakSessions(
  database: TestDatabase,
  relay: ObservedRelay,
  meanwhile: () => Promise<void>,
): Promise<void> {
  for (const sessions of ['%', 'tail', 'history', 'listener', '%']) {
    await database.kill(`outbox-relay ${sessions}`);
    await meanwhile();
  }
  for (const end = Date.now() + SETTLE_MS; Date.now() < end; await delay(POLL_MS)) {
    const { status } = await fetch(`${relay.url}/readyz`, { headers: { Connection: 'close' } });
    if (status === 200) return;
  }
  throw new Error('the relay did not find back to the database');
}

/** What was there before all, and asked for one channel, must have got all of it and nothing else. */
function judgeWitness({ events, frames }: TestStream, last: number, complain: (text: string) => void): void {
  const numbers = events.map(({ data = '{}' }) => {
    const { n, channel } = JSON.parse(data) as { n: number; channel: string };
    if (channel !== 'witness') complain(`the witness got an event of ${channel}`);
    return n;
  });
  if (numbers.length !== last || numbers.some((n, index) => n !== index + 1)) {
    complain(`the witness got ${numbers.length} of ${last} events, the last of them ${numbers.slice(-5).join(' ')}`);
  }
  const controls = frames.flatMap(({ event }) =>
    event?.startsWith('stream-') && event !== 'stream-cursor' ? [event] : [],
  );
  if (controls.join() !== 'stream-open') complain(`the witness got ${controls.join()}`);
}

function judgeLog(output: string, complain: (text: string) => void): void {
  const entries = output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { level: number; msg: string; streams?: number });
  for (const entry of entries) if (entry.level >= 50) complain(`the relay logged ${JSON.stringify(entry)}`);
  const stopping = entries.find(({ msg }) => msg === 'stopping');
  if (stopping?.streams !== 0) complain(`${String(stopping?.streams)} streams were left when it stopped`);
}
