/** Cross-origin requests: which pages may read what we answer. */
import type Koa from 'koa';

/**
 * Credentials only for origins that are named. Source: Fetch, "CORS protocol".
 *
 * @param methods that a page is told it may use.
 */
export function cors(allowed: readonly string[], methods: string): Koa.Middleware {
  const any = allowed.includes('*');
  return async (context, next) => {
    const origin = context.get('Origin');
    if (!any) context.vary('Origin');
    if (origin && (any || allowed.includes(origin))) {
      context.set('Access-Control-Allow-Origin', any ? '*' : origin);
      if (!any) context.set('Access-Control-Allow-Credentials', 'true');
      if (context.method === 'OPTIONS' && context.get('Access-Control-Request-Method')) {
        context.set('Access-Control-Allow-Methods', methods);
        context.set('Access-Control-Allow-Headers', 'Authorization, Cache-Control, Last-Event-ID');
        context.set('Access-Control-Max-Age', '7200');
      } else {
        context.set('Access-Control-Expose-Headers', 'Retry-After, WWW-Authenticate');
      }
    }
    await next();
  };
}
