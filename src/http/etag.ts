/** What does not change while a relay runs is sent once to a client that keeps it. */
import { createHash } from 'node:crypto';
import type { ParameterizedContext } from 'koa';

export function etagOf(body: Buffer | string): string {
  return `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
}

/** The headers, with the ETag, have been set. */
export function answerIfChanged(context: ParameterizedContext, body: Buffer | string): void {
  context.status = 200;
  if (context.fresh) context.status = 304;
  else context.body = body;
}
