/**
 * Readiness: why the relay can't deliver now.
 */
import type { Watch } from '../outbox/feed.js';
import type { Tail } from './tail.js';

/**
 * Something that keeps the relay from delivering. What the database said of it is for the log
 * alone.
 */
export interface Obstacle {
  readonly code: 'not_listening' | 'cannot_read' | 'behind' | 'floor_missing';
  readonly since: Date;
}

/**
 * Time that the tail has to catch up before it counts as behind: a large transaction takes a
 * moment.
 */
const BEHIND_GRACE_MS = 2000;

/** Everything that keeps the relay from delivering; empty when it is ready. */
export function obstacles(
  tail: Pick<Tail, 'trouble' | 'behindSince' | 'floorMissingSince'>,
  watch: Pick<Watch, 'trouble'>,
): Obstacle[] {
  const found: Obstacle[] = [];
  if (watch.trouble) found.push({ code: 'not_listening', since: watch.trouble.since });
  if (tail.trouble) found.push({ code: 'cannot_read', since: tail.trouble.since });
  else if (tail.behindSince && Date.now() - tail.behindSince.getTime() > BEHIND_GRACE_MS) {
    found.push({ code: 'behind', since: tail.behindSince });
  }
  if (tail.floorMissingSince) found.push({ code: 'floor_missing', since: tail.floorMissingSince });
  return found;
}
