/**
 * Random bytes for every port: requests that are none, or nearly one, whole and cut, quick and slow, many at a time, beside clients
 * that behave. Whatever comes, the process lives, who behaves gets all, and no secret is told.
 */
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { findSecrets } from './fuzz-truth.js';
import { HOSTILE, type Hostile } from './hostile-bytes.js';
import { startPort, type Port, type PortKind } from './port-kinds.js';
import { randomOf, type Random } from './random.js';
import { parseAnswer, request } from './request.js';
import { openStream } from './stream.js';

export const PORT_KINDS: readonly PortKind[] = ['main', 'console', 'metrics', 'metrics of workers', 'demo'];

export interface PortFigures {
  readonly kind: PortKind;
  readonly seconds: number;
  readonly requests: number;
  /** Answers by status; `none` where there was none, which was then all right. */
  readonly answers: Readonly<Record<string, number>>;
  /** What the clients that behave got meanwhile. */
  readonly events: number;
  readonly probes: number;
  readonly violations: readonly string[];
}

const CLIENTS = 24;
/** The longest that one who behaves may wait, and an answer that is owed may take: a machine may be busy, and nothing else takes time. */
const ANSWER_MS = 15_000;
/** How long a client stays that is owed nothing. */
const STAY_MS = 150;
const PROBE_PAUSE_MS = 30;
const DOCUMENTED = new Set([200, 201, 204, 400, 401, 403, 404, 405, 408, 413, 417, 429, 431, 503]);
const ALL = [...HOSTILE] as [[string, Hostile], ...[string, Hostile][]];
/** What nearly is a request, to be spoiled. */
const NEAR = [
  'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /events?channel=a HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /events/a?since=1 HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 1\r\n\r\n',
  'HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'OPTIONS /events HTTP/1.1\r\nHost: localhost\r\nOrigin: http://x\r\nAccess-Control-Request-Method: GET\r\n\r\n',
  'POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"a": "b"}',
  'POST /burst HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n0\r\n\r\n',
  'GET http://localhost/readyz HTTP/1.1\r\nHost: localhost\r\n\r\n',
] as const;
/** The same of the console, whose parameters and bodies are its own. */
const NEAR_CONSOLE = [
  'GET /console HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /console/console.js HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "x"\r\n\r\n',
  'GET /console/api/session HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'POST /console/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 22\r\n\r\n{"password": "guessed"}',
  'DELETE /console/session HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /console/api/live?views=overview,connections&sort=age HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 5\r\n\r\n',
  'GET /console/api/connections?sort=lag&limit=10&channel=witness HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /console/api/channels?prefix=w&limit=10 HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /console/api/refusals HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /console/api/log?channel=witness&event=message&before=9&limit=5&since=2026-01-01 HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /console/api/log?id=1&after=1 HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /console/api/events/1 HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'POST /console/api/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18\r\n\r\n{"token": "a.b.c"}',
  'GET /console/api/doctor HTTP/1.1\r\nHost: localhost\r\n\r\n',
  'GET /events?channel=witness&format=envelope HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip;q=1, br\r\n\r\n',
  'GET /history?channel=witness&after=1&limit=2 HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n',
] as const;

/** What a parameter may be given, as it is written in an address. */
const VALUES = [
  ...['', '%00', '%0A', '%FF', '%F0%9F%98%80', '%ED%A0%80', '*', 'a:*', '..', '%2e%2e%2f', '%', "'", '%22%3E%3Cb%3E'],
  ...['0', '-1', '1e9', '0x10', '1.5', '9'.repeat(18), '9'.repeat(19), '9'.repeat(40), 'NaN', 'null', '__proto__'],
  ...['2026-01-01T00:00:00Z', '-271821-04-20', '275760-09-13T00:00:00.001Z', '1!1-9', 'now', 'x'.repeat(3000)],
] as unknown as readonly [string, ...string[]];
/** The same of a body. */
const JSON_VALUES = [
  ...['null', 'true', '-1', '1e400', '""', '"\\u0000"', '"\\ud800"', '[]', '{}', '{"__proto__": {"x": 1}}'],
  ...[JSON.stringify('x'.repeat(3000)), `${'['.repeat(500)}${']'.repeat(500)}`],
] as unknown as readonly [string, ...string[]];

interface Attack {
  readonly what: string;
  readonly bytes: Buffer;
  /** What is owed; undefined where nobody knows. */
  readonly statuses: Hostile['statuses'] | undefined;
}

