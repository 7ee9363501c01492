/**
 * Peers that are asked no oftener than they need: who asks the same within a moment shares the
 * answer.
 */
import { LRUCache } from 'lru-cache';
import { RequestError } from '../http/request-error.js';
import type { Gathered, Peers } from './question.js';

/** How long an answer is good for. */
const KEPT_MS = 500;
/** Different questions at a time. */
const MOST_AT_ONCE = 8;

/** @param peers asked by many; whoever is one too many is refused with 503. */
export function sharedPeers(peers: Peers): Peers {
  const kept = new LRUCache<string, Promise<Gathered>>({ max: 32, ttl: KEPT_MS });
  let underWay = 0;
  return {
    count: peers.count,
    async ask(question) {
      const key = JSON.stringify(question);
      const known = kept.get(key);
      if (known) return known;
      if (underWay >= MOST_AT_ONCE) {
        throw new RequestError(503, 'console_busy', 'Too many questions at a time. Ask again in a second.', {
          temporary: true,
        });
      }
      underWay += 1;
      const asked = peers.ask(question).finally(() => (underWay -= 1));
      asked.catch(() => kept.delete(key));
      kept.set(key, asked);
      return asked;
    },
  };
}
