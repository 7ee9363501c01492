/** Whole numbers in the query of a request. */
import { RequestError } from './request-error.js';

export interface NumberParameter {
  readonly name: string;
  readonly default: number;
  readonly least: number;
  readonly most: number;
  /** What a request is refused with where its value is none of these. */
  readonly code: string;
}

/** @throws RequestError 400 */
export function readNumber(
  query: URLSearchParams,
  { name, default: usual, least, most, code }: NumberParameter,
): number {
  const text = query.get(name);
  if (text === null || text === '') return usual;
  const value = Number(text);
  if (/^\d{1,9}$/.test(text) && value >= least && value <= most) return value;
  throw new RequestError(400, code, `${name}=${text.slice(0, 20)}: give a whole number from ${least} to ${most}.`);
}
