/**
 * A PgBouncer in transaction mode, in front of one database.
 */
import type { ExecutionContext } from 'ava';
import { withClient } from '../../src/postgres/client.js';
import { startDaemon } from './daemon.js';
import { freePort } from './port.js';

export interface TestPgbouncer {
  /** The database's URL, through it. */
  readonly url: string;
  /** Lets no query begin; resolves when none is under way. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Ends it, and with it all sessions of its clients. */
  end(): Promise<void>;
  start(): Promise<void>;
}

/** @param sessions most sessions with the server at a time: the fewer, the more clients come by each */
export async function startPgbouncer(
  t: Pick<ExecutionContext, 'teardown'>,
  databaseUrl: string,
  { sessions }: { readonly sessions: number },
): Promise<TestPgbouncer> {
  const target = new URL(databaseUrl);
  const url = new URL(databaseUrl);
  const port = await freePort();
  url.port = String(port);
  const name = target.pathname.slice(1);
  const daemon = await startDaemon(t, {
    program: 'pgbouncer',
    args: () => ['pgbouncer.ini'],
    config: {
      name: 'pgbouncer.ini',
      text: () => `[databases]
${name} = host=${target.hostname} port=${target.port} dbname=${name} user=${target.username} password=${target.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
admin_users = ${target.username}, pgbouncer
pool_mode = transaction
default_pool_size = ${sessions}
`,
    },
    ready: /process up/,
  });
  /** On its own console, which is a database to those who connect. */
  async function command(text: 'PAUSE' | 'RESUME'): Promise<void> {
    const address = new URL(url);
    address.pathname = '/pgbouncer';
    await withClient(address.href, 'test', (client) => client.query(text));
  }

  return {
    url: url.href,
    pause: () => command('PAUSE'),
    resume: () => command('RESUME'),
    end: () => daemon.end('SIGTERM'),
    start: daemon.start,
  };
}
