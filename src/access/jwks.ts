/**
 * Key set: keys that the issuer of tokens publishes and changes (RFC 7517, JWK set). It is read
 * when it is needed and has grown old, and again for keys that it did not have, which anybody can
 * make up.
 *
 * What was read is kept when the issuer can't be reached: one that is down for a while must not
 * keep those out who have good tokens.
 */
import {
  createRemoteJWKSet,
  customFetch,
  errors,
  jwtVerify,
  type FetchImplementation,
  type JWTPayload,
  type JWTVerifyOptions,
} from 'jose';
import type { Logger } from 'pino';
import { boundedBody } from './bounded-body.js';
import { PUBLIC_KEY_ALGORITHMS } from './public-key.js';

/**
 * The key set is read again when it is this old: for so long a withdrawn key still verifies tokens.
 */
const MAX_AGE_MS = 10 * 60_000;
/** Pause after a read that failed, and between reads for unknown keys. */
const PAUSE_MS = 10_000;
/** Reads for unknown keys that are made without a pause. */
const BURST = 3;
const TIMEOUT_MS = 5000;
/** Of a set, decompressed: thousands of keys. */
const MAX_BYTES = 1024 * 1024;

/** The keys could not be had, which says nothing about the token. */
export class KeysUnavailable extends Error {
  override readonly name = 'KeysUnavailable';
}

/**
 * Verifies tokens by the key set at a URL, and all that `checks` says.
 *
 * @returns a function that resolves with a token's claims
 * @throws KeysUnavailable from that function, as long as the set could never be read; else what
 * jose throws
 */
export function createKeySetCheck(
  url: string,
  checks: JWTVerifyOptions,
  logger: Logger,
): (token: string) => Promise<JWTPayload> {
  // When to read is decided here: jose would leave a new key unknown for as long as its pause.
  const keys = createRemoteJWKSet(new URL(url), {
    cacheMaxAge: Infinity,
    cooldownDuration: Infinity,
    timeoutDuration: TIMEOUT_MS,
    [customFetch]: fetchBounded,
  });
  const restricted = { ...checks, algorithms: PUBLIC_KEY_ALGORITHMS };
  let dueAt = 0;
  let reading: Promise<void> | undefined;
  let spare = BURST;
  let sparedAt = Date.now();

  async function read(): Promise<void> {
    try {
      await keys.reload();
      dueAt = Date.now() + MAX_AGE_MS;
    } catch (error) {
      dueAt = Date.now() + PAUSE_MS;
      logger.warn({ reason: reasonOf(error) }, 'JWKS_URL could not be read; going on with the keys that are known');
    } finally {
      reading = undefined;
    }
  }

  /** Anybody can make up tokens by unknown keys, and must not send us to the issuer with each. */
  function mayReadAgain(): boolean {
    const pauses = Math.floor((Date.now() - sparedAt) / PAUSE_MS);
    sparedAt += pauses * PAUSE_MS;
    spare = Math.min(BURST, spare + pauses) - 1;
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
    if (Date.now() >= dueAt) {
      reading ??= read();
      // An issuer that does not answer keeps nobody waiting whose key is known.
      if (keys.jwks() === undefined) await reading;
    }
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

/** jose itself takes all that comes. */
const fetchBounded: FetchImplementation = async (url, options) => {
  const response = await fetch(url, options);
  return new Response(await boundedBody(response, MAX_BYTES), response);
};

function reasonOf(error: unknown): string {
  const { message, cause } = error instanceof Error ? error : new Error(String(error));
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
}
