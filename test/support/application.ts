/**
 * An application that a relay asks what its users may see, and how it may answer.
 */
import type http from 'node:http';
import type { OutgoingHttpHeaders } from 'node:http';
import type { ExecutionContext } from 'ava';
import { createDatabase } from './database.js';
import { json, startServer } from './http-server.js';
import { startTestRelay, type Environment } from './relay.js';
import { request } from './request.js';

export type Answer = (request: http.IncomingMessage, response: http.ServerResponse) => void;
export const user = (headers: http.IncomingHttpHeaders) => /session=(\w+)/.exec(headers.cookie ?? '')?.[1];

/** As a Django view would: whoever has a session may read what is theirs. */
export const view: Answer = ({ headers }, response) => {
  const name = user(headers);
  if (name === undefined) json(response, 401, { error: 'log in', page: '/login' });
  else if (name === 'banned') json(response, 403, { error: 'banned' });
  else json(response, 200, { channels: [`user:${name}`, 'news'], expires_in: 60, sub: name });
};

export async function setUp(t: ExecutionContext, answer: Answer = view, env: Environment = {}) {
  const database = await createDatabase(t);
  const app = await startServer(t, answer);
  const relay = await startTestRelay(t, database.url, {
    PUBLIC_CHANNELS: 'status',
    FORWARD_AUTH_URL: `${app.url}/may-listen?from=relay`,
    ...env,
  });
  return {
    app,
    relay,
    url: relay.url,
    publish: (channel: string) =>
      database.query('INSERT INTO outbox (channel, data) VALUES ($1, to_jsonb($2::text))', [channel, channel]),
    get: (path: string, headers: OutgoingHttpHeaders = {}) => request(relay.url, path, { headers }),
  };
}

export const session = (name: string) => ({ Cookie: `session=${name}; theme=dark` });

/** An application that keeps everybody waiting whose session is not `legit`, until it is told to answer. */
export function keepsWaiting() {
  const kept: (() => void)[] = [];
  let isOpen = false;
  const answer: Answer = (asked, response) => {
    const now = () => view(asked, response);
    if (isOpen || user(asked.headers)?.startsWith('legit')) now();
    else kept.push(now);
  };
  const open = () => {
    isOpen = true;
    for (const now of kept.splice(0)) now();
  };
  return { answer, kept, open };
}

export const by = (address: string) => ({ 'X-Forwarded-For': address });
