/**
 * Access: who may read what, and until when. Decided once for each connection, before its stream
 * opens.
 *
 * A client brings a token (in `Authorization: Bearer`, else in the cookie, else in the query where
 * that is allowed), or is vouched for by the application (forward authentication), or is anonymous.
 * Everybody may read the public channels. A token that is there counts: where it is not good the
 * answer is 401, never what an anonymous client would get.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Logger } from 'pino';
import { withoutBlanks } from './blanks.js';
import { allows, type ChannelFilter } from '../event/channel-filter.js';
import type { Counted } from './client-address.js';
import { createForwardAuth, type ForwardAuthOptions } from './forward-auth.js';
import { Denied } from './denied.js';
import { createTokens, type Grant, type TokenOptions } from './jwt.js';

export interface AccessOptions {
  /** What anybody may read. */
  readonly publicChannels: ChannelFilter;
  readonly tokens: TokenOptions | undefined;
  readonly forwardAuth: ForwardAuthOptions | undefined;
  /** Name of the cookie that carries a token. */
  readonly authCookie: string;
  /** Whether `?token=` counts. Addresses end up in logs and histories, so it is off by default. */
  readonly allowQueryToken: boolean;
  /** Other origins whose pages may act with the user's cookies; `*` names none of them. */
  readonly allowedOrigins: readonly string[];
}

export interface AccessRequest {
  readonly wanted: ChannelFilter;
  /** The same as the client wrote them. */
  readonly names: readonly string[];
  readonly headers: IncomingHttpHeaders;
  /** The host that the client believes it speaks to, port included. */
  readonly host: string;
  readonly queryToken: string | null;
  /** Where it comes from. */
  readonly address: Counted;
  /** Aborted when its client is gone. */
  readonly left: AbortSignal;
}

/** The right to read what was asked for. */
export interface Permission {
  readonly subject: string | undefined;
  /** When it ends, in milliseconds since 1970; `Infinity` where it does not. */
  readonly expiresAt: number;
}

export interface Access {
  /** @throws Denied where it may not, or nobody can tell; else the reason of `left`. */
  permit(request: AccessRequest): Promise<Permission>;
  /**
   * What a token gives its bearer. Undefined: there is no key to verify tokens with.
   *
   * @throws Denied where it is not good.
   */
  verify(token: string): Promise<Grant | undefined>;
}

const ANONYMOUS: Permission = { subject: undefined, expiresAt: Infinity };

export function createAccess(options: AccessOptions, logger: Logger): Access {
  const { publicChannels, authCookie } = options;
  const tokens = options.tokens && createTokens(options.tokens, logger);
  const forwardAuth = options.forwardAuth && createForwardAuth(options.forwardAuth, logger);

  function tokenIn({ headers, queryToken, host }: AccessRequest): string | undefined {
    const bearer = /^Bearer(?: +(.*))?$/i.exec(headers.authorization ?? '');
    if (bearer) return bearer[1] ?? '';
    const cookie = cookieNamed(authCookie, headers.cookie ?? '');
    if (cookie !== undefined) {
      requireOwnOrigin(headers.origin, host);
      return cookie;
    }
    if (queryToken === null) return undefined;
    if (options.allowQueryToken) return queryToken;
    throw new Denied(
      'unauthorized',
      'A token in the address is not taken here: send it in "Authorization: Bearer" or in a cookie, or set ALLOW_QUERY_TOKEN=true.',
    );
  }

  /** Browsers send cookies with requests of any page, so the page's origin has to be trusted. */
  function requireOwnOrigin(origin: string | undefined, host: string): void {
    if (origin === undefined || options.allowedOrigins.includes(origin) || isOwnOrigin(origin, host)) return;
    throw new Denied(
      'foreign_origin',
      'Pages of that origin may not use the cookies here. Name it in ALLOWED_ORIGINS if they shall; "*" does not name it.',
    );
  }

  return {
    verify: async (token) => tokens?.verify(token),
    async permit(request) {
      const { names, headers, wanted } = request;
      const notPublic = names.filter((name) => !allows(publicChannels, name));

      const token = tokens && tokenIn(request);
      if (tokens && token !== undefined) {
        const grant = await tokens.verify(token);
        requireAll(notPublic, grant.channels);
        return grant;
      }
      if (notPublic.length === 0) return ANONYMOUS;
      if (forwardAuth) {
        const { authorization = '', cookie = '' } = headers;
        if (cookie) requireOwnOrigin(headers.origin, request.host);
        const grant = await forwardAuth.ask({ authorization, cookie }, wanted, request.address, request.left);
        requireAll(notPublic, grant.channels);
        return grant;
      }
      if (!tokens) throw forbidden(notPublic);
      throw new Denied(
        'unauthorized',
        `Not public: ${notPublic.join(', ')}. Send a token in "Authorization: Bearer" or in the cookie "${authCookie}".`,
        { channels: notPublic },
      );
    },
  };
}

function requireAll(names: readonly string[], allowed: ChannelFilter): void {
  const refused = names.filter((name) => !allows(allowed, name));
  if (refused.length > 0) throw forbidden(refused);
}

function forbidden(channels: readonly string[]): Denied {
  return new Denied('forbidden', `Not open to you: ${channels.join(', ')}.`, { channels });
}

/**
 * Whether a page of that origin was loaded from `host`; a proxy in front may have had it over TLS.
 */
export function isOwnOrigin(origin: string, host: string): boolean {
  const scheme = /^https?:\/\//.exec(origin)?.[0];
  if (scheme === undefined || !URL.canParse(origin) || !URL.canParse(scheme + host)) return false;
  return new URL(origin).origin === origin && new URL(scheme + host).host === new URL(origin).host;
}

/** The first cookie of that name: that with the most specific path (RFC 6265, section 5.4). */
export function cookieNamed(name: string, header: string): string | undefined {
  for (const value of cookiesNamed(name, header)) return value;
  return undefined;
}

/**
 * All cookies of that name: another host of the same site may have set some of them. Only pairs
 * that have the name somewhere are taken apart: a browser may bring hundreds of others.
 */
export function* cookiesNamed(name: string, header: string): Generator<string, void, undefined> {
  for (let at = header.indexOf(name), end: number; at !== -1; at = header.indexOf(name, end)) {
    end = header.indexOf(';', at);
    if (end === -1) end = header.length;
    const pair = header.slice(header.lastIndexOf(';', at) + 1, end);
    const equals = pair.indexOf('=');
    if (equals !== -1 && withoutBlanks(pair.slice(0, equals)) === name) {
      yield withoutBlanks(pair.slice(equals + 1)).replace(/^"(.*)"$/, '$1');
    }
  }
}
