/** Attempts to sign in: how often one may fail, from one address and in all. */
import { LRUCache } from 'lru-cache';
import { RequestError } from '../http/request-error.js';

export interface Attempts {
  /** Counts an attempt, until it is known to have succeeded. @throws RequestError 429 */
  begin(address: string): void;
  succeeded(address: string): void;
}

const SPAN_MS = 5 * 60 * 1000;
const MOST_OF_ADDRESS = 10;
/** Of all addresses: whoever has many of them gets no further. It ends no session. */
const MOST_IN_ALL = 200;
/** Addresses that are remembered; those that have not tried for longest are forgotten first. */
const MOST_ADDRESSES = 10_000;

export function createAttempts(): Attempts {
  const byAddress = new LRUCache<string, number>({ max: MOST_ADDRESSES, ttl: SPAN_MS, noUpdateTTL: true });
  let inAll = 0;
  let spanBegan = performance.now();

  return {
    begin(address) {
      if (performance.now() - spanBegan > SPAN_MS) {
        spanBegan = performance.now();
        inAll = 0;
      }
      const before = byAddress.get(address) ?? 0;
      if (before >= MOST_OF_ADDRESS || inAll >= MOST_IN_ALL) {
        const leftMs =
          before >= MOST_OF_ADDRESS ? byAddress.getRemainingTTL(address) : SPAN_MS - (performance.now() - spanBegan);
        const seconds = Math.max(1, Math.ceil(leftMs / 1000));
        throw new RequestError(
          429,
          'too_many_attempts',
          `Too many attempts to sign in${before >= MOST_OF_ADDRESS ? ' from this address' : ''}. Try again in ${seconds} s, or bring a token.`,
          { headers: { 'Retry-After': String(seconds) } },
        );
      }
      byAddress.set(address, before + 1);
      inAll += 1;
    },
    succeeded(address) {
      byAddress.delete(address);
      inAll -= 1;
    },
  };
}
