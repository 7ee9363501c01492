/** The console over HTTP: its page, signing in and out, and what it shows as JSON. */
import type Koa from 'koa';
import Router from 'koa-router';
import { clientAddress, counted } from '../access/client-address.js';
import { SESSION_SECONDS, type Sessions } from '../access/password.js';
import { namesOf, type ChannelFilter } from '../event/channel-filter.js';
import { STREAM_HEADERS } from '../event/sse.js';
import { methodNotAllowed } from '../http/errors.js';
import { CONSOLE_PATH, isOfConsole } from '../http/paths.js';
import { RequestError } from '../http/request-error.js';
import { withCause } from './causes.js';
import { createAttempts } from './attempts.js';
import { routeFiles } from './files.js';
import { CHANNELS_SHOWN } from './limits.js';
import { VIEWS, type Live, type View } from './live.js';
import { readChannels, readConnections, readJson, readOne } from './parameters.js';
import type { Peers } from './question.js';
import { channelsOf, connectionsOf, refusalsOf } from './together.js';
import { SORTS } from '../stream/survey.js';
import { requireOwnPage, SESSION_COOKIE, type Viewer, type Viewers } from './viewer.js';

/** Nothing from elsewhere, nothing written within the page, and in no other page. */
const SECURITY_HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'X-Frame-Options': 'DENY',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
};

const MAX_PASSWORD_BYTES = 4096;

export interface ConsoleRouteOptions {
  readonly trustProxy: number;
  readonly version: string;
  readonly heartbeatSeconds: number;
  readonly shows: { readonly data: boolean; readonly addresses: boolean };
  readonly publicChannels: ChannelFilter;
}

export interface ConsoleRouteParts {
  readonly viewers: Viewers;
  readonly sessions: Sessions | undefined;
  readonly live: Live;
  readonly peers: Peers;
}

/** Answers a viewer. */
export type ViewerRoute = (context: Koa.ParameterizedContext, viewer: Viewer) => Promise<void> | void;

export interface ConsoleRouter {
  /** Has an application answer under /console; other paths are left to what comes next. */
  install(app: Koa): void;
  /** Adds something that only viewers are answered. */
  get(path: string, answer: ViewerRoute): void;
  post(path: string, answer: ViewerRoute): void;
}

