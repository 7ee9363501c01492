/**
 * An nginx with the first recipe of docs/proxies.md, in front of relays.
 */
import { readFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { startDaemon } from './daemon.js';
import { freePort } from './port.js';

const PAGE = new URL('../../../docs/proxies.md', import.meta.url);

/** What stands there for the relays' addresses. */
const EXAMPLE = /\s*server 127\.0\.0\.1:\d+(?<options>[^;]*);.*\n/;

/** Starts it; ends it with the test. Resolves with its URL. */
export async function startNginx(t: Pick<ExecutionContext, 'teardown'>, relays: readonly string[]): Promise<string> {
  const port = await freePort();
  const recipe = await readRecipe(relays);
  await startDaemon(t, {
    program: 'nginx',
    args: (folder) => ['-p', folder, '-c', 'nginx.conf', '-g', 'daemon off;'],
    config: {
      name: 'nginx.conf',
      text: (folder) => `
worker_processes 1;
pid ${folder}/pid;
error_log stderr notice;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  ${recipe.upstream}
  server {
    listen 127.0.0.1:${port};
    ${recipe.locations}
  }
}
`,
    },
    ready: /start worker process \d/,
  });
  return `http://127.0.0.1:${port}`;
}

/** The page's, with these relays in the place of its example. */
async function readRecipe(relays: readonly string[]): Promise<{ upstream: string; locations: string }> {
  const text = /```nginx\n(.*?)```/s.exec(await readFile(PAGE, 'utf8'))?.[1] ?? '';
  const end = text.indexOf('}\n') + 2;
  const upstream = text.slice(0, end);
  const options = EXAMPLE.exec(upstream)?.groups?.['options'];
  if (options === undefined) throw new Error('docs/proxies.md has no nginx recipe that begins with an upstream.');
  const servers = relays.map((url) => `server ${new URL(url).host}${options};\n`).join('');
  return {
    upstream: upstream.replace(EXAMPLE, `\n${servers}`),
    locations: text.slice(end),
  };
}
