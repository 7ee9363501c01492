/**
 * Random requests, each with what may come of it. Most are well formed in all but a few things, as only those get far; some
 * are bytes that no client would send.
 */
import { CHANNELS, PATTERNS, PUBLIC, anyCovers, sign } from './fuzz-truth.js';
import type { Random } from './random.js';

/** Of pages. */
const BAD_BOUNDS: readonly [[string, string], ...[string, string][]] = [
  ['limit', '0'],
  ['limit', '1e3'],
  ['wait', 'long'],
  ['wait', '-1'],
];

/** Of streams and pages. */
const BAD_NAMES_OF_EVENTS: readonly [[string, string], ...[string, string][]] = [
  ['event', ''],
  ['event', 'a\u0001'],
  ['event', 'x'.repeat(256)],
];

export interface FuzzRequest {
  readonly bytes: Buffer;
  /** What its credential allows beside the public channels. */
  readonly grants: readonly string[];
  /** What it asks for; undefined where the bytes were changed afterwards, and nobody knows. */
  readonly wanted: readonly string[] | undefined;
  /** When its right ends, in milliseconds since 1970. */
  readonly expiresAt: number;
  /** The statuses that it may be answered with; undefined where nobody knows. */
  readonly expected: readonly number[] | undefined;
  /** Whether it gets as far as to take a place, and so may meet a limit. */
  readonly takesPlace: boolean;
  readonly isHead: boolean;
  /** Whether it is for a page of history, and not for a stream. */
  readonly isPage: boolean;
  readonly acceptsStream: boolean;
  /** What must appear in no log and in no answer. */
  readonly secrets: readonly string[];
}

/** How the relay is set up. */
export interface FuzzSettings {
  readonly host: string;
  readonly secret: string;
  readonly maxChannels: number;
  readonly allowQueryToken: boolean;
  /** Whether the application is asked about those without a token. */
  readonly hasApplication: boolean;
  /** Client addresses that a proxy would tell; empty where none is believed. */
  readonly addresses: readonly string[];
  /** Ids that have been published lately. */
  readonly recentIds: readonly string[];
}

export const ALLOWED_ORIGIN = 'https://app.example';
export const SUBJECTS = ['ann', 'bob', 'cy'] as const;

/** What the application says of each of its sessions. */
export type Session =
  | { readonly kind: 'allows'; readonly channels: readonly string[] }
  | { readonly kind: 'denies'; readonly status: 401 | 403 }
  | { readonly kind: 'fails' };

/** Sessions by the value of the application's own cookie. Few, as the relay keeps answers by cookie and channels. */
export const SESSIONS: ReadonlyMap<string, Session> = new Map<string, Session>([
  ['session-of-a-reader-Zk3vQ9wX', { kind: 'allows', channels: ['user:1', 'org:7:*'] }],
  ['session-of-the-owner-Yp7sB2mR', { kind: 'allows', channels: ['*'] }],
  ['session-of-nothing-Xc5nT8kL', { kind: 'allows', channels: [] }],
  ['session-that-is-over-Wd4hG6jF', { kind: 'denies', status: 401 }],
  ['session-that-is-banned-Vb2rE7uS', { kind: 'denies', status: 403 }],
  ['session-that-breaks-Ua9qW3eD', { kind: 'fails' }],
]);
const SESSION_WANTS = [['user:1'], ['org:7:a', 'news'], ['org:*'], ['*'], ['secret', 'user:2'], ['status:*']] as const;

const NEVER = Number.POSITIVE_INFINITY;
const FOREIGN_ORIGINS = [
  'https://evil.example',
  'https://app.example.evil.example',
  'http://app.example',
  'null',
  'http://[',
] as const;

/** What a credential comes to, were it alone. */
interface Credential {
  readonly headers: readonly string[];
  readonly query: readonly [string, string][];
  readonly grants: readonly string[];
  readonly expiresAt: number;
  /** Statuses before it is asked which channels: 401 for a bad one. 0 stands for going on. */
  readonly outcome: readonly number[];
  /** What decides on channels that are not public. */
  readonly by: 'token' | 'session' | 'nobody';
  readonly secrets: readonly string[];
}

