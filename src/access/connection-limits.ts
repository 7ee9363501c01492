/**
 * Limits on how many connections there are: altogether, from one address, and of one subject.
 *
 * A connection is counted from its request on, so that those who are still being judged count too,
 * until it is gone.
 */
import type { Counted } from './client-address.js';
import { Denied } from './denied.js';

export interface LimitsOptions {
  readonly maxConnections: number;
  /** Default: `DEFAULT_PER_ADDRESS`, and no limit for private addresses, which may be proxies. */
  readonly maxConnectionsPerAddress: number | undefined;
  readonly maxConnectionsPerSubject: number;
}

/** What one connection has taken of the limits. */
export interface ConnectionSlot {
  /** Counts it for a subject as well. @throws Denied `subject_full` */
  assignTo(subject: string): void;
  /** Gives it back. Safe to call twice. */
  release(): void;
}

/** Allows an office of a few hundred people, with a few tabs each, behind one address. */
const DEFAULT_PER_ADDRESS = 2000;
/** Connections of one address that are no streams (yet): requests, health checks, refusals. */
const SPARE_PER_ADDRESS = 100;

/**
 * Connections that an address may have which are not streams (yet). Only for clients that connect
 * directly: all connections of a proxy come from one address.
 */
export function mostFrom(options: Pick<LimitsOptions, 'maxConnectionsPerAddress'>, { isPublic }: Counted): number {
  return streamsFrom(options, isPublic) + SPARE_PER_ADDRESS;
}

function streamsFrom({ maxConnectionsPerAddress }: Pick<LimitsOptions, 'maxConnectionsPerAddress'>, isPublic: boolean) {
  return maxConnectionsPerAddress ?? (isPublic ? DEFAULT_PER_ADDRESS : Infinity);
}

export interface Limits {
  /** @throws Denied `relay_full` or `address_full` */
  take(address: Counted): ConnectionSlot;
}

export function createLimits(options: LimitsOptions): Limits {
  const byAddress = new Map<string, number>();
  const bySubject = new Map<string, number>();
  let all = 0;

  return {
    take({ key, isPublic }) {
      if (all >= options.maxConnections) {
        throw new Denied('relay_full', 'The relay has all the connections that it may have.');
      }
      if ((byAddress.get(key) ?? 0) >= streamsFrom(options, isPublic)) {
        throw new Denied('address_full', 'There are too many connections from this address.');
      }
      all += 1;
      add(byAddress, key);
      let owner: string | undefined;
      let isTaken = true;
      return {
        assignTo(subject) {
          if ((bySubject.get(subject) ?? 0) >= options.maxConnectionsPerSubject) {
            throw new Denied('subject_full', 'There are too many connections of this user.');
          }
          owner = subject;
          add(bySubject, subject);
        },
        release() {
          if (!isTaken) return;
          isTaken = false;
          all -= 1;
          remove(byAddress, key);
          if (owner !== undefined) remove(bySubject, owner);
        },
      };
    },
  };
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function remove(counts: Map<string, number>, key: string): void {
  const rest = (counts.get(key) ?? 0) - 1;
  if (rest > 0) counts.set(key, rest);
  else counts.delete(key);
}
