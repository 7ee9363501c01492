/**
 * Forward authentication: asks the application who may read what, with the client's own cookies and
 * `Authorization`.
 *
 * It is asked once for the same credentials and channels, however many clients ask at a time, and
 * its answers are kept for a few seconds, so that a crowd that reconnects does not become a crowd
 * at its door. Nothing but an answer in the agreed form allows anything. However many questions
 * come from one address, those from others are put at once.
 */
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Logger } from 'pino';
import { z } from 'zod';
import { boundedBody } from './bounded-body.js';
import type { Counted } from './client-address.js';
import { ChannelError, channelFilter, type ChannelFilter } from '../event/channel-filter.js';
import { createQuestion, QueueTooLong, type Question } from './shared-question.js';
import { Denied } from './denied.js';
import type { Grant } from './jwt.js';
import { createTurns } from './fair-turns.js';

export interface ForwardAuthOptions {
  /** Asked with GET and `?channel=` for each channel that the client wants. */
  readonly url: string;
  readonly timeoutSeconds: number;
  /** How long an answer is kept; 0: not at all. */
  readonly cacheSeconds: number;
}

/** What the client sent that the application may know it by. */
export interface ForwardedCredentials {
  readonly authorization: string;
  readonly cookie: string;
}

export interface ForwardAuth {
  /**
   * @throws Denied with the application's own answer where that was 401 or 403; `auth_unavailable`
   * where there was no answer, or none that can be understood; `auth_busy` where too many questions
   * came before.
   * @param asker from where it is asked
   * @param left aborted when the client is gone: then it rejects with the signal's reason
   */
  ask(credentials: ForwardedCredentials, wanted: ChannelFilter, asker: Counted, left: AbortSignal): Promise<Grant>;
}

type Answer = Grant | Denied;

/**
 * Bounds of what is kept. Anybody can be refused with credentials that are made up, so refusals
 * have a cache of their own: however many there are, they evict no grant.
 */
const KEPT_GRANTS = { max: 10_000, maxSize: 32 * 1024 * 1024 };
const KEPT_REFUSALS = { max: 10_000, maxSize: 8 * 1024 * 1024 };
const MAX_BODY_BYTES = 256 * 1024;
/**
 * Most questions that are under way at a time. One address has half of them at most, and more wait
 * their turn. Each costs about a millisecond of the event loop, and those that were put together
 * are answered together: hundreds would hold up delivery.
 */
const MAX_QUESTIONS = 64;
/**
 * Time that a question waits its turn before its client is told to come later. Where the
 * application takes 100 ms for an answer, 1,600 questions from one address have their turn within
 * this time.
 */
const TURN_TIMEOUT_MS = 5000;
/** How long a grant holds where the application does not say. */
const DEFAULT_EXPIRES_IN_SECONDS = 600;
/** A hundred years. More is a mistake, such as milliseconds, or JSON's 1e400. */
const LONGEST_EXPIRES_IN_SECONDS = 36_500 * 86_400;
/** Shortest time between two warnings of one kind. */
const LOG_PAUSE_MS = 10_000;
/** A kept-alive connection that the application closed just now: the question never reached it. */
const CLOSED_CONNECTION = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

const allowed = z.object({
  channels: z.array(z.string()),
  expires_in: z.number().positive().max(LONGEST_EXPIRES_IN_SECONDS).default(DEFAULT_EXPIRES_IN_SECONDS),
  sub: z.union([z.string(), z.number().transform(String)]).optional(),
});