export function createConsoleRouter(options: ConsoleRouteOptions, parts: ConsoleRouteParts): ConsoleRouter {
  const { viewers, sessions, live, peers } = parts;
  const router = new Router({ strict: true, sensitive: true });
  const attempts = createAttempts();

  const forViewers = (answer: ViewerRoute) => async (context: Koa.ParameterizedContext) =>
    answer(context, await viewers.of(context.req));
  const get = (path: string, answer: ViewerRoute) => router.get(`${CONSOLE_PATH}/api/${path}`, forViewers(answer));
  const post = (path: string, answer: ViewerRoute) => router.post(`${CONSOLE_PATH}/api/${path}`, forViewers(answer));

  routeFiles(router);

  router.post(`${CONSOLE_PATH}/session`, async (context) => {
    const { password } = await readJson(context, MAX_PASSWORD_BYTES);
    if (typeof password !== 'string') throw new RequestError(400, 'bad_json', 'Send {"password": "…"}.');
    const { key } = counted(clientAddress(context.req, options.trustProxy));
    attempts.begin(key);
    const session = await sessions?.signIn(password);
    if (session === undefined) {
      const why = sessions
        ? 'That is not the password.'
        : 'There is no password: bring a token, or set CONSOLE_PASSWORD.';
      throw new RequestError(401, 'unauthorized', why);
    }
    attempts.succeeded(key);
    setSession(context, session, SESSION_SECONDS, options.trustProxy);
    context.status = 204;
  });
  router.delete(`${CONSOLE_PATH}/session`, (context) => {
    setSession(context, '', 0, options.trustProxy);
    context.status = 204;
  });

  router.get(`${CONSOLE_PATH}/api/session`, async (context) => {
    const { shows, version, heartbeatSeconds } = options;
    try {
      const { kind, subject, channels } = await viewers.of(context.req);
      const viewer = { kind, subject: subject ?? null, channels: namesOf(channels) };
      context.body = { viewer, shows, version, heartbeatSeconds, workers: peers.count };
    } catch (error) {
      if (!(error instanceof RequestError && error.code === 'unauthorized')) throw error;
      // Each page asks before anybody has signed in: nobody was refused anything.
      context.status = error.status;
      context.body = { error: error.code, message: error.message, ...error.details };
    }
  });
  get('live', (context, viewer) => {
    const query = new URLSearchParams(context.querystring);
    const names = (query.get('views') ?? VIEWS.join()).split(',').filter((name) => name !== '');
    const unknown = names.find((name) => !(VIEWS as readonly string[]).includes(name));
    if (unknown !== undefined) {
      throw new RequestError(400, 'bad_parameter', `views=${unknown.slice(0, 20)}: give some of ${VIEWS.join(', ')}.`);
    }
    const stamp = Number(context.get('Last-Event-ID'));
    const wanted = {
      views: new Set(names as View[]),
      sort: readOne(query, 'sort', SORTS, 'lag'),
      channel: query.get('channel') || undefined,
      refusalsAfter: Number.isSafeInteger(stamp) && stamp > 0 ? stamp : undefined,
      viewer,
    };
    if (context.method === 'HEAD') {
      // There is nothing to wait for.
      context.set(STREAM_HEADERS);
      context.status = 200;
      return;
    }
    live.open(context.req, context.res, wanted);
    context.respond = false;
  });
  get('connections', async (context) => {
    const wanted = readConnections(new URLSearchParams(context.querystring));
    const { answers } = await peers.ask({ connections: [wanted] });
    context.body = connectionsOf(answers, 0, wanted);
  });
  get('channels', async (context) => {
    const wanted = readChannels(new URLSearchParams(context.querystring), peers.count);
    const { answers } = await peers.ask({ channels: [wanted] });
    context.body = channelsOf(answers, 0, CHANNELS_SHOWN);
  });
  get('refusals', async (context) => {
    const { answers } = await peers.ask({ refusalsAfter: 0 });
    context.body = { refusals: refusalsOf(answers).map(withCause) };
  });

  return {
    get,
    post,
    install(app) {
      app.use(async (context, next) => {
        if (isOfConsole(context.path)) {
          context.set(SECURITY_HEADERS);
          requireOwnPage(context.req, isPage(context.path));
        }
        await next();
      });
      app.use(router.routes());
      app.use(async ({ path }, next) => {
        if (isOfConsole(path)) refuse(router, path);
        await next();
      });
    },
  };
}

const isPage = (path: string): boolean =>
  !path.startsWith(`${CONSOLE_PATH}/api/`) && path !== `${CONSOLE_PATH}/session`;

/** @throws RequestError 404, 405 */
function refuse(router: Router, path: string): never {
  const allowed = router.match(path, 'GET').path.flatMap(({ methods }) => methods);
  if (allowed.length > 0) throw methodNotAllowed([...new Set(allowed)].join(', '));
  throw new RequestError(404, 'not_found', `Nothing is at ${path.slice(0, 100)}. The console is at ${CONSOLE_PATH}.`);
}

/** For the console's paths alone, out of the reach of scripts and of other sites. */
function setSession(context: Koa.ParameterizedContext, value: string, seconds: number, trustProxy: number): void {
  const isSecure = trustProxy > 0 && /^https\b/i.test(context.get('X-Forwarded-Proto'));
  context.set(
    'Set-Cookie',
    `${SESSION_COOKIE}=${value}; Path=${CONSOLE_PATH}; Max-Age=${seconds}; HttpOnly; SameSite=Strict${isSecure ? '; Secure' : ''}`,
  );
}
