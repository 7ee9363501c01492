/**
 * The modules for pages, as they are served: those in packages/client/, made small by the build.
 */
import { readFileSync } from 'node:fs';
import type { Middleware } from 'koa';
import { answerIfChanged, etagOf } from './etag.js';

export const SCRIPTS = ['outbox-relay.js', 'outbox-relay-htmx.js'] as const;

/** How long browsers use the module without asking whether it has changed. */
const MAX_AGE_SECONDS = 3600;

/** Serves one. Module scripts are fetched with CORS, which is its caller's affair. */
export function browserScript(name: (typeof SCRIPTS)[number]): Middleware {
  const body = readFileSync(new URL(`../../packages/client/${name}`, import.meta.url));
  const etag = etagOf(body);
  return (context) => {
    context.set({
      'Content-Type': 'text/javascript; charset=utf-8',
      'Cache-Control': `public, max-age=${MAX_AGE_SECONDS}`,
      ETag: etag,
      'X-Content-Type-Options': 'nosniff',
    });
    answerIfChanged(context, body);
  };
}
