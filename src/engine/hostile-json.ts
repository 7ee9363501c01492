/**
 * JSON from strangers: reads the parts of a value that others may have made, and throws `Malformed`
 * at what is not as it has to be.
 */
import type { Cursor } from '../event/event.js';

/** Caught by whoever reads the whole. */
export class Malformed extends Error {}

/** @throws Malformed */
export function insist(condition: boolean): asserts condition {
  if (!condition) throw new Malformed('it is not as a feeder or a relay of this version writes it');
}

/** What `read` makes of JSON; undefined where that is none, or not as it has to be. */
export function readJson<T>(bytes: Buffer, read: (value: unknown) => T): T | undefined {
  try {
    return read(JSON.parse(bytes.toString()));
  } catch {
    return undefined;
  }
}

export function record(value: unknown): Readonly<Record<string, unknown>> {
  insist(typeof value === 'object' && value !== null);
  return value as Readonly<Record<string, unknown>>;
}

export function list(value: unknown): readonly unknown[] {
  insist(Array.isArray(value));
  return value;
}

export function text(value: unknown): string {
  insist(typeof value === 'string');
  return value;
}

export function flag(value: unknown): boolean {
  insist(typeof value === 'boolean');
  return value;
}

export function count(value: unknown): number {
  insist(typeof value === 'number' && Number.isSafeInteger(value) && value >= 0);
  return value;
}

/** A time as JSON has it, which knows no infinity; a row may have one. */
export function writtenTime(ms: number): number | string {
  return Number.isFinite(ms) ? ms : String(ms);
}

/** In milliseconds since 1970. */
export function time(value: unknown): number {
  if (value === 'Infinity' || value === '-Infinity') return Number(value);
  insist(typeof value === 'number');
  return value;
}

/** A whole number of 64 bits that is not negative, in digits. */
export function whole(value: unknown): bigint {
  const digits = text(value);
  insist(/^\d{1,20}$/.test(digits));
  const number = BigInt(digits);
  insist(number < 2n ** 64n);
  return number;
}

/** A cursor as JSON has it. */
export type Pair = readonly [position: string, id: string];

export function pair({ position, id }: Cursor): Pair {
  return [String(position), id];
}

export function cursor(value: unknown): Cursor {
  const [position, id] = list(value);
  insist(/^\d{1,19}$/.test(text(id)));
  return { position: whole(position), id: text(id) };
}
