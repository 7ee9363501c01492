/**
 * The description of the API, for programs: an OpenAPI 3.1 document, made of the constants that the
 * code goes by. docs/http.md says the same to people.
 */
import type { Middleware } from 'koa';
import { STREAM_HEADERS } from '../event/sse.js';
import { channelErrors, COMMON_ERRORS } from './api-errors.js';
import { apiParameters } from './api-parameters.js';
import { apiSchemas } from './api-schemas.js';
import { SCRIPTS } from './client-module.js';
import { LIMIT, WAIT_SECONDS } from './history-route.js';
import { METRICS_PATH } from './paths.js';
import { answerIfChanged, etagOf } from './etag.js';

/** What is configured of the API. */
export interface ApiSettings {
  readonly maxChannels: number;
  readonly authCookie: string;
  /** Whether metrics are served beside the streams. */
  readonly publicMetrics: boolean;
}

export const OPENAPI_PATH = '/openapi.json';

const ref = (kind: string, name: string) => ({ $ref: `#/components/${kind}/${name}` });
const text = (description: string, schema: object = { type: 'string' }) => ({ description, schema });
const json = (schema: object) => ({ 'application/json': { schema } });

/** GET, HEAD and OPTIONS at one address. */
function reading(id: string, summary: string, given: readonly string[], responses: Readonly<Record<string, object>>) {
  const bare = Object.entries(responses).map(
    ([status, response]) => [status, { ...response, content: undefined }] as const,
  );
  const of = (method: string, all: object) => ({
    operationId: `${method}${id}`,
    summary,
    security: [{}, { bearer: [] }, { cookie: [] }, { query: [] }],
    parameters: given.map((name) => ref('parameters', name)),
    responses: all,
  });
  return { get: of('get', responses), head: of('head', Object.fromEntries(bare)) };
}

function channelPaths(base: string, id: string, given: readonly string[], answers: Readonly<Record<string, object>>) {
  const summary = id === 'Stream' ? 'A stream of events, which never ends' : 'A page of events';
  const options = {
    summary: 'Which methods work',
    responses: { 204: { description: 'None is needed for reading.', headers: { Allow: text('Methods.') } } },
  };
  const one = { operationId: `options${id}`, ...options };
  const all = { operationId: `options${id}s`, ...options };
  return {
    [base]: { ...reading(`${id}s`, summary, ['Channels', ...given], answers), options: all },
    [`${base}/{channel}`]: {
      ...reading(id, summary, ['Channel', 'MoreChannels', ...given], answers),
      // Whatever the channel.
      options: { ...one, parameters: [{ name: 'channel', in: 'path', required: true, schema: { type: 'string' } }] },
    },
  };
}

function plain(id: string, summary: string, responses: Readonly<Record<string, object>>) {
  return { ...reading(id, summary, [], { ...responses, ...COMMON_ERRORS }) };
}

/** The document. */
function describeApi(settings: ApiSettings): object {
  const streamHeaders = Object.fromEntries(
    Object.entries(STREAM_HEADERS)
      .filter(([name]) => name !== 'Content-Type')
      .map(([name, value]) => [name, { required: true, schema: { const: value } }]),
  );
  const etag = { ETag: { required: true, schema: { type: 'string' } } };
  const unchanged = { description: 'It is the same as that of If-None-Match.', headers: etag };
  const script = { 'text/javascript': { schema: { type: 'string' } } };
  const cursors = ['LastEventId', 'LastEventIdInQuery', 'Since'];
  const streams = channelPaths('/events', 'Stream', ['Events', 'Format', ...cursors], {
    200: {
      description: 'Events, in the format of WHATWG HTML, "Server-sent events".',
      headers: streamHeaders,
      content: { 'text/event-stream': { schema: ref('schemas', 'StreamEvent') } },
    },
    ...channelErrors(['bad_format']),
  });
  const pages = channelPaths('/history', 'Page', ['Events', 'After', 'Limit', 'Wait', ...cursors], {
    200: { description: 'The events that follow the cursor.', headers: etag, content: json(ref('schemas', 'Page')) },
    304: unchanged,
    ...channelErrors([LIMIT.code, WAIT_SECONDS.code], ['database_unavailable']),
  });
  const ready = (description: string) => ({ description, content: json(ref('schemas', 'Readiness')) });
  const ok = { type: 'object', required: ['status'], properties: { status: { const: 'ok' } } };
  return {
    openapi: '3.1.0',
    info: {
      title: 'outbox-relay',
      version: '1',
      description:
        'Streams and pages of events from an outbox table. Pages of other origins: `ALLOWED_ORIGINS` (CORS).',
    },
    paths: {
      ...streams,
      ...pages,
      '/healthz': plain('Health', 'Whether the process lives', { 200: { description: 'It does.', content: json(ok) } }),
      '/readyz': plain('Readiness', 'Whether it delivers', {
        200: ready('It does.'),
        503: ready('It does not, for these reasons.'),
      }),
      ...(settings.publicMetrics && {
        [METRICS_PATH]: plain('Metrics', 'For Prometheus', {
          200: { description: 'In its text format.', content: { 'text/plain': { schema: { type: 'string' } } } },
        }),
      }),
      ...Object.fromEntries(
        SCRIPTS.map((name) => [
          `/${name}`,
          plain(`Script-${name}`, 'A module for browsers', {
            200: { description: 'The module.', headers: etag, content: script },
            304: unchanged,
          }),
        ]),
      ),
      [OPENAPI_PATH]: plain('Description', 'This document', {
        200: { description: 'It.', headers: etag, content: json({ type: 'object' }) },
        304: unchanged,
      }),
    },
    components: {
      parameters: apiParameters(settings.maxChannels),
      schemas: apiSchemas(),
      headers: {
        RetryAfter: { description: 'Seconds.', required: true, schema: { type: 'integer', minimum: 1 } },
      },
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
        cookie: { type: 'apiKey', in: 'cookie', name: settings.authCookie },
        query: { type: 'apiKey', in: 'query', name: 'token', description: 'Where ALLOW_QUERY_TOKEN is set.' },
      },
    },
  };
}

/** Serves the document. */
export function serveDescription(settings: ApiSettings): Middleware {
  const body = JSON.stringify(describeApi(settings));
  const etag = etagOf(body);
  return (context) => {
    context.set({ ETag: etag, 'Cache-Control': 'no-cache', 'X-Content-Type-Options': 'nosniff' });
    context.type = 'application/json; charset=utf-8';
    answerIfChanged(context, body);
  };
}
