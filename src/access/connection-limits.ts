/**
 * Limits on how many connections there are: altogether, from one address, and of one subject.
 *
 * A connection is counted from its request on, so that those who are still being judged count too, until it is gone.
 */
import type { Counted } from './client-address.js';
import { RequestError } from './request-error.js';

export interface LimitsOptions {
  readonly maxConnections: number;
  /** Undefined: `DEFAULT_PER_ADDRESS`, and none for private addresses, behind which may be a proxy and all its clients. */
  readonly maxConnectionsPerAddress: number | undefined;
  readonly maxConnectionsPerSubject: number;
}

/** One connection's place. */
export interface Place {
  /** Says whose it is. @throws RequestError 429 when the subject has too many. */
  takenBy(subject: string): void;
  /** Gives the place up. Safe to call twice. */
  leave(): void;
}

/** An office of a few hundred people, with a few tabs each, may be behind one address. */
const DEFAULT_PER_ADDRESS = 2000;
/** Connections from one address that are no streams (yet): requests on their way, health checks, refusals. */
const SPARE_PER_ADDRESS = 100;

/**
 * How many connections that are no streams (yet) an address may have: one that asks for nothing takes room, too. It is for clients that
 * connect by themselves; of a proxy all connections have one address.
 */
export function mostFrom(options: Pick<LimitsOptions, 'maxConnectionsPerAddress'>, { isPublic }: Counted): number {
  return streamsFrom(options, isPublic) + SPARE_PER_ADDRESS;
}

function streamsFrom({ maxConnectionsPerAddress }: Pick<LimitsOptions, 'maxConnectionsPerAddress'>, isPublic: boolean) {
  return maxConnectionsPerAddress ?? (isPublic ? DEFAULT_PER_ADDRESS : Infinity);
}

export interface Limits {
  /** @throws RequestError 503 or 429 when there is no place. */
  enter(address: Counted): Place;
}

export function createLimits(options: LimitsOptions): Limits {
  const byAddress = new Map<string, number>();
  const bySubject = new Map<string, number>();
  let all = 0;

  return {
    enter({ key, isPublic }) {
      if (all >= options.maxConnections) {
        throw new RequestError(503, 'too_many_connections', 'The relay has all the connections that it may have.', {
          temporary: true,
        });
      }
      if ((byAddress.get(key) ?? 0) >= streamsFrom(options, isPublic)) {
        throw new RequestError(429, 'too_many_connections', 'There are too many connections from this address.', {
          temporary: true,
        });
      }
      all += 1;
      add(byAddress, key);
      let who: string | undefined;
      let isHere = true;
      return {
        takenBy(subject) {
          if ((bySubject.get(subject) ?? 0) >= options.maxConnectionsPerSubject) {
            throw new RequestError(429, 'too_many_connections', 'There are too many connections of this user.', {
              temporary: true,
            });
          }
          who = subject;
          add(bySubject, subject);
        },
        leave() {
          if (!isHere) return;
          isHere = false;
          all -= 1;
          take(byAddress, key);
          if (who !== undefined) take(bySubject, who);
        },
      };
    },
  };
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function take(counts: Map<string, number>, key: string): void {
  const rest = (counts.get(key) ?? 0) - 1;
  if (rest > 0) counts.set(key, rest);
  else counts.delete(key);
}
