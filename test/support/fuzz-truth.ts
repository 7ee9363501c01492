/**
 * What a random request may come to, told by rules of its own: nothing here is shared with the relay, so that what is wrong
 * there is not wrong here as well.
 */
import { createHmac } from 'node:crypto';

/** What anybody may read. */
export const PUBLIC = ['news', 'status:*'] as const;

/** Where the writer publishes: families within families, names that look alike, and names that are hard to write. */
export const CHANNELS = [
  'news',
  'newsletter',
  'status:1',
  'status:a:b',
  'status',
  'user:1',
  'user:2',
  'user:12',
  'user:',
  'org:7:a',
  'org:7:b:deep',
  'org:70:a',
  'secret',
  'ü/😀 x',
  'a,b&c=d%25',
  '__proto__',
  'constructor',
] as const;

/** The names that a token may list and a client may ask for, beside the channels. */
export const PATTERNS = ['*', 'user:*', 'org:*', 'org:7:*', 'org:7:b:*', 'status:*', 'status:a:*', 'nobody:*'] as const;

/** Whether `pattern` stands for `name`, which may be a pattern itself. */
export function covers(pattern: string, name: string): boolean {
  if (pattern === '*') return true;
  return pattern.endsWith(':*') ? name.startsWith(pattern.slice(0, -1)) : pattern === name;
}

export function anyCovers(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => covers(pattern, name));
}

const base64 = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Signs as RFC 7515 says, without the library that the relay verifies with. */
export function sign(header: Readonly<Record<string, unknown>>, claims: unknown, secret: string): string {
  const text = `${base64(header)}.${base64(claims)}`;
  const hash = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' }[String(header['alg'])];
  return `${text}.${hash === undefined ? '' : createHmac(hash, secret).update(text).digest('base64url')}`;
}

/**
 * The secrets of which `text` holds a part. A secret is known by its pieces of twelve characters, so a leak of 23 in a row is
 * found wherever it was cut.
 */
export function findSecrets(text: string, secrets: Iterable<string>): string[] {
  const length = 12;
  const owners = new Map<string, string>();
  for (const secret of secrets) {
    for (let at = 0; at + length <= secret.length; at += length) owners.set(secret.slice(at, at + length), secret);
  }
  const found = new Set<string>();
  for (let at = 0; at + length <= text.length; at += 1) {
    const owner = owners.get(text.slice(at, at + length));
    if (owner !== undefined) found.add(`${owner} in …${text.slice(Math.max(0, at - 150), at + 100)}…`);
  }
  return [...found];
}
