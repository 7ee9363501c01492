/**
 * Readiness: what keeps the relay from delivering now.
 */
import type { Watch } from '../outbox/feed.js';
import { COMMIT_HANGS_MS } from './commits-under-way.js';
import type { Tail } from './tail.js';

/**
 * Something that keeps the relay from delivering. What the database said of it is for the log
 * alone.
 */
export interface Obstacle {
  readonly code: 'not_listening' | 'no_feeder' | 'cannot_read' | 'behind' | 'floor_missing' | 'commit_hangs';
  readonly since: Date;
  /** The process of the database whose commit hangs, where it is known. */
  readonly process?: number;
}

/**
 * Time that the tail has to catch up before it counts as behind: a large transaction takes a
 * moment.
 */
const BEHIND_GRACE_MS = 2000;

/** Everything that keeps the relay from delivering all that there is. */
export function obstacles(
  tail: Pick<Tail, 'trouble' | 'behindSince' | 'floorMissingSince' | 'held'>,
  watch: Pick<Watch, 'trouble' | 'noFeederSince'>,
): Obstacle[] {
  const found: Obstacle[] = [];
  if (watch.noFeederSince) found.push({ code: 'no_feeder', since: watch.noFeederSince });
  if (watch.trouble) found.push({ code: 'not_listening', since: watch.trouble.since });
  if (tail.trouble) found.push({ code: 'cannot_read', since: tail.trouble.since });
  else if (tail.behindSince && Date.now() - tail.behindSince.getTime() > BEHIND_GRACE_MS) {
    found.push({ code: 'behind', since: tail.behindSince });
  }
  if (tail.held && Date.now() - tail.held.since.getTime() > COMMIT_HANGS_MS) {
    const { since, by } = tail.held;
    found.push({ code: 'commit_hangs', since, ...(by === undefined ? {} : { process: by }) });
  }
  if (tail.floorMissingSince) found.push({ code: 'floor_missing', since: tail.floorMissingSince });
  return found;
}

export interface Readiness {
  /** Whether it delivers what it can: a commit that hangs does so for all relays. */
  readonly ready: boolean;
  readonly reasons: readonly Obstacle[];
}

export function readiness(...parts: Parameters<typeof obstacles>): Readiness {
  const reasons = obstacles(...parts);
  return { ready: reasons.every(({ code }) => code === 'commit_hangs'), reasons };
}
