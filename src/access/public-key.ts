/**
 * A public key that tokens are verified with: which kinds there are, and what each can have signed.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';

const RSA_ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const EDDSA_ALGORITHMS = ['EdDSA', 'Ed25519'];
const CURVES: Readonly<Record<string, string>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' };
const LEAST_RSA_BITS = 2048;

/** What all kinds of public keys sign with. */
export const PUBLIC_KEY_ALGORITHMS = [...RSA_ALGORITHMS, ...EDDSA_ALGORITHMS, ...Object.values(CURVES)];

/** Algorithms of a public key. @throws Error for a type that signs no tokens. */
export function algorithmsOf(key: KeyObject): string[] {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === 'rsa' && (modulusLength ?? 0) >= LEAST_RSA_BITS) return RSA_ALGORITHMS;
  if (key.asymmetricKeyType === 'ed25519') return EDDSA_ALGORITHMS;
  const curve = key.asymmetricKeyType === 'ec' ? CURVES[namedCurve ?? ''] : undefined;
  if (curve === undefined) throw new Error(`no key of type ${key.asymmetricKeyType ?? 'unknown'} that verifies tokens`);
  return [curve];
}

/**
 * Reads a public key for tokens: RSA of at least 2048 bits, EC on P-256, P-384 or P-521, or
 * Ed25519.
 *
 * @param text the PEM itself, its line breaks perhaps written `\n` as in an .env file, or the path
 * of a file that holds it.
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
