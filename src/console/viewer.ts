/**
 * Who may look: who has signed in with the password, whoever brings a token with the right claim,
 * and, in the demo, everybody. What a viewer may read of channels is what its token gives, beside
 * what is public.
 */
import type { IncomingMessage } from 'node:http';
import { cookieNamed, cookiesNamed, isOwnOrigin, type Access } from '../access/access.js';
import { Denied } from '../access/denied.js';
import type { Sessions } from '../access/password.js';
import { channelFilter, matches, type ChannelFilter } from '../event/channel-filter.js';
import { RequestError } from '../http/request-error.js';

export interface Viewer {
  readonly kind: 'password' | 'token' | 'open';
  readonly subject: string | undefined;
  readonly channels: ChannelFilter;
  /** When the right ends, in ms since 1970; `Infinity` where it does not. */
  readonly expiresAt: number;
}

export interface ViewerOptions {
  /** Undefined: there is no password. */
  readonly sessions: Sessions | undefined;
  /** Undefined: there is no key for tokens. */
  readonly verify: Access['verify'] | undefined;
  readonly isOpen: boolean;
  readonly authCookie: string;
  readonly consoleClaim: string;
}

export const SESSION_COOKIE = 'outbox_relay_console';

const NOTHING = channelFilter([]);

export interface Viewers {
  /** @throws RequestError 401, Denied */
  of(request: IncomingMessage): Promise<Viewer>;
}

export function createViewers({ sessions, verify, isOpen, authCookie, consoleClaim }: ViewerOptions): Viewers {
  const signIn = { password: sessions !== undefined, token: verify !== undefined };

  async function ofToken(token: string): Promise<Viewer | undefined> {
    const grant = await verify?.(token);
    if (grant === undefined) return undefined;
    if (!grant.opensConsole) {
      throw new Denied(
        'forbidden',
        `The token is good, and does not open the console: its claim "${consoleClaim}" is not true.`,
      );
    }
    return { kind: 'token', subject: grant.subject, channels: grant.channels, expiresAt: grant.expiresAt };
  }

  return {
    async of({ headers }) {
      const bearer = /^Bearer +(.+)$/i.exec(headers.authorization ?? '')?.[1];
      if (bearer !== undefined) {
        const viewer = await ofToken(bearer);
        if (viewer) return viewer;
      }
      const cookies = headers.cookie ?? '';
      let hadSession = false;
      for (const session of sessions ? cookiesNamed(SESSION_COOKIE, cookies) : []) {
        hadSession = true;
        const end = await sessions?.endOf(session);
        if (end !== undefined) return { kind: 'password', subject: undefined, channels: NOTHING, expiresAt: end };
      }
      const token = verify && cookieNamed(authCookie, cookies);
      // A cookie that is for streams alone is no failed attempt.
      const viewer = token === undefined ? undefined : await ofToken(token).catch(onlyIfUnavailable);
      if (viewer) return viewer;
      if (isOpen) return { kind: 'open', subject: undefined, channels: NOTHING, expiresAt: Infinity };
      throw new RequestError(401, 'unauthorized', signInText(signIn, hadSession), { details: { signIn } });
    },
  };
}

function onlyIfUnavailable(error: unknown): undefined {
  if (error instanceof Denied && ['auth_unavailable', 'auth_busy'].includes(error.code)) throw error;
  if (!(error instanceof Denied)) throw error;
  return undefined;
}

function signInText(
  { password, token }: { readonly password: boolean; readonly token: boolean },
  hadSession: boolean,
): string {
  const ways = [
    ...(password ? ['with the password of the console'] : []),
    ...(token ? ['with a token that opens it'] : []),
  ];
  return `${hadSession ? 'The session has ended. ' : ''}Sign in ${ways.join(', or ')}.`;
}

/** Whether a viewer may be shown the data of a channel's events. */
export function maySee(viewer: Viewer, publicChannels: ChannelFilter, channel: string): boolean {
  return matches(viewer.channels, channel) || matches(publicChannels, channel);
}

/**
 * A page of another origin may neither read here nor change anything, whatever cookies its browser
 * brings; it may only lead to the page. Browsers say where a request comes from in `Origin`, or in
 * Fetch Metadata; who says nothing is no browser.
 *
 * @throws Denied
 */
export function requireOwnPage({ headers, method }: IncomingMessage, isPage: boolean): void {
  const { origin, host = '' } = headers;
  const site = headers['sec-fetch-site'];
  const isReading = method === 'GET' || method === 'HEAD';
  const isLed = isPage && isReading && headers['sec-fetch-mode'] === 'navigate';
  const isForeign =
    (origin !== undefined && !isOwnOrigin(origin, host)) ||
    (site !== undefined && site !== 'same-origin' && site !== 'none' && !isLed);
  if (isForeign) throw new Denied('foreign_origin', 'The console is for its own page alone.');
}
