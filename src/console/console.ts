/**
 * The console: what an operator looks at in a browser. It only reads, and costs nothing while
 * nobody looks but a count of events and a list of the newest refusals.
 *
 *     streams, log, refusals ─▶ answerer ─▶ peers (this process, or all workers) ─▶ live, routes ─▶ http
 */
import type Koa from 'koa';
import type { Access } from '../access/access.js';
import { createSessions } from '../access/password.js';
import type { Config } from '../config/config.js';
import type { Log } from '../feed/log.js';
import type { Database } from '../postgres/pool.js';
import { createLive } from './live.js';
import { routeOutbox } from './outbox-routes.js';
import { routeTrials } from './trial-routes.js';
import type { Peers } from './question.js';
import { createConsoleRouter } from './routes.js';
import { sharedPeers } from './shared-peers.js';
import { createViewers } from './viewer.js';

export interface Console {
  install(app: Koa): void;
  /** Ends the streams of its pages; resolves when it asks the database nothing any more. */
  close(): Promise<void>;
}

export interface ConsoleParts {
  readonly access: Pick<Access, 'verify'>;
  readonly peers: Peers;
  readonly reader: Pick<Database, 'db'>;
  readonly log: Pick<Log, 'head'>;
  readonly version: string;
}

export function createConsole(config: Config, { access, peers: all, reader, log, version }: ConsoleParts): Console {
  const { password, isOpen, shows } = config.console;
  const peers = sharedPeers(all);
  const sessions = password && createSessions(password);
  const viewers = createViewers({
    sessions,
    verify: config.tokens && access.verify,
    isOpen,
    authCookie: config.authCookie,
    consoleClaim: config.tokens?.consoleClaim ?? 'console',
  });
  const live = createLive({ ...config, peers: all });
  const router = createConsoleRouter({ ...config, shows, version }, { viewers, sessions, live, peers });
  routeOutbox(router, { ...config, shows }, { db: reader.db, log, peers });
  const trials = routeTrials(router, config, access);
  return {
    install: router.install,
    close() {
      live.close();
      return trials.close();
    },
  };
}
