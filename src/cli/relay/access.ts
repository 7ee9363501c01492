/**
 * The relay that a command asks over HTTP: where it is, and the token to ask it with.
 */
import { mintToken } from '../../access/jwt.js';
import type { Config } from '../../config/config.js';
import { OperatorError } from '../../operator-error.js';

/** How long a token is valid that is made for one request. */
const TOKEN_SECONDS = 600;

/** Where a relay that listens on all addresses is reached from its own machine. */
const ANY: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };

/**
 * @param given the option `--url`; undefined: the relay that HOST and PORT are for
 * @returns an address without a slash at its end
 * @throws OperatorError `usage`
 */
export function relayUrl(given: string | undefined, { host, port }: Pick<Config, 'host' | 'port'>): string {
  if (given === undefined) {
    if (port !== 0) return `http://${hostText(host)}:${port}`;
    throw new OperatorError('usage', 'PORT is 0, so nobody knows where the relay is: name it by --url.');
  }
  if (/^https?:\/\//i.test(given) && URL.canParse(given)) {
    const { origin, pathname, username, search, hash } = new URL(given);
    if (username === '' && search === '' && hash === '') return origin + pathname.replace(/\/+$/, '');
  }
  throw new OperatorError(
    'usage',
    `--url ${JSON.stringify(given)}: expected the address of a relay, as in http://127.0.0.1:8001`,
  );
}

/** Where a relay with METRICS_PORT has its metrics; undefined: it has no such port, or any. */
export function metricsPortUrl({ host, metricsPort }: Pick<Config, 'host' | 'metricsPort'>): string | undefined {
  return metricsPort ? `http://${hostText(host)}:${metricsPort}` : undefined;
}

/** As it stands in an address. */
function hostText(host: string): string {
  const known = ANY[host] ?? host;
  return known.includes(':') ? `[${known}]` : known;
}

/**
 * Makes a function that gives the token for the next request: the one that was given by `--token`
 * or OUTBOX_TOKEN; else, where JWT_SECRET is set here, a fresh one for these channels; else none.
 */
export function tokenSource(
  given: string | undefined,
  channels: readonly string[],
  { tokens }: Pick<Config, 'tokens'>,
): () => Promise<string | undefined> {
  const own = given || process.env['OUTBOX_TOKEN'];
  if (own) return () => Promise.resolve(own);
  if (tokens?.secret === undefined) return () => Promise.resolve(undefined);
  return () => mintToken(tokens, { channels, subject: undefined, expiresInSeconds: TOKEN_SECONDS });
}
