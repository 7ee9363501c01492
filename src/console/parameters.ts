/** What a request to the console says, in its address and its body. */
import type { IncomingMessage } from 'node:http';
import type Koa from 'koa';
import { RequestError } from '../http/request-error.js';

/** A whole number in the query. @throws RequestError 400 */
export function readNumber(
  query: URLSearchParams,
  {
    name,
    default: usual,
    least,
    most,
  }: { readonly name: string; readonly default: number; readonly least: number; readonly most: number },
): number {
  const text = query.get(name);
  if (text === null || text === '') return usual;
  if (/^\d{1,9}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
  throw badParameter(name, text, `a whole number from ${least} to ${most}`);
}

/** One of some words. @throws RequestError 400 */
export function readOne<const T extends string>(
  query: URLSearchParams,
  name: string,
  words: readonly T[],
  usual: T,
): T {
  const text = query.get(name);
  if (text === null || text === '') return usual;
  const found = words.find((word) => word === text);
  if (found !== undefined) return found;
  throw badParameter(name, text, `one of ${words.join(', ')}`);
}

export function badParameter(name: string, text: string, expected: string): RequestError {
  return new RequestError(400, 'bad_parameter', `${name}=${text.slice(0, 40)}: give ${expected}.`);
}

/** The body, as an object. @throws RequestError 400, 413 */
export async function readJson(
  context: Koa.ParameterizedContext,
  most: number,
): Promise<Readonly<Record<string, unknown>>> {
  const body = await readBody(context.req, most);
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // The answer below says it.
  }
  throw new RequestError(400, 'bad_json', 'The body has to be a JSON object.');
}

/**
 * What is beyond `most` bytes is read and dropped: else its sender would be cut off, and not told.
 */
function readBody(request: IncomingMessage, most: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= most) chunks.push(chunk);
      else reject(new RequestError(413, 'too_large', `A body has at most ${most} bytes here.`));
    });
    request.once('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    request.once('error', reject);
  });
}
