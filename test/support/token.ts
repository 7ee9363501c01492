/**
 * Tokens as an issuer makes them, good and bad.
 */
import { createSecretKey } from 'node:crypto';
import { SignJWT, type JWTPayload } from 'jose';

export const SECRET = 'a secret that only the tests know, of 32 bytes or more';

type SigningKey = Parameters<SignJWT['sign']>[0];

/** Signs any claims; by default with `SECRET`. */
export async function sign(
  claims: JWTPayload,
  {
    alg = 'HS256',
    key = createSecretKey(Buffer.from(SECRET)),
    kid,
  }: { alg?: string; key?: SigningKey; kid?: string } = {},
): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg, ...(kid === undefined ? {} : { kid }) }).sign(key);
}

/** Seconds since 1970, so many from now, as `exp` and `nbf` have them. */
export function inSeconds(seconds: number): number {
  return Math.floor(Date.now() / 1000) + seconds;
}

/** A good token for these channels. */
export async function tokenFor(channels: readonly string[], claims: JWTPayload = {}): Promise<string> {
  return sign({ channels, exp: inSeconds(600), ...claims });
}
