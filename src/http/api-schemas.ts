/**
 * What answers of the API have in them, as JSON Schema of the year 2020-12, which OpenAPI 3.1 takes.
 */
import { LIMIT } from './history-route.js';

/** By the names under which the description refers to them. */
export function apiSchemas() {
  const string = { type: 'string' };
  const reset = {
    type: 'object',
    required: ['reason', 'lastEventId'],
    properties: { reason: { enum: ['expired', 'unknown'] }, lastEventId: string },
  };
  return {
    Error: {
      type: 'object',
      required: ['error', 'message'],
      properties: {
        error: { ...string, description: 'For programs.' },
        message: { ...string, description: 'What to do, for people.' },
        channels: { type: 'array', items: string, description: 'The channels that it is about.' },
      },
    },
    Envelope: {
      type: 'object',
      required: ['id', 'channel', 'created_at', 'event', 'data'],
      properties: {
        id: { ...string, pattern: '^[0-9]+$' },
        channel: string,
        created_at: { ...string, description: 'In UTC, with microseconds.' },
        event: string,
        data: { description: 'The JSON that was published.' },
      },
    },
    StreamEvent: {
      type: 'object',
      description:
        'One event of a stream, by its fields. Without a name it is a `message`; names that begin with `stream-` are the relay’s own.',
      required: ['data'],
      properties: {
        id: { ...string, pattern: '^[0-9]+(![0-9,-]+)?$' },
        event: string,
        data: { ...string, description: 'What was published; or an envelope, as JSON.' },
        retry: { type: 'integer', description: 'Milliseconds.' },
      },
    },
    Page: {
      type: 'object',
      required: ['events', 'cursor', 'more'],
      properties: {
        events: { type: 'array', maxItems: LIMIT.most, items: { $ref: '#/components/schemas/Envelope' } },
        cursor: { ...string, description: 'Where to go on.' },
        more: { type: 'boolean', description: 'Whether to ask again at once.' },
        reset: { ...reset, description: 'The cursor could not be honoured.' },
      },
    },
    Readiness: {
      type: 'object',
      required: ['ready', 'reasons'],
      properties: {
        ready: { type: 'boolean' },
        reasons: {
          type: 'array',
          items: {
            type: 'object',
            required: ['code', 'since'],
            properties: { code: string, since: { ...string, format: 'date-time' }, process: { type: 'integer' } },
          },
        },
      },
    },
  };
}
