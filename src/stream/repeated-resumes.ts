/**
 * Resumes: who comes back with which cursor, and whether it is the one that they had come with before.
 *
 * A client that can't take what follows its cursor, as an event that is larger than its buffer, reads it, fails, and asks for
 * it again, for ever. To the relay each of these is a stream like any other: only their row shows that something is wrong.
 *
 * Many clients may have one address and one cursor, as behind a proxy after a cut. So a resume counts as repeated only where
 * the one before has ended: those who come back together are there together.
 */
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';

/** One client at one cursor. */
export interface Resume {
  /** Streams that it has open there. */
  open: number;
  /** How often it has come back there after the stream before had ended. */
  repeats: number;
}

export interface Stuck {
  readonly channels: string;
  readonly lastEventId: string;
  readonly repeats: number;
}

export interface Resumes {
  /** How many were repeated. */
  readonly repeated: number;
  /**
   * A stream begins at a cursor behind the head, or at one that can't be honoured.
   *
   * @param client its user or address.
   * @param channels the key of its filter.
   * @returns what `end` takes.
   */
  begin(client: string, channels: string, lastEventId: string): Resume;
  /** The stream has ended. */
  end(resume: Resume): void;
}

/** Most that are remembered, some 2 MB; the one that came longest ago is forgotten first. */
const MOST_REMEMBERED = 10_000;
/** A client whose pauses are longer than this is not one that goes round in circles. */
const REMEMBERED_MS = 5 * 60_000;
/** From so many on it is told of: a bad network may cut a client off a few times before its first event. */
const TOLD_FROM = 5;
/** And no more often than this, whoever it is. */
const TOLD_EVERY_MS = 60_000;
/** How much of channels and cursors is told. */
const TOLD_LENGTH = 200;

/** @param onStuck told of a client that comes back to one cursor again and again, not of each and not each time. */
export function createResumes(onStuck: (stuck: Stuck) => void): Resumes {
  const resumes = new LRUCache<string, Resume>({ max: MOST_REMEMBERED, ttl: REMEMBERED_MS });
  let repeated = 0;
  let toldAt = -Infinity;
  return {
    get repeated() {
      return repeated;
    },
    begin(client, channels, lastEventId) {
      const key = createHash('sha256')
        .update(JSON.stringify([client, channels, lastEventId]))
        .digest('base64url');
      const resume = resumes.get(key) ?? { open: 0, repeats: -1 };
      if (resume.open === 0) resume.repeats += 1;
      if (resume.open === 0 && resume.repeats > 0) {
        repeated += 1;
        const now = performance.now();
        if (resume.repeats >= TOLD_FROM && now - toldAt >= TOLD_EVERY_MS) {
          toldAt = now;
          const told = { channels: channels.slice(0, TOLD_LENGTH), lastEventId: lastEventId.slice(0, TOLD_LENGTH) };
          onStuck({ ...told, repeats: resume.repeats });
        }
      }
      resume.open += 1;
      resumes.set(key, resume);
      return resume;
    },
    end(resume) {
      resume.open -= 1;
    },
  };
}
