/**
 * A secret that is shared: by the issuer of tokens and its relays, or by feeders and their relays.
 */
import { createSecretKey, type KeyObject } from 'node:crypto';

/** Shorter secrets are refused; below 32 bytes a warning is due (RFC 7518, section 3.2). */
export const SECRET_BYTES = { least: 16, recommended: 32 };

/** The secret as a key. @throws Error when it is too short to keep anybody out. */
export function readSecret(text: string): KeyObject {
  const bytes = Buffer.from(text);
  if (bytes.length < SECRET_BYTES.least) throw new Error(`shorter than ${SECRET_BYTES.least} bytes`);
  return createSecretKey(bytes);
}