const NOTHING: Credential = {
  headers: [],
  query: [],
  grants: [],
  expiresAt: NEVER,
  outcome: [0],
  by: 'nobody',
  secrets: [],
};

interface Token {
  readonly text: string;
  readonly grants: readonly string[];
  readonly expiresAt: number;
  readonly outcome: readonly number[];
}

/** A token that is good, or bad in one way. */
function makeToken(random: Random, settings: FuzzSettings): Token {
  const now = Math.floor(Date.now() / 1000);
  const grants = random.sample([...CHANNELS, ...PATTERNS.slice(random.chance(0.1) ? 0 : 1)], random.integer(0, 5));
  const header = { alg: random.chance(0.9) ? 'HS256' : random.pick(['HS384', 'HS512']), typ: 'JWT' };
  // The chance makes each token one that no other request has.
  const base = { jti: random.next().toString(36), channels: grants, exp: now + 3600 };
  const claims = settings.addresses.length > 0 || random.chance(0.3) ? { ...base, sub: random.pick(SUBJECTS) } : base;
  const bad = (text: string): Token => ({ text, grants: [], expiresAt: NEVER, outcome: [401] });
  const good = (more: Readonly<Record<string, unknown>> = {}): Token => {
    const all = { ...claims, ...more };
    const text = sign(header, all, settings.secret);
    return { text, grants: all.channels, expiresAt: all.exp * 1000, outcome: [0] };
  };
  if (random.chance(0.6)) return good();
  const whole = sign(header, claims, settings.secret);
  const [head = '', payload = '', signature = ''] = whole.split('.');
  switch (random.integer(0, 16)) {
    case 0: // Soon over: whether it is at its arrival, nobody knows.
    case 1:
    case 2:
      return { ...good({ exp: now + random.integer(1, 2) }), outcome: [0, 401] };
    case 3:
      return bad(sign(header, { ...claims, exp: now - random.integer(1, 100_000) }, settings.secret));
    case 4:
      return bad(sign(header, { ...claims, nbf: now + 1000 }, settings.secret));
    case 5:
      return bad(sign(header, claims, `${settings.secret}x`));
    case 6:
      return bad(sign({ alg: random.pick(['none', 'None', 'RS256', 'HS999']) }, claims, settings.secret));
    case 7:
      return bad(sign(header, { ...claims, exp: undefined }, settings.secret));
    case 8:
      return bad(sign(header, { ...claims, exp: 'tomorrow' }, settings.secret));
    case 9:
      return bad(
        sign(header, { ...claims, channels: random.pick<unknown>(['*', 7, { 0: '*' }, [1]]) }, settings.secret),
      );
    case 10:
      return bad(sign(header, { ...claims, channels: ['user:1', random.pick(['', 'a*', '**'])] }, settings.secret));
    case 11: // Other claims than these, with their signature.
      return bad(
        `${head}.${sign(header, { ...claims, channels: [...grants, '*', '*'] }, 'x').split('.')[1] ?? ''}.${signature}`,
      );
    case 12:
      return bad(`${head}.${payload}.`);
    case 13:
      return bad(whole.slice(0, random.integer(1, whole.length - 2)));
    case 14: // An end that never comes, and times that are none.
      return bad(
        sign(
          header,
          { ...claims, ...random.pick([{ exp: 1e300 }, { exp: now * 1000 }, { nbf: -1 }]) },
          settings.secret,
        ),
      );
    case 15:
      return bad(random.pick(['x', 'a.b.c', '..', `${whole}.${whole}`, whole.repeat(20), 'ünïcode-ünïcode-ünïcode']));
    default: {
      const channels = random.sample(CHANNELS, 2);
      const subscribe = [...channels, 'https://example.com/{id}', '**'];
      const text = sign(header, { ...claims, mercure: { subscribe } }, settings.secret);
      return { ...good(), text, grants: [...grants, ...channels] };
    }
  }
}

