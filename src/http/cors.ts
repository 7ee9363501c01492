/** Cross-origin requests: which pages may read what we answer. */
import type Koa from 'koa';

/** What a page may send where it does not say what it wants to. */
const USUAL_HEADERS = 'Authorization, Cache-Control, Last-Event-ID';

/** Names of headers, as in `authorization,last-event-id`. Source: RFC 9110, section 5.6.2. */
const HEADER_NAMES = /^[\w!#$%&'*+\-.^`|~]+(?:[ \t]*,[ \t]*[\w!#$%&'*+\-.^`|~]+)*$/;

/**
 * What browsers ask for in one preflight, bytes; of what is longer none is granted but the usual.
 */
const MOST_ASKED_BYTES = 2048;

/**
 * Credentials only for origins that are named. Source: Fetch, "CORS protocol".
 *
 * A preflight is granted whatever headers it names: scripts for tracing, htmx and others add their
 * own to each request. That gives a page nothing, with credentials either: its origin is what is
 * trusted, a stream is only read, and of a header that we do not know we do not take notice.
 *
 * @param methods that a page is told it may use.
 */
export function cors(allowed: readonly string[], methods: string): Koa.Middleware {
  const any = allowed.includes('*');
  return async (context, next) => {
    const origin = context.get('Origin');
    const isPreflight = context.method === 'OPTIONS' && context.get('Access-Control-Request-Method') !== '';
    if (!any) context.vary('Origin');
    if (isPreflight) context.vary('Access-Control-Request-Headers');
    if (origin && (any || allowed.includes(origin))) {
      context.set('Access-Control-Allow-Origin', any ? '*' : origin);
      if (!any) context.set('Access-Control-Allow-Credentials', 'true');
      if (isPreflight) {
        context.set('Access-Control-Allow-Methods', methods);
        context.set('Access-Control-Allow-Headers', grantedHeaders(context.get('Access-Control-Request-Headers')));
        context.set('Access-Control-Max-Age', '7200');
      } else {
        context.set('Access-Control-Expose-Headers', 'Retry-After, WWW-Authenticate');
      }
    }
    await next();
  };
}

function grantedHeaders(asked: string): string {
  return asked.length <= MOST_ASKED_BYTES && HEADER_NAMES.test(asked) ? asked : USUAL_HEADERS;
}
