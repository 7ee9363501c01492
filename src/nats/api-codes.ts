/**
 * JetStream's codes of errors (server/errors.json), as far as they are told apart here.
 */
import type { Modules } from './connection.js';

export const NO_MESSAGE = 10_037;
export const SEQUENCE_NOT_FOUND = 10_043;
export const DELETE_FAILED = 10_057;
export const WRONG_LAST_SEQUENCE = [10_071, 10_164];

/** The code of an error of JetStream's own; undefined: it is none. */
export type CodeOf = (error: unknown) => number | undefined;

export function codesOf({ jetstream }: Modules): CodeOf {
  return (error) => (error instanceof jetstream.JetStreamApiError ? error.code : undefined);
}
