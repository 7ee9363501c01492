/**
 * What requests of the API may ask for, with the bounds that the code has.
 */
import { MAX_CHANNEL_LENGTH } from '../event/channel-filter.js';
import { MAX_EVENT_LENGTH, MAX_EVENT_NAMES } from '../event/event-filter.js';
import { LIMIT, WAIT_SECONDS } from './history-route.js';
import type { NumberParameter } from './query-number.js';

/** The last millisecond that a `Date` can hold. */
const LAST_MS = 8_640_000_000_000_000;
const CONTROL = '\\u0000-\\u001f\\u007f-\\u009f';

const text = (description: string, schema: object = { type: 'string' }) => ({ description, schema });

const channel = {
  type: 'string',
  minLength: 1,
  maxLength: MAX_CHANNEL_LENGTH,
  pattern: `^([^*${CONTROL}]+|([^*${CONTROL}]*:)?\\*)$`,
  examples: ['orders', 'user:*', '*'],
};
const eventName = { type: 'string', minLength: 1, maxLength: MAX_EVENT_LENGTH, pattern: `^[^${CONTROL}]+$` };

function numberParameter({ name, default: usual, least, most }: NumberParameter, description: string) {
  return {
    name,
    in: 'query',
    description,
    allowEmptyValue: true,
    schema: { type: 'integer', minimum: least, maximum: most, default: usual },
  };
}

/** By the names under which the description refers to them. */
export function apiParameters(maxChannels: number) {
  const many = (name: string, schema: object, most: number, description: string, required: boolean) => ({
    name,
    in: 'query',
    description,
    required,
    style: 'form',
    explode: true,
    schema: { type: 'array', items: schema, maxItems: most, ...(required && { minItems: 1 }) },
  });
  const meaning = 'A channel; a prefix that ends in `:*`; or `*` for all.';
  const cursor = 'An event id, `earliest`, `now`, or an id with events to leave out.';
  return {
    Channels: many('channel', channel, maxChannels, meaning, true),
    MoreChannels: many('channel', channel, maxChannels - 1, 'Further channels.', false),
    Channel: { name: 'channel', in: 'path', required: true, description: meaning, schema: channel },
    Events: many('event', eventName, MAX_EVENT_NAMES, 'Names of events. Without it: all.', false),
    Format: {
      name: 'format',
      in: 'query',
      description: 'What events have in them: their data alone, or envelopes, as pages of history have them.',
      allowEmptyValue: true,
      schema: { enum: ['data', 'envelope', ''], default: 'data' },
    },
    LastEventId: { name: 'Last-Event-ID', in: 'header', ...text(`${cursor} Counts before the query.`) },
    LastEventIdInQuery: { name: 'last_event_id', in: 'query', ...text(cursor) },
    Since: {
      name: 'since',
      in: 'query',
      allowEmptyValue: true,
      ...text('ISO 8601, or milliseconds since 1970. Looked at where there is no cursor.', {
        anyOf: [
          { type: 'string', format: 'date-time' },
          { type: 'integer', minimum: 0, maximum: LAST_MS },
          { const: '' },
        ],
      }),
    },
    After: { name: 'after', in: 'query', ...text(`${cursor} Counts before all other cursors. Default: earliest.`) },
    Limit: numberParameter(LIMIT, 'Most events of the answer.'),
    Wait: numberParameter(WAIT_SECONDS, 'Where there is nothing yet: how many seconds to wait for the next event.'),
  };
}
