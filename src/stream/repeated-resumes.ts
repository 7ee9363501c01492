/**
 * Resumes: who comes back with which cursor, and whether it is the one that they had come with
 * before.
 *
 * A client that can't take what follows its cursor, as an event that is larger than its buffer,
 * reads it, fails, and asks for it again, for ever. To the relay each of these is a stream like any
 * other: only their row shows that something is wrong.
 *
 * Many clients may have one address and one cursor, as behind a proxy after a cut. So a resume
 * counts as repeated only where the one before has ended: those who come back together are there
 * together.
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

/** Clients and cursors that are remembered, some 2 MB; the least recent is dropped first. */
const MOST_REMEMBERED = 10_000;
/** A client that comes back later than this is not in a loop. */
const REMEMBERED_MS = 5 * 60_000;
/** Repeats from which `onStuck` is called: a bad network may cut a client off a few times. */
const REPORTED_FROM = 5;
/** Shortest time between two calls of `onStuck`, for all clients together. */
const REPORT_PAUSE_MS = 60_000;
/** Characters of channels and cursors that are reported. */
const REPORTED_LENGTH = 200;

/** @param onStuck called for clients that repeat one cursor, at most once a minute. */
export function createResumes(onStuck: (stuck: Stuck) => void): Resumes {
  const resumes = new LRUCache<string, Resume>({ max: MOST_REMEMBERED, ttl: REMEMBERED_MS });
  let repeated = 0;
  let reportedAt = -Infinity;
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
        if (resume.repeats >= REPORTED_FROM && now - reportedAt >= REPORT_PAUSE_MS) {
          reportedAt = now;
          const reported = {
            channels: channels.slice(0, REPORTED_LENGTH),
            lastEventId: lastEventId.slice(0, REPORTED_LENGTH),
          };
          onStuck({ ...reported, repeats: resume.repeats });
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
