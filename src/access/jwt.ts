/**
 * Tokens: what a signed JWT lets its bearer read, and until when.
 *
 * The key decides the algorithms, never the token: a secret verifies HS*, a public key what its
 * type can sign, a key set what each of its keys says. So neither `none` nor a public key used as a
 * secret gets anywhere.
 *
 * Source: RFC 7519 (JWT), RFC 8725 (its best practices).
 */
import { webcrypto, type KeyObject } from 'node:crypto';
import { errors, jwtVerify, SignJWT, type JWTHeaderParameters, type JWTPayload, type JWTVerifyOptions } from 'jose';
import type { Logger } from 'pino';
import { ChannelError, channelFilter, type ChannelFilter } from '../event/channel-filter.js';
import { createKeySetCheck, KeysUnavailable } from './jwks.js';
import { algorithmsOf } from './public-key.js';
import { SECRET_BYTES } from './secret.js';
import { Denied } from './denied.js';

/** What a client was found to be allowed. */
export interface Grant {
  readonly channels: ChannelFilter;
  /** Who it is, where that was told. */
  readonly subject: string | undefined;
  /** When the right ends, in milliseconds since 1970; `Infinity` where it does not. */
  readonly expiresAt: number;
  /** There where it opens the console. */
  readonly opensConsole?: true;
}

/** What tokens are verified with. Exactly one of the first three is there. */
export interface TokenOptions {
  readonly secret?: KeyObject;
  readonly publicKey?: KeyObject;
  /** Where a JWK set is published. */
  readonly keySetUrl?: string;
  /** Whether a token without `exp` is refused. */
  readonly requireExpiry: boolean;
  readonly issuer: string | undefined;
  /** The token's audience must be one of these; empty: any or none. */
  readonly audience: readonly string[];
  /** By how much the clocks of issuer and relay may differ. */
  readonly clockToleranceSeconds: number;
  /** The claim that lists the channels, as in `["user:42", "org:7:*"]`. */
  readonly channelsClaim: string;
  /** The claim that opens the console, where it is `true`. */
  readonly consoleClaim: string;
}

export interface Tokens {
  /** @throws Denied where the token is not good, or the keys to judge it by can't be had. */
  verify(token: string): Promise<Grant>;
}

/** A signed JWT in compact form (RFC 7515, section 3.1). jose ignores blanks within one. */
const COMPACT = /^[\w-]+\.[\w-]+\.[\w-]*$/;

/**
 * The last second of the year 9999. A number beyond it is none that an issuer means: milliseconds,
 * or what JSON has as 1e400, which would never come.
 */
const LAST_SECOND = 253_402_300_799;
const TIMES = ['exp', 'nbf', 'iat'] as const;

const SECRET_ALGORITHMS = ['HS256', 'HS384', 'HS512'];

export function createTokens(options: TokenOptions, logger: Logger): Tokens {
  if ((options.secret?.symmetricKeySize ?? Infinity) < SECRET_BYTES.recommended) {
    logger.warn(
      `JWT_SECRET has fewer than ${SECRET_BYTES.recommended} bytes, which is too easy to guess; make one with: openssl rand -base64 48`,
    );
  }
  const { clockToleranceSeconds } = options;
  const checks: JWTVerifyOptions = {
    clockTolerance: clockToleranceSeconds,
    requiredClaims: options.requireExpiry ? ['exp'] : [],
    ...(options.issuer === undefined ? {} : { issuer: options.issuer }),
    ...(options.audience.length === 0 ? {} : { audience: [...options.audience] }),
  };
  const check = createCheck(options, checks, logger);

  return {
    async verify(token) {
      if (!COMPACT.test(token)) throw noToken();
      let payload: JWTPayload;
      try {
        payload = await check(token);
      } catch (error) {
        throw refusal(error);
      }
      requireTimes(payload);
      return {
        channels: channelsOf(payload, options.channelsClaim),
        subject: typeof payload.sub === 'string' ? payload.sub : undefined,
        expiresAt: payload.exp === undefined ? Infinity : (payload.exp + clockToleranceSeconds) * 1000,
        ...(opensConsole(payload, options.consoleClaim) && { opensConsole: true }),
      };
    },
  };
}

const opensConsole = (payload: JWTPayload, claim: string): boolean =>
  Object.hasOwn(payload, claim) && payload[claim] === true;

/** What a token is to say. */
export interface TokenClaims {
  readonly channels: readonly string[];
  readonly subject: string | undefined;
  readonly expiresInSeconds: number;
}

/**
 * Makes a token that a relay with the same options accepts.
 *
 * @throws ChannelError for a name that no channel and no pattern can have.
 */
