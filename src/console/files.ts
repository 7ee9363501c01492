/** The console's page and its files, as the build makes them. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname } from 'node:path';
import type Router from 'koa-router';
import { answerIfChanged, etagOf } from '../http/etag.js';
import { CONSOLE_PATH } from '../http/paths.js';

const PAGE = new URL('../../packages/console/', import.meta.url);
const INDEX = 'index.html';
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.txt': 'text/plain; charset=utf-8',
};

/** Read once, at the start. */
export function routeFiles(router: Router): void {
  // What the page asks for is relative to an address without a slash at its end.
  router.get(`${CONSOLE_PATH}/`, (context) => {
    context.set('Location', `..${CONSOLE_PATH}`);
    context.status = 308;
    context.body = '';
  });
  const names = existsSync(PAGE) ? readdirSync(PAGE).filter((name) => extname(name) in TYPES) : [];
  for (const name of names) {
    const body = readFileSync(new URL(name, PAGE));
    const etag = etagOf(body);
    router.get(name === INDEX ? CONSOLE_PATH : `${CONSOLE_PATH}/${name}`, (context) => {
      context.set({ 'Content-Type': TYPES[extname(name)] ?? '', 'Cache-Control': 'no-cache', ETag: etag });
      answerIfChanged(context, body);
    });
  }
}