/** So many events and probes of those who behave have to come through beside the attacks: a run without would prove little. */
const LEAST = 6;

export async function fuzzPort(
  t: Pick<ExecutionContext, 'teardown'>,
  { kind, seed, requests }: { readonly kind: PortKind; readonly seed: number; readonly requests: number },
): Promise<PortFigures> {
  const began = performance.now();
  const violations: string[] = [];
  const answers: Record<string, number> = {};
  const port = await startPort(t, kind, { LOG_LEVEL: 'trace', REQUEST_TIMEOUT_SECONDS: '2' });
  const near: Near = kind === 'console' ? [...NEAR_CONSOLE, ...NEAR] : NEAR;
  const token = randomBytes(24).toString('hex');
  const secrets = {
    token,
    cookie: [`outbox_token=${token}`, port.cookie].filter((cookie) => cookie !== '').join('; '),
  };
  const session = /[^=]+$/.exec(port.cookie)?.[0];

  let isOver = false;
  const well = { events: 0, probes: 0 };
  const behaving = Promise.all([listen(t, port, () => isOver, well), probe(port, () => isOver, well)]);
  // What ends one of them is told at the end.
  behaving.catch(() => undefined);

  let next = 0;
  async function attack(): Promise<void> {
    while ((next < requests || well.events < LEAST || well.probes < LEAST) && port.isAlive()) {
      const n = next;
      next += 1;
      const random = randomOf(seed, `${kind} ${n}`);
      const { what, bytes, statuses } = makeAttack(random, near, secrets);
      const text = await send(port.url, bytes, statuses !== undefined, random);
      const status = text === '' ? undefined : parseAnswer(text).status;
      answers[String(status ?? 'none')] = (answers[String(status ?? 'none')] ?? 0) + 1;
      const told = `${kind} ${n}, ${what}: ${JSON.stringify(text.slice(0, 200))}`;
      if (statuses ? !statuses.includes(status) : status !== undefined && !DOCUMENTED.has(status))
        violations.push(told);
      if ([token, session].some((secret) => secret !== undefined && text.includes(secret)))
        violations.push(`a secret in an answer: ${told}`);
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, attack));
  isOver = true;
  await behaving.catch((error: unknown) => violations.push(`${kind}: who behaves: ${String(error)}`));
  if (!port.isAlive()) violations.push(`${kind}: the process has ended`);
  const code = await port.stop();
  if (code !== 0) violations.push(`${kind}: it ended with ${String(code)}`);
  violations.push(...port.complaints().map((line) => `${kind}: ${line}`));
  const told = findSecrets(port.output(), session === undefined ? [token] : [token, session]);
  violations.push(...told.map((found) => `${kind}: a secret was told: ${found}`));
  return { kind, seconds: (performance.now() - began) / 1000, requests: next, answers, ...well, violations };
}

/** One line, for logs. */
export function describePort({ kind, requests, seconds, answers, events, probes, violations }: PortFigures): string {
  const told = Object.entries(answers).map(([status, count]) => `${status} ${count}`);
  return (
    `${kind}: ${requests} attacks in ${seconds.toFixed(1)} s (${told.join(', ')}), beside them ${events} events and ` +
    `${probes} probes, ${violations.length} violations`
  );
}

type Near = readonly [string, ...string[]];

interface Secrets {
  readonly token: string;
  readonly cookie: string;
}

function makeAttack(random: Random, near: Near, secrets: Secrets): Attack {
  const [what, { bytes, statuses }] = random.pick(ALL);
  switch (random.integer(0, 7)) {
    case 0:
    case 1:
      return { what, bytes: Buffer.from(bytes), statuses };
    case 2: {
      const noise = Array.from({ length: random.integer(1, 400) }, () => random.integer(0, 255));
      return { what: 'noise', bytes: Buffer.from(noise), statuses: undefined };
    }
    case 3: {
      const more = Array.from({ length: random.integer(2, 6) }, () => Buffer.from(random.pick(ALL)[1].bytes));
      return { what: 'several at once', bytes: Buffer.concat(more), statuses: undefined };
    }
    case 4:
    case 5: {
      const changed = withSecrets(changeValues(random, random.pick(near)), secrets);
      return {
        what: `other values, ${changed.slice(0, changed.indexOf('\r'))}`,
        bytes: Buffer.from(changed),
        statuses: undefined,
      };
    }
    default: {
      const spoiled = Buffer.from(random.chance(0.3) ? bytes : withSecrets(random.pick(near), secrets));
      for (let n = random.integer(0, 6); n > 0; n -= 1) {
        const at = random.integer(0, spoiled.length - 1);
        spoiled[at] = random.pick([random.integer(0, 255), 0, 10, 13, 32, 47, 92, 37, 35]);
      }
      const end = random.chance(0.3) ? random.integer(1, spoiled.length) : spoiled.length;
      return { what: 'spoiled', bytes: spoiled.subarray(0, end), statuses: undefined };
    }
  }
}