export async function mintToken(options: TokenOptions, claims: TokenClaims): Promise<string> {
  if (options.secret === undefined) throw new TypeError('tokens are made with a secret');
  channelFilter(claims.channels);
  const now = Math.floor(Date.now() / 1000);
  const token = new SignJWT({ [options.channelsClaim]: claims.channels })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt(now)
    .setExpirationTime(now + Math.ceil(claims.expiresInSeconds));
  if (claims.subject !== undefined) token.setSubject(claims.subject);
  if (options.issuer !== undefined) token.setIssuer(options.issuer);
  if (options.audience[0] !== undefined) token.setAudience(options.audience[0]);
  return token.sign(options.secret);
}

type Check = (token: string) => Promise<JWTPayload>;

function createCheck(options: TokenOptions, checks: JWTVerifyOptions, logger: Logger): Check {
  const { secret, publicKey, keySetUrl } = options;
  if (keySetUrl !== undefined) return createKeySetCheck(keySetUrl, checks, logger);
  if (secret !== undefined) return createSecretCheck(secret, checks);
  if (publicKey === undefined) throw new TypeError('tokens need a key');
  const algorithms = algorithmsOf(publicKey);
  return async (token) => (await jwtVerify(token, publicKey, { ...checks, algorithms })).payload;
}

/** Imports the secret once for each algorithm: jose would import it again for each token. */
function createSecretCheck(secret: KeyObject, checks: JWTVerifyOptions): Check {
  const keys = new Map<string, Promise<webcrypto.CryptoKey>>();
  function keyFor({ alg }: JWTHeaderParameters): Promise<webcrypto.CryptoKey> {
    const hash = alg.replace('HS', 'SHA-');
    const known = keys.get(hash);
    if (known) return known;
    const key = webcrypto.subtle.importKey('raw', secret.export(), { name: 'HMAC', hash }, false, ['verify']);
    keys.set(hash, key);
    return key;
  }
  // jose asks for the key only after it has seen that the algorithm is one of these.
  return async (token) => (await jwtVerify(token, keyFor, { ...checks, algorithms: SECRET_ALGORITHMS })).payload;
}

function refusal(error: unknown): Denied {
  if (error instanceof KeysUnavailable) {
    return new Denied('auth_unavailable', 'The keys for tokens cannot be had at the moment. Try again.', {
      cause: error,
    });
  }
  if (error instanceof errors.JWTExpired) {
    return new Denied('expired_token', 'The token has expired. Come back with a fresh one.');
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.reason === 'missing') {
      return new Denied('invalid_token', `The token has no claim "${error.claim}", which it needs here.`);
    }
    return new Denied(
      'invalid_token',
      error.claim === 'nbf'
        ? 'The token is not valid yet: check the clocks.'
        : `The token's claim "${error.claim}" is not what it has to be here.`,
    );
  }
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return new Denied('invalid_token', 'The token is signed with an algorithm that does not go with the key here.');
  }
  if (error instanceof errors.JWSSignatureVerificationFailed || error instanceof errors.JWKSNoMatchingKey) {
    return new Denied('invalid_token', 'The signature of the token is not by a key that is known here.');
  }
  // What else jose, and the Web Cryptography below it, throws is about the token's form.
  return noToken();
}

function noToken(): Denied {
  return new Denied('invalid_token', 'This is not a token: it has to be a signed JWT in compact form.');
}

function requireTimes(payload: JWTPayload): void {
  for (const claim of TIMES) {
    const value: unknown = payload[claim];
    if (value === undefined || (typeof value === 'number' && value >= 0 && value <= LAST_SECOND)) continue;
    throw new Denied('invalid_token', `The token's claim "${claim}" has to be a time in seconds since 1970.`);
  }
}

function channelsOf(payload: JWTPayload, claim: string): ChannelFilter {
  const names = Object.hasOwn(payload, claim) ? payload[claim] : [];
  if (!isListOfStrings(names)) {
    throw new Denied('invalid_token', `The token's claim "${claim}" has to be a list of channels.`);
  }
  try {
    return channelFilter([...names, ...mercureSelectors(payload).filter(isChannel)]);
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    throw new Denied('invalid_token', `The token's claim "${claim}" names no channel: ${error.message}`);
  }
}

/** Source: the Mercure protocol, "Authorization". A URI template stands for itself alone. */
function mercureSelectors({ mercure }: JWTPayload): string[] {
  if (typeof mercure !== 'object' || mercure === null || !('subscribe' in mercure)) return [];
  return isListOfStrings(mercure.subscribe) ? mercure.subscribe : [];
}

function isChannel(name: string): boolean {
  try {
    channelFilter([name]);
    return true;
  } catch {
    return false;
  }
}

function isListOfStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