export function createForwardAuth(options: ForwardAuthOptions, logger: Logger): ForwardAuth {
  const grants = new LRUCache<string, Grant>({
    ...KEPT_GRANTS,
    sizeCalculation: ({ channels }) => sizeOf(channels.key),
  });
  const refusals = new LRUCache<string, Denied>({
    ...KEPT_REFUSALS,
    sizeCalculation: ({ answer }) => sizeOf(answer?.body ?? ''),
  });
  const underWay = new Map<string, Question<Answer>>();
  const turns = createTurns(MAX_QUESTIONS);
  const warnOfFailures = throttled((reason, failures) => {
    logger.warn({ reason, failures }, 'FORWARD_AUTH_URL gives no answer that allows or refuses');
  });
  const warnOfQueue = throttled((address, sentAway) => {
    logger.warn({ address, sentAway }, 'more is asked than FORWARD_AUTH_URL answers; clients are told to come later');
  });

  function keep(key: string, answer: Answer): void {
    const isRefusal = answer instanceof Denied;
    const ttl = Math.floor(Math.min(options.cacheSeconds * 1000, isRefusal ? Infinity : answer.expiresAt - Date.now()));
    // The caches take a ttl of 0 for "for ever".
    if (ttl <= 0) return;
    if (isRefusal) refusals.set(key, answer, { ttl });
    else grants.set(key, answer, { ttl });
  }

  async function question(key: string, credentials: ForwardedCredentials, wanted: ChannelFilter): Promise<Answer> {
    try {
      const signal = AbortSignal.timeout(options.timeoutSeconds * 1000);
      const answer = await askApplication(options.url, credentials, wanted, signal);
      keep(key, answer);
      return answer;
    } catch (error) {
      warnOfFailures(reasonOf(error));
      throw new Denied('auth_unavailable', 'Who may read what cannot be told at the moment. Try again.', {
        cause: error,
      });
    }
  }

  function questionOf(key: string, credentials: ForwardedCredentials, wanted: ChannelFilter): Question<Answer> {
    const known = underWay.get(key);
    if (known) return known;
    const asked = createQuestion({
      turns,
      turnTimeoutMs: TURN_TIMEOUT_MS,
      put: () => question(key, credentials, wanted),
      onOver: () => underWay.delete(key),
    });
    underWay.set(key, asked);
    return asked;
  }

  return {
    async ask(credentials, wanted, asker, left) {
      const key = keyOf(credentials, wanted);
      const answer =
        grants.get(key) ??
        refusals.get(key) ??
        (await questionOf(key, credentials, wanted)
          .ask(asker.key, left)
          .catch((error: unknown) => {
            if (!(error instanceof QueueTooLong)) throw error;
            warnOfQueue(asker.key);
            throw new Denied('auth_busy', 'Too many ask at the moment who may read what. Come back later.', {
              cause: error,
            });
          }));
      if (answer instanceof Denied) throw answer;
      return answer;
    },
  };
}

/** Calls `warn` at most once in `LOG_PAUSE_MS`, with the number of calls since the last time. */
function throttled(warn: (what: string, count: number) => void): (what: string) => void {
  let count = 0;
  let warnedAt = -Infinity;
  return (what) => {
    count += 1;
    if (Date.now() - warnedAt <= LOG_PAUSE_MS) return;
    warn(what, count);
    warnedAt = Date.now();
    count = 0;
  };
}

/** @throws Error, in words for the operator, for anything but the agreed forms. */
async function askApplication(
  url: string,
  { authorization, cookie }: ForwardedCredentials,
  wanted: ChannelFilter,
  signal: AbortSignal,
): Promise<Answer> {
  const address = new URL(url);
  for (const name of wanted.channels) address.searchParams.append('channel', name);
  for (const prefix of wanted.prefixes) address.searchParams.append('channel', `${prefix}*`);
  const headers: Record<string, string> = { Accept: 'application/json' };
  if (authorization) headers['Authorization'] = authorization;
  if (cookie) headers['Cookie'] = cookie;

  const askedAt = Date.now();
  // A redirect leads to a log-in page at best: following it would take that page's 200 for an
  // answer.
  const ask = () => fetch(address, { headers, signal, redirect: 'manual' });
  const response = await ask().catch((error: unknown) => {
    if (!CLOSED_CONNECTION.has(causeCodeOf(error))) throw error;
    return ask();
  });
  const body = await boundedBody(response, MAX_BODY_BYTES);
  if (response.status === 401 || response.status === 403) {
    const contentType = response.headers.get('Content-Type') ?? 'text/plain; charset=utf-8';
    return new Denied('denied', 'The application refused.', { answer: { status: response.status, contentType, body } });
  }
  if (!response.ok) throw new Error(`the answer has status ${response.status}`);

  let grant: z.infer<typeof allowed>;
  try {
    grant = allowed.parse(JSON.parse(body.toString('utf8')));
  } catch (error) {
    throw new Error('the answer is not {"channels": [...], "expires_in": seconds} in JSON', { cause: error });
  }
  try {
    return {
      channels: channelFilter(grant.channels),
      subject: grant.sub,
      expiresAt: askedAt + grant.expires_in * 1000,
    };
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    throw new Error(`the answer names no channel: ${error.message}`, { cause: error });
  }
}

/** A digest, so that the cache holds nobody's credentials. */
function keyOf({ authorization, cookie }: ForwardedCredentials, wanted: ChannelFilter): string {
  return createHash('sha256')
    .update(JSON.stringify([authorization, cookie, wanted.key]))
    .digest('base64');
}

/** Bytes that an answer takes, about. */
function sizeOf({ length }: string | Buffer): number {
  return length + 200;
}

function causeCodeOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause as { code?: unknown } | undefined) : undefined;
  return typeof cause?.code === 'string' ? cause.code : '';
}

function reasonOf(error: unknown): string {
  const { message, cause } = error instanceof Error ? error : new Error(String(error));
  return cause instanceof Error && causeCodeOf(error) ? `${message}: ${cause.message || causeCodeOf(error)}` : message;
}
