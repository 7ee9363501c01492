/**
 * Tokens: what a signed JWT lets its bearer read, and until when.
 *
 * The key decides the algorithms, never the token: a secret verifies HS*, a public key what its type can sign, a key set
 * what each of its keys says. So neither `none` nor a public key used as a secret gets anywhere.
 *
 * Source: RFC 7519 (JWT), RFC 8725 (its best practices), RFC 7517 (JWK set).
 */
import { createPublicKey, createSecretKey, webcrypto, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import {
  createRemoteJWKSet,
  errors,
  jwtVerify,
  SignJWT,
  type JWTHeaderParameters,
  type JWTPayload,
  type JWTVerifyOptions,
} from 'jose';
import type { Logger } from 'pino';
import { ChannelError, interestIn, type Interest } from './channels.js';
import { RequestError } from './request-error.js';

/** What a client was found to be allowed. */
export interface Grant {
  readonly channels: Interest;
  /** Who it is, where that was told. */
  readonly subject: string | undefined;
  /** When the right ends, in milliseconds since 1970; `Infinity` where it does not. */
  readonly expiresAt: number;
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
}

export interface Tokens {
  /** @throws RequestError 401 when the token is not good, 503 when the keys to judge it by can't be had. */
  verify(token: string): Promise<Grant>;
}

/** Shorter secrets are refused (they can be guessed), and below 32 bytes a warning is due (RFC 7518, section 3.2). */
export const SECRET_BYTES = { least: 16, recommended: 32 };

const SECRET_ALGORITHMS = ['HS256', 'HS384', 'HS512'];
const RSA_ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const EDDSA_ALGORITHMS = ['EdDSA', 'Ed25519'];
const CURVES: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };
const LEAST_RSA_BITS = 2048;

/** A key set is read again when it is as old as this: so long a withdrawn key is still believed. */
const KEY_SET_AGE = 10 * 60_000;
/** After it could not be read it is left alone for so long. */
const KEY_SET_PAUSE = 10_000;
/** For keys that it did not have it is read again at once, so often in a row; then once in each pause. */
const KEY_SET_BURST = 3;
const KEY_SET_TIMEOUT = 5000;

/** What a public key of that type signs with, and nothing else. @throws Error for a type that signs no tokens. */
function algorithmsOf(key: KeyObject): string[] {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === 'rsa' && (modulusLength ?? 0) >= LEAST_RSA_BITS) return RSA_ALGORITHMS;
  if (key.asymmetricKeyType === 'ed25519') return EDDSA_ALGORITHMS;
  const curve = key.asymmetricKeyType === 'ec' ? CURVES[namedCurve ?? ''] : undefined;
  if (curve === undefined) throw new Error(`no key of type ${key.asymmetricKeyType ?? 'unknown'} that verifies tokens`);
  return [curve];
}

/**
 * Reads a public key for tokens: RSA of at least 2048 bits, EC on P-256, P-384 or P-521, or Ed25519.
 *
 * @param text the PEM itself, its line breaks perhaps written `\n` as in an .env file, or the path of a file that holds it.
 * @throws Error for anything else, private keys included.
 */
export function readPublicKey(text: string): KeyObject {
  const pem = text.includes('-----BEGIN') ? text.replaceAll('\\n', '\n') : readKeyFile(text);
  if (pem.includes('PRIVATE KEY-----')) throw new Error('a private key is for the issuer alone');
  const key = createPublicKey(pem);
  algorithmsOf(key);
  return key;
}

/** The system's own message would quote the path, which may be a key that was cut short. */
function readKeyFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error('there is no such file that can be read', { cause: error });
  }
}

/** The secret as a key. @throws Error when it is too short to keep anybody out. */
export function readSecret(text: string): KeyObject {
  const bytes = Buffer.from(text);
  if (bytes.length < SECRET_BYTES.least) throw new Error(`shorter than ${SECRET_BYTES.least} bytes`);
  return createSecretKey(bytes);
}

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
      let payload: JWTPayload;
      try {
        payload = await check(token);
      } catch (error) {
        throw refusal(error);
      }
      return {
        channels: channelsOf(payload, options.channelsClaim),
        subject: typeof payload.sub === 'string' ? payload.sub : undefined,
        expiresAt: payload.exp === undefined ? Infinity : (payload.exp + clockToleranceSeconds) * 1000,
      };
    },
  };
}

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
  interestIn(claims.channels);
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

/** The secret is imported once for each algorithm; given as it is, it would be with each token, which costs as much again. */
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

/**
 * Keys that the issuer publishes and changes. They are kept when it can't be reached: an issuer that is down for a while
 * must not keep those out who have good tokens.
 */
