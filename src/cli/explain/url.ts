/**
 * A request in words, step by step: what the relay's own code would answer with these settings,
 * where a stream would start, and what the address really answers.
 */
import { commandLine } from '../../command-name.js';
import type { Config } from '../../config/config.js';
import { isOperatorError } from '../../operator-error.js';
import { formatError } from '../face/errors.js';
import { askRelay } from '../relay/request.js';
import { cursorPlace } from './cursor-place.js';
import { rehearse, type Rehearsal, type Start } from './rehearsal.js';
import { no, unknown, yes, type Explanation, type Step } from '../../explain/steps.js';

export interface UrlQuestion {
  /** An address, or its path alone. */
  readonly address: string;
  /** What the client sends. */
  readonly headers: Readonly<Record<string, string>>;
  readonly config: Config;
  /** Whether the address is asked, too; a path alone never is. */
  readonly isAsked: boolean;
}

/** Time until the first byte of an answer. */
const ANSWER_TIMEOUT_MS = 10_000;

const CURES: Readonly<Record<string, string>> = {
  unauthorized:
    'bring a token (--token, or a cookie as in --header "Cookie: outbox_token=…"), or make the channel public',
  invalid_token: `ask what is wrong with it: ${commandLine('explain TOKEN')}`,
  expired_token: 'have the application renew it before it ends',
  forbidden: 'have the token list these channels, or the application allow them, or name them in PUBLIC_CHANNELS',
  foreign_origin: "name the page's origin in ALLOWED_ORIGINS",
  denied: 'the application at FORWARD_AUTH_URL refused: its log says why',
  auth_unavailable: 'see that FORWARD_AUTH_URL or JWKS_URL can be reached from here',
};

export async function explainUrl({ address, headers, config, isAsked }: UrlQuestion): Promise<Explanation> {
  const url = address.startsWith('/') ? undefined : new URL(address);
  const target = url === undefined ? address : url.pathname + url.search;
  const rehearsal = await rehearse(target, { Host: url?.host ?? `${config.host}:${config.port}`, ...headers }, config);
  const subject = `GET ${withoutToken(address)}`;
  const steps = judged(rehearsal, headers, config);
  if (rehearsal.start) steps.push(await startStep(rehearsal.start, config));
  if (url && isAsked) {
    const isRefused = steps.some(({ verdict }) => verdict === 'no');
    steps.push(await askedStep(url, headers, isRefused, config.compression));
  }
  return { subject, steps };
}

/** A token in the address is nobody else's business. */
const withoutToken = (address: string) => address.replace(/([?&]token=)[^&]+/g, '$1(not shown)');

function judged(
  { status, refusal, wanted, permission, start }: Rehearsal,
  headers: Readonly<Record<string, string>>,
  { tokens, forwardAuth }: Config,
): Step[] {
  if (wanted === undefined) {
    if (refusal === undefined) return [unknown('address', `it is no stream: the answer has status ${status}`)];
    return [no('address', `${status} ${refusal.error}: ${refusal.message}`)];
  }
  const channels = [...wanted.channels, ...wanted.prefixes.map((prefix) => `${prefix}*`)];
  const steps = [yes('address', `a request for ${channels.map((name) => `"${name}"`).join(', ')}`)];
  const brought = ['Authorization', 'Cookie', 'Origin'].filter((name) =>
    Object.keys(headers).some((given) => given.toLowerCase() === name.toLowerCase()),
  );
  steps.push(yes('brought', brought.length === 0 ? 'neither a token nor a cookie' : brought.join(', ')));
  if (permission === undefined) {
    const code = refusal?.error ?? 'denied';
    const said = refusal?.message ?? `the application answered ${status}`;
    const isClosed = tokens === undefined && forwardAuth === undefined;
    const cure = isClosed ? 'set a key, FORWARD_AUTH_URL or PUBLIC_CHANNELS, as the relay has them' : CURES[code];
    return [...steps, no('allowed', `${status} ${code}: ${said}`, cure)];
  }
  const until = permission.expiresAt === Infinity ? '' : `, until ${new Date(permission.expiresAt).toISOString()}`;
  const who = permission.subject === undefined ? 'as anybody may' : `as ${JSON.stringify(permission.subject)}`;
  steps.push(yes('allowed', `${who}${until}, unless the relay has as many connections as it may have`));
  if (start === undefined) steps.push(no('start', `${status} ${refusal?.error ?? ''}: ${refusal?.message ?? ''}`));
  return steps;
}

async function startStep(start: Start, { databaseUrl }: Config): Promise<Step> {
  switch (start.kind) {
    case 'id':
      return cursorStep(start.id, databaseUrl);
    case 'since':
      return yes('start', `at the first event of ${start.time.toISOString()} or later`);
    case 'earliest':
      return yes('start', 'at the oldest event that is kept');
    case 'now':
      return unknown(
        'start',
        'at what is published from now on: there is no cursor',
        'to get what was before, give last_event_id=earliest, or since=',
      );
  }
}

async function cursorStep(cursor: string, databaseUrl: string | undefined): Promise<Step> {
  const after = `after event ${cursor}`;
  if (databaseUrl === undefined) return unknown('start', `${after}, if that is known: DATABASE_URL is not set here`);
  try {
    switch (await cursorPlace(databaseUrl, cursor)) {
      case 'found':
        return yes('start', `${after}, which is known`);
      case 'expired':
        return no(
          'start',
          `stream-reset "expired": what followed event ${cursor} may have been deleted`,
          'keep events longer than clients stay away (RETENTION)',
        );
      case 'unknown':
        return no(
          'start',
          `stream-reset "unknown": no event here ever had the id ${cursor}`,
          'see that the cursor comes from this database',
        );
    }
  } catch (error) {
    return unknown('start', `${after}, if that is known. ${formatError(error)}`);
  }
}

/** What really answers, and what stands in front of it. */
async function askedStep(
  url: URL,
  headers: Readonly<Record<string, string>>,
  isRefusedHere: boolean,
  compression: Config['compression'],
): Promise<Step> {
  const began = performance.now();
  const left = new AbortController();
  const signal = AbortSignal.any([left.signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]);
  try {
    const response = await askRelay(url, { headers: { Accept: 'text/event-stream', ...headers }, signal });
    const server = response.headers.get('Server') ?? response.headers.get('Via');
    const by = server === null ? '' : `, by way of ${server}`;
    const type = response.headers.get('Content-Type') ?? 'no type';
    const encoding = response.headers.get('Content-Encoding');
    await response.body?.getReader().read();
    const took = Math.round(performance.now() - began);
    if (!type.startsWith('text/event-stream')) {
      return unknown('asked', `${url.origin} answers 200 with ${type}${by}`, 'is it the relay that answers there?');
    }
    // What asks here takes gzip, so a relay with COMPRESSION compresses it by itself.
    if (encoding !== null && encoding !== compression)
      return no(
        'asked',
        `the stream comes compressed (${encoding})${by}, which holds events back`,
        'have the proxy leave it as it is: docs/proxies.md',
      );
    const but = isRefusedHere ? ', so its relay has other settings than these here' : '';
    return yes('asked', `${url.origin} answers with a stream${by}; its first bytes came after ${took} ms${but}`);
  } catch (error) {
    if (isOperatorError(error)) return no('asked', error.message);
    return no(
      'asked',
      `${url.origin} gives no first byte within ${ANSWER_TIMEOUT_MS / 1000} s`,
      'where the relay answers at once without the proxy, the proxy holds the stream back: docs/proxies.md',
    );
  } finally {
    left.abort();
  }
}