function makeCredential(random: Random, settings: FuzzSettings, origin: string | undefined): Credential {
  const isForeign = origin !== undefined && origin !== ALLOWED_ORIGIN && origin !== `http://${settings.host}`;
  const kind = random.next();
  if (kind < 0.2) return NOTHING;
  if (settings.hasApplication && kind < 0.35) {
    const [value, session] = random.pick([...SESSIONS] as [[string, Session], ...[string, Session][]]);
    return {
      ...NOTHING,
      headers: [`Cookie: theme=dark; sessionid=${value}`],
      grants: session.kind === 'allows' ? session.channels : [],
      // What the answer would be where the application has to be asked.
      outcome: [isForeign ? 403 : session.kind === 'allows' ? 0 : session.kind === 'denies' ? session.status : 503],
      by: 'session',
      secrets: [value],
    };
  }
  const token = makeToken(random, settings);
  const common = { ...NOTHING, ...token, by: 'token' as const, secrets: [token.text] };
  const bearer = `Authorization: ${random.pick(['Bearer', 'bearer', 'BEARER'])} ${token.text}`;
  const cookie = (value: string) => `outbox_token=${random.chance(0.2) ? `"${value}"` : value}`;
  if (kind < 0.6) return { ...common, headers: [bearer] };
  if (kind < 0.8) {
    return {
      ...common,
      headers: [`Cookie: a=b; ${cookie(token.text)}; outbox_token=second-cookie-that-does-not-count`],
      outcome: isForeign ? [403] : token.outcome,
      secrets: [token.text, 'second-cookie-that-does-not-count'],
    };
  }
  if (kind < 0.9) {
    // What the header says counts, whatever the cookie and the query have.
    const other = makeToken(random, settings);
    return {
      ...common,
      headers: random.chance(0.5)
        ? [`Cookie: ${cookie(other.text)}`, bearer]
        : [bearer, `Authorization: Bearer ${other.text}`],
      query: random.chance(0.3) ? [['token', other.text]] : [],
      secrets: [token.text, other.text],
    };
  }
  return {
    ...common,
    query: [['token', token.text]],
    outcome: settings.allowQueryToken ? token.outcome : [401],
  };
}

interface Cursor {
  readonly headers: readonly string[];
  readonly query: readonly [string, string][];
  readonly isGood: boolean;
}

const CURSOR_NAMES = ['last_event_id', 'lastEventId', 'lastEventID', 'Last-Event-ID'] as const;
const BAD_TIMES = ['tomorrow', '2026-02-30', '-1', '1e3', '25:00'] as const;

function makeCursor(random: Random, { recentIds }: FuzzSettings): Cursor {
  const id = random.chance(0.5)
    ? (recentIds[random.integer(0, recentIds.length - 1)] ?? '1')
    : random.pick(['0', '-1', '999999999999', '9223372036854775808', '1e3', 'x'.repeat(5000), "1' OR 1=1", 'ü', '%00']);
  switch (random.integer(0, 6)) {
    case 0:
    case 1:
      return { headers: [], query: [], isGood: true };
    case 2:
      return { headers: [], query: [[random.pick(CURSOR_NAMES), 'earliest']], isGood: true };
    case 3:
      return { headers: [`Last-Event-ID: ${id}`], query: [['since', 'tomorrow']], isGood: true };
    case 4:
      return { headers: [], query: [[random.pick(CURSOR_NAMES), id]], isGood: true };
    case 5: {
      const time = Date.now() - random.integer(-1000, 5000);
      return {
        headers: [],
        query: [['since', random.chance(0.5) ? String(time) : new Date(time).toISOString()]],
        isGood: true,
      };
    }
    default:
      return { headers: ['Last-Event-ID: '], query: [['since', random.pick(BAD_TIMES)]], isGood: false };
  }
}

/** As proxies tell an address, behind what the client made up. */
function forwarded(random: Random, address: string): string[] {
  const told = address.includes('.') && random.chance(0.3) ? `${address}:${random.integer(1024, 65535)}` : address;
  return random.chance(0.3)
    ? [`X-Forwarded-For: 203.0.113.${random.integer(0, 255)}`, `X-Forwarded-For: ${told}`]
    : [`X-Forwarded-For: 203.0.113.9,${random.pick([' ', '', '\t'])}${told}`];
}