function createKeySetCheck(url: string, checks: JWTVerifyOptions, logger: Logger): Check {
  // When to read is decided here: jose would leave a new key unknown for as long as its pause.
  const keys = createRemoteJWKSet(new URL(url), {
    cacheMaxAge: Infinity,
    cooldownDuration: Infinity,
    timeoutDuration: KEY_SET_TIMEOUT,
  });
  const algorithms = [...RSA_ALGORITHMS, ...EDDSA_ALGORITHMS, ...Object.values(CURVES)];
  const restricted = { ...checks, algorithms };
  let dueAt = 0;
  let reading: Promise<void> | undefined;
  let spare = KEY_SET_BURST;
  let sparedAt = Date.now();

  async function read(): Promise<void> {
    try {
      await keys.reload();
      dueAt = Date.now() + KEY_SET_AGE;
    } catch (error) {
      dueAt = Date.now() + KEY_SET_PAUSE;
      logger.warn({ reason: reasonOf(error) }, 'JWKS_URL could not be read; going on with the keys that are known');
    } finally {
      reading = undefined;
    }
  }

  /** Anybody can make up tokens by unknown keys, and must not send us to the issuer with each. */
  function mayReadAgain(): boolean {
    const pauses = Math.floor((Date.now() - sparedAt) / KEY_SET_PAUSE);
    sparedAt += pauses * KEY_SET_PAUSE;
    spare = Math.min(KEY_SET_BURST, spare + pauses) - 1;
    if (spare >= 0) return true;
    spare = 0;
    return false;
  }

  async function verify(token: string): Promise<JWTPayload> {
    try {
      return (await jwtVerify(token, keys, restricted)).payload;
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      // A token that does not say which of several keys signed it: any of them may have.
      for await (const key of error) {
        try {
          return (await jwtVerify(token, key, restricted)).payload;
        } catch (wrong) {
          if (!(wrong instanceof errors.JWSSignatureVerificationFailed)) throw wrong;
        }
      }
      throw new errors.JWSSignatureVerificationFailed();
    }
  }

  return async (token) => {
    if (Date.now() >= dueAt) await (reading ??= read());
    if (keys.jwks() === undefined) throw new KeysUnavailable();
    try {
      return await verify(token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      if (!reading && !mayReadAgain()) throw error;
      await (reading ??= read());
      return verify(token);
    }
  };
}

/** The keys could not be had, which says nothing about the token. */
class KeysUnavailable extends Error {
  override readonly name = 'KeysUnavailable';
}

function refusal(error: unknown): RequestError {
  if (error instanceof KeysUnavailable) {
    return new RequestError(503, 'auth_unavailable', 'The keys for tokens cannot be had at the moment. Try again.', {
      temporary: true,
      cause: error,
    });
  }
  if (error instanceof errors.JWTExpired) {
    return unauthorized('expired_token', 'The token has expired. Come back with a fresh one.');
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.reason === 'missing') {
      return unauthorized('invalid_token', `The token has no claim "${error.claim}", which it needs here.`);
    }
    return unauthorized(
      'invalid_token',
      error.claim === 'nbf'
        ? 'The token is not valid yet: check the clocks.'
        : `The token's claim "${error.claim}" is not what it has to be here.`,
    );
  }
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return unauthorized('invalid_token', 'The token is signed with an algorithm that does not go with the key here.');
  }
  if (error instanceof errors.JWSSignatureVerificationFailed || error instanceof errors.JWKSNoMatchingKey) {
    return unauthorized('invalid_token', 'The signature of the token is not by a key that is known here.');
  }
  // What else jose, and the Web Cryptography below it, throws is about the token's form.
  return unauthorized('invalid_token', 'This is not a token: it has to be a signed JWT in compact form.');
}

/** RFC 6750, section 3. */
function unauthorized(code: string, message: string): RequestError {
  return new RequestError(401, code, message, { headers: { 'WWW-Authenticate': 'Bearer error="invalid_token"' } });
}

function channelsOf(payload: JWTPayload, claim: string): Interest {
  const names = Object.hasOwn(payload, claim) ? payload[claim] : [];
  if (!isListOfStrings(names)) {
    throw unauthorized('invalid_token', `The token's claim "${claim}" has to be a list of channels.`);
  }
  try {
    return interestIn([...names, ...mercureSelectors(payload).filter(isChannel)]);
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    throw unauthorized('invalid_token', `The token's claim "${claim}" names no channel: ${error.message}`);
  }
}

/** Source: the Mercure protocol, "Authorization". A URI template is no pattern here, and stands for itself alone. */
function mercureSelectors({ mercure }: JWTPayload): string[] {
  if (typeof mercure !== 'object' || mercure === null || !('subscribe' in mercure)) return [];
  return isListOfStrings(mercure.subscribe) ? mercure.subscribe : [];
}

function isChannel(name: string): boolean {
  try {
    interestIn([name]);
    return true;
  } catch {
    return false;
  }
}

function isListOfStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function reasonOf(error: unknown): string {
  const { message, cause } = error instanceof Error ? error : new Error(String(error));
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
}
