/**
 * An nginx that speaks HTTP/2 to browsers, with a certificate that it signed itself.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chown, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { startDaemon } from './daemon.js';
import { handOver, makeFolder } from './folder.js';

/** One request that is over. */
export interface Served {
  readonly connection: string;
  readonly protocol: string;
  readonly path: string;
}

export interface Nginx {
  /** Lets it end what it has under way, and resolves with the requests that it has served. */
  end(): Promise<Served[]>;
}

/** Whether the programs are there; servers are not on every user's path. */
export function hasNginx(): boolean {
  const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/local/sbin` };
  return ['nginx', 'openssl'].every((program) => spawnSync(program, ['-v'], { env }).error === undefined);
}

/** Starts it with these servers: what stands in each, by its name. */
export async function startHttp2Nginx(
  t: Pick<ExecutionContext, 'teardown'>,
  port: number,
  servers: Readonly<Record<string, string>>,
): Promise<Nginx> {
  const own = await makeFolder(t, 'certificate');
  const account = await handOver(own);
  const [key, certificate, log] = ['key.pem', 'certificate.pem', 'access.log'].map((name) => join(own, name)) as [
    string,
    string,
    string,
  ];
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-days', '2'];
  execFileSync('openssl', [...request, '-keyout', key, '-out', certificate], { stdio: 'ignore' });
  if (account) for (const file of [key, certificate]) await chown(file, account.uid, account.gid);
  const blocks = Object.entries(servers).map(
    ([name, content]) => `
  server {
    listen 127.0.0.1:${port} ssl http2;
    server_name ${name};
    ssl_certificate ${certificate};
    ssl_certificate_key ${key};
    ${content}
  }`,
  );
  const daemon = await startDaemon(t, {
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
  log_format line '$connection $server_protocol $request_uri';
  access_log ${log} line;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  ${blocks.join('\n')}
}
`,
    },
    ready: /start worker process \d/,
  });
  return {
    async end() {
      await daemon.end('SIGQUIT');
      const lines = (await readFile(log, 'utf8')).trim().split('\n');
      return lines.map((line) => {
        const [connection = '', protocol = '', path = ''] = line.split(' ');
        return { connection, protocol, path };
      });
    },
  };
}