const METHODS = ['POST', 'PUT', 'DELETE', 'PATCH', 'PROPFIND'] as const;
const BAD_NAMES = ['', 'a*', '**', 'a\u0000b', 'a\nb', 'user:*:x', 'x'.repeat(256)] as const;

export function makeRequest(random: Random, settings: FuzzSettings): FuzzRequest {
  const origin = random.chance(0.7)
    ? undefined
    : random.pick([ALLOWED_ORIGIN, `http://${settings.host}`, ...FOREIGN_ORIGINS]);
  const credential = makeCredential(random, settings, origin);
  const cursor = makeCursor(random, settings);
  const isOther = random.chance(0.05);
  const method = isOther
    ? random.pick(['OPTIONS', ...METHODS])
    : random.pick(['GET', 'GET', 'GET', 'GET', 'GET', 'GET', 'GET', 'HEAD']);
  const isHead = method === 'HEAD';
  const acceptsStream = random.chance(0.5);

  const wanted = random.chance(0.5)
    ? // Mostly what it may read, or nothing would ever be opened.
      random.sample([...PUBLIC, ...credential.grants], random.integer(1, 3))
    : random.sample([...CHANNELS, ...PATTERNS], random.integer(1, 4));
  if (credential.by === 'session') wanted.splice(0, Infinity, ...random.pick<readonly string[]>(SESSION_WANTS));
  const flaw = random.next();
  if (flaw < 0.02) wanted.push(random.pick(BAD_NAMES));
  else if (flaw < 0.03) wanted.splice(0);
  else if (flaw < 0.04) for (let n = 0; n <= settings.maxChannels; n += 1) wanted.push(`many:${n}`);
  const hasBody = random.chance(0.02);
  const isGoodRequest = flaw >= 0.04 && !hasBody;

  const query: [string, string][] = [...cursor.query, ...credential.query];
  const isPage = random.chance(0.15);
  const hasBadBounds = random.chance(isPage ? 0.1 : 0.02);
  if (isPage && random.chance(0.5)) query.push(['limit', String(random.integer(1, 1000))]);
  if (isPage && random.chance(0.3)) query.push(['wait', String(random.integer(0, 1))]);
  if (random.chance(0.1)) query.push(['event', 'message'], ['event', 'no such']);
  if (random.chance(0.2)) query.push(['format', 'envelope']);
  if (hasBadBounds && random.chance(0.5)) query.push(random.pick(BAD_NAMES_OF_EVENTS));
  else if (hasBadBounds) query.unshift(isPage ? random.pick(BAD_BOUNDS) : ['format', 'xml']);
  let path = isPage ? '/history' : '/events';
  const [only] = wanted;
  if (wanted.length === 1 && only !== undefined && only !== '' && random.chance(0.5)) {
    path += `/${encodeURIComponent(only)}`;
  } else {
    query.unshift(...wanted.map((name): [string, string] => ['channel', name]));
    if (random.chance(0.1)) path += '/';
  }
  const elsewhere = random.chance(0.04)
    ? random.pick([
        '/',
        '/event',
        '/events/a/b',
        '/healthz',
        '/readyz',
        '/metrics',
        '/Healthz',
        '/Events/news',
        '//events',
      ])
    : undefined;
  path = elsewhere ?? path;
  const search = new URLSearchParams(query).toString();

  const headers = [
    `Host: ${settings.host}`,
    ...credential.headers,
    ...cursor.headers,
    ...(acceptsStream ? ['Accept: text/event-stream'] : random.chance(0.5) ? ['Accept: */*'] : []),
    ...(origin === undefined ? [] : [`Origin: ${origin}`]),
    ...(settings.addresses.length > 0
      ? forwarded(random, random.pick(settings.addresses as [string]))
      : random.chance(0.1)
        ? ['X-Forwarded-For: 127.0.0.1, unknown, ::1']
        : []),
    ...(hasBody ? ['Content-Length: 2'] : []),
  ];
  const text = `${method} ${path}${search ? `?${search}` : ''} HTTP/1.1\r\n${headers.join('\r\n')}\r\n\r\n${hasBody ? '{}' : ''}`;

  // The stages in the relay's documented order: the first that refuses answers.
  function expected(): readonly number[] {
    const isHealth = elsewhere === '/healthz' || elsewhere === '/readyz';
    if (isHealth) return method === 'GET' || isHead ? [200] : [405];
    if (elsewhere !== undefined) return [404];
    if (method === 'OPTIONS') return [204];
    if (method !== 'GET' && !isHead) return [405];
    if (!isGoodRequest || hasBadBounds) return [400];
    const then = cursor.isGood ? 200 : 400;
    const notPublic = wanted.filter((name) => !anyCovers(PUBLIC, name));
    const granted = notPublic.every((name) => anyCovers(credential.grants, name)) ? then : 403;
    if (credential.by === 'token') return credential.outcome.map((status) => status || granted);
    if (notPublic.length === 0) return [then];
    if (credential.by === 'session') return credential.outcome.map((status) => status || granted);
    return [401];
  }

  const request: FuzzRequest = {
    bytes: Buffer.from(text),
    grants: credential.grants,
    wanted,
    expiresAt: credential.expiresAt,
    expected: expected(),
    isPage: isPage && elsewhere === undefined,
    takesPlace: elsewhere === undefined && (method === 'GET' || isHead) && isGoodRequest && !hasBadBounds,
    isHead,
    acceptsStream,
    secrets: credential.secrets,
  };
  return random.chance(0.12) ? spoil(random, request, settings) : request;
}

