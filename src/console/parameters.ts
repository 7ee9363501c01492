/** What a request to the console says, in its address and its body. */
import type { IncomingMessage } from 'node:http';
import type Koa from 'koa';
import { readNumber } from '../http/query-number.js';
import { RequestError } from '../http/request-error.js';
import { SORTS, type ChannelSelection } from '../stream/survey.js';
import { CHANNELS_SHOWN, CHANNELS_TOLD, CONNECTIONS_SHOWN, MOST_CONNECTIONS } from './limits.js';
import type { ConnectionQuestion } from './question.js';

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

/** Which connections are asked for, and in which order. @throws RequestError 400 */
export function readConnections(query: URLSearchParams): ConnectionQuestion {
  const limit = readNumber(query, {
    name: 'limit',
    default: CONNECTIONS_SHOWN,
    least: 1,
    most: MOST_CONNECTIONS,
    code: 'bad_parameter',
  });
  return { sort: readOne(query, 'sort', SORTS, 'lag'), channel: query.get('channel') || undefined, limit };
}

/** Which channels are asked for of each of so many processes. */
export function readChannels(query: URLSearchParams, processes: number): ChannelSelection {
  return {
    prefix: (query.get('prefix') ?? '').slice(0, 300),
    limit: processes > 1 ? CHANNELS_TOLD : CHANNELS_SHOWN,
  };
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
