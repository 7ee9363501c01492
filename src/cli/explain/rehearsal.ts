/**
 * A rehearsal of a request: it goes through the relay's own HTTP and access, in this process and
 * with these settings, and ends where a stream would open. No event is read, and nothing is said
 * of how full a relay is.
 */
import { request as send, type IncomingMessage } from 'node:http';
import { pino } from 'pino';
import { createAccess, type Permission } from '../../access/access.js';
import { createLimits } from '../../access/connection-limits.js';
import type { Config } from '../../config/config.js';
import type { ChannelFilter } from '../../event/channel-filter.js';
import { startHttp, type HttpParts } from '../../http/routes.js';

export interface Rehearsal {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  /** What a refusal says. */
  readonly refusal: { readonly error: string; readonly message: string } | undefined;
  /** What the request was for; undefined: it came to no channels. */
  readonly wanted: ChannelFilter | undefined;
  /** Undefined: it was not asked for, or denied. */
  readonly permission: Permission | undefined;
  /** Where it would start; undefined: it did not come so far. */
  readonly start: Start | undefined;
}

/** As the stream is asked for it. */
export type Start = Parameters<HttpParts['streams']['open']>[1]['cursor'];

/** Most of an answer that is read. */
const MAX_BODY_CHARACTERS = 64 * 1024;

/**
 * @param target path and query
 * @param headers with the host that the client asks
 */
export async function rehearse(
  target: string,
  headers: Readonly<Record<string, string>>,
  config: Config,
): Promise<Rehearsal> {
  const logger = pino({ level: 'silent' });
  let wanted: ChannelFilter | undefined;
  let permission: Permission | undefined;
  let start: Start | undefined;
  const access = createAccess(config, logger);
  const parts: HttpParts = {
    access: {
      async permit(asked) {
        ({ wanted } = asked);
        permission = await access.permit(asked);
        return permission;
      },
    },
    limits: createLimits(config),
    streams: {
      open(socket, { cursor }) {
        start = cursor;
        socket.destroy();
      },
      close: () => Promise.resolve(),
    },
    polls: {
      poll({ cursor }) {
        start = cursor;
        return Promise.resolve({ events: [], cursor: '0', more: false });
      },
      hold: () => () => undefined,
      close: () => undefined,
    },
    metrics: config.publicMetrics ? { text: () => Promise.resolve(''), contentType: 'text/plain' } : undefined,
    readiness: () => ({ ready: true, reasons: [] }),
    onRefused: () => undefined,
    logger,
  };
  const server = await startHttp({ ...config, host: '127.0.0.1', port: 0, shutdownSeconds: 0 }, parts);
  try {
    const { response, body } = await ask(server.url, target, headers);
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      refusal: refusalIn(body),
      wanted,
      permission,
      start,
    };
  } finally {
    await server.close();
  }
}

async function ask(
  url: string,
  target: string,
  headers: Readonly<Record<string, string>>,
): Promise<{ response: IncomingMessage; body: string }> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const asked = send({ hostname, port, path: target, headers, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        if (body.length < MAX_BODY_CHARACTERS) body += chunk;
      });
      // A stream breaks off: that is how they end.
      const end = () => resolve({ response, body });
      response.on('end', end).on('error', end);
    });
    asked.on('error', reject).end();
  });
}

function refusalIn(body: string): Rehearsal['refusal'] {
  try {
    const { error, message } = JSON.parse(body) as { error?: unknown; message?: unknown };
    return typeof error === 'string' && typeof message === 'string' ? { error, message } : undefined;
  } catch {
    return undefined;
  }
}
