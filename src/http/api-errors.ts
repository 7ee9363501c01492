/**
 * The refusals of the API, as its description has them: each status with its codes. A test holds them
 * against the code.
 */
import { DENIALS } from './errors.js';

/** Codes by status, of what any request may be refused with. */
const COMMON: Readonly<Record<number, readonly string[]>> = {
  400: ['bad_request'],
  404: ['not_found'],
  405: ['method_not_allowed'],
  408: ['request_timeout'],
  417: ['expectation_failed'],
  431: ['headers_too_large'],
};

const OF_CHANNELS = [
  'no_channel',
  'bad_channel',
  'too_many_channels',
  'bad_event',
  'too_many_events',
  'bad_since',
  'unexpected_body',
];

const MEANINGS: Readonly<Record<number, string>> = {
  400: 'The request is none that there could be.',
  401: 'There is no token where one is needed, or it is not good.',
  403: 'The token is good, and does not lead there; or a cookie came from a page of a foreign origin.',
  404: 'Nothing is there.',
  405: 'The method does not work there.',
  408: 'The request was not complete in time.',
  417: 'No expectation but 100-continue can be met.',
  429: 'Too many connections, of this user or from this address. A client that accepts `text/event-stream` gets 200 instead, with a `stream-pause`.',
  431: 'Address and headers are too long.',
  503: 'Not now. A client that accepts `text/event-stream` gets 200 instead, with a `stream-pause`.',
};

const HEADERS: Readonly<Record<number, object>> = {
  401: { 'WWW-Authenticate': { description: 'RFC 6750, section 3.', required: true, schema: { type: 'string' } } },
  405: { Allow: { description: 'Methods that work there.', required: true, schema: { type: 'string' } } },
  429: { 'Retry-After': { $ref: '#/components/headers/RetryAfter' } },
  503: { 'Retry-After': { $ref: '#/components/headers/RetryAfter' } },
};

/** Responses for all that a request for no channel can be refused with. */
export const COMMON_ERRORS = responsesFor(COMMON);

/**
 * The same for one that asks for channels.
 *
 * @param bad codes of 400 that it has beside those of all.
 * @param unavailable codes of 503.
 */
export function channelErrors(bad: readonly string[], unavailable: readonly string[] = []): object {
  const codes: Record<number, readonly string[]> = {
    ...COMMON,
    400: [...(COMMON[400] ?? []), ...OF_CHANNELS, ...bad],
    503: unavailable,
  };
  for (const [denial, { status, error = denial }] of Object.entries(DENIALS)) {
    codes[status] = [...new Set([...(codes[status] ?? []), error])];
  }
  return { ...responsesFor(codes), default: FROM_APPLICATION };
}

/** Forward authentication hands on the application's own answer. */
const FROM_APPLICATION = {
  description: 'With forward authentication: what the application answered to the question who may read.',
};

function responsesFor(codes: Readonly<Record<number, readonly string[]>>): Record<string, object> {
  return Object.fromEntries(
    Object.entries(codes).map(([status, known]) => [
      status,
      {
        description: MEANINGS[Number(status)] ?? '',
        ...(HEADERS[Number(status)] && { headers: HEADERS[Number(status)] }),
        content: {
          'application/json': {
            schema: {
              allOf: [{ $ref: '#/components/schemas/Error' }, { properties: { error: { enum: known } } }],
            },
          },
        },
      },
    ]),
  );
}