/** Puts other values in place of some of its path, query and body; it is a request as much as before. */
function changeValues(random: Random, text: string): string {
  const [line = '', ...others] = text.split('\r\n');
  const target = line.replace(/(?<==|\/events\/)[\w,-]+(?=[&/ ])/g, (value) =>
    random.chance(0.5) ? random.pick(VALUES) : value,
  );
  const body = (others.pop() ?? '').replace(/: "?[\w.]+"?/, () => `: ${random.pick(JSON_VALUES)}`);
  const length = `Content-Length: ${Buffer.byteLength(body)}`;
  const headers = others.map((header) => (header.startsWith('Content-Length') ? length : header));
  return [target.replace(/ HTTP\/[^ ]*$/, ' HTTP/1.1'), ...headers, body].join('\r\n');
}

function withSecrets(text: string, { token, cookie }: Secrets): string {
  return text.replace('\r\n\r\n', `\r\nAuthorization: Bearer ${token}\r\nCookie: ${cookie}\r\n\r\n`);
}

/** Sends it in one of many ways, and resolves with what came. */
function send(url: string, bytes: Buffer, isOwed: boolean, random: Random): Promise<string> {
  const { hostname, port } = new URL(url);
  const splitAt = random.chance(0.3) ? random.integer(0, bytes.length) : bytes.length;
  const pause = random.integer(0, 20);
  const leave = random.pick(['end', 'destroy', 'reset'] as const);
  const reads = isOwed || random.chance(0.8);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    let text = '';
    socket.setEncoding('latin1');
    if (reads) socket.on('data', (chunk: string) => (text += chunk));
    socket.on('error', () => undefined);
    const timer = setTimeout(
      () => {
        if (leave === 'end') socket.end();
        if (leave === 'reset') socket.resetAndDestroy();
        else socket.destroy();
      },
      isOwed ? ANSWER_MS : random.integer(0, STAY_MS),
    );
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(text);
    });
    socket.write(bytes.subarray(0, splitAt));
    if (splitAt < bytes.length) setTimeout(() => socket.writable && socket.write(bytes.subarray(splitAt)), pause);
  });
}

/** A client that gets each number that is published, in order, once, and the next only after that. */
async function listen(
  t: Pick<ExecutionContext, 'teardown'>,
  port: Port,
  isOver: () => boolean,
  well: { events: number },
): Promise<void> {
  const stream = await openStream(t, `${port.mainUrl}/events/witness`);
  await stream.until(({ event }) => event === 'stream-open');
  while (!isOver()) {
    await port.publish('witness', well.events);
    await within(stream.untilEvents(well.events + 1), `event ${well.events}`);
    well.events += 1;
    await delay(PROBE_PAUSE_MS);
  }
  const got = stream.events.map(({ data }) => Number(data));
  if (got.length !== well.events || got.some((n, index) => n !== index)) throw new Error(`it got ${got.join(' ')}`);
  stream.close();
}

/** Asks the same port for what is there. */
async function probe(port: Port, isOver: () => boolean, well: { probes: number }): Promise<void> {
  while (!isOver()) {
    const { status, body } = await within(request(port.url, port.path), `probe ${well.probes}`);
    if (status !== 200 || !/outbox_relay_connections|"ok"/.test(body))
      throw new Error(`${status} ${body.slice(0, 200)}`);
    well.probes += 1;
    await delay(PROBE_PAUSE_MS);
  }
}

async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  const late = new AbortController();
  try {
    return await Promise.race([
      promise,
      delay(ANSWER_MS, undefined, { signal: late.signal }).then(() => {
        throw new Error(`${what} did not come within ${ANSWER_MS} ms`);
      }),
    ]);
  } finally {
    late.abort();
  }
}