/**
 * Makes of a request bytes that no client would send. What it was allowed stays, as nothing may be added to that; but where
 * its token may have been lost on the way it is anonymous, and what it reads without one does not end.
 */
function spoil(random: Random, request: FuzzRequest, settings: FuzzSettings): FuzzRequest {
  const unknown = {
    ...request,
    isPage: false,
    wanted: undefined,
    expected: undefined,
    takesPlace: true,
    expiresAt: NEVER,
  };
  const insert = (line: string) => Buffer.from(request.bytes.toString('utf8').replace('\r\n', `\r\n${line}\r\n`));
  switch (random.integer(0, 9)) {
    case 0:
    case 1:
    case 2: {
      const bytes = Buffer.from(request.bytes);
      for (let n = random.integer(1, 8); n > 0; n -= 1) {
        bytes[random.integer(0, bytes.length - 1)] = random.integer(0, 255);
      }
      return { ...unknown, bytes };
    }
    case 3: {
      const at = random.integer(0, request.bytes.length);
      const noise = Buffer.from(Array.from({ length: random.integer(1, 40) }, () => random.integer(0, 255)));
      return { ...unknown, bytes: Buffer.concat([request.bytes.subarray(0, at), noise, request.bytes.subarray(at)]) };
    }
    case 4:
      return { ...request, bytes: insert(`X-Large: ${'x'.repeat(70_000)}`), expected: [431], takesPlace: false };
    case 5:
      return {
        ...unknown,
        bytes: insert(random.pick(['Transfer-Encoding: chunked', 'Content-Length: 1e9', 'Bad Header: y'])),
      };
    case 6:
      return {
        ...unknown,
        bytes: insert(random.pick(['Expect: 100-continue', 'Connection: Upgrade\r\nUpgrade: websocket'])),
      };
    case 7:
      return { ...unknown, bytes: Buffer.from(`CONNECT ${settings.host} HTTP/1.1\r\nHost: ${settings.host}\r\n\r\n`) };
    case 8:
      return {
        ...unknown,
        bytes: Buffer.from(
          `GET ${random.pick(['/events/%', '/events/%ff', '*', 'http://x/events/news', '//events', '/events?%'])} HTTP/1.1\r\nHost: x\r\n\r\n`,
        ),
      };
    default:
      return {
        ...unknown,
        bytes: Buffer.from(Array.from({ length: random.integer(1, 400) }, () => random.integer(0, 255))),
      };
  }
}
