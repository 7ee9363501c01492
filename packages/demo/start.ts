/**
 * What `outbox-relay demo` runs: a PostgreSQL of its own, migrated, with the demo's page on a relay
 * that is open to all, on loopback only.
 */
import path from 'node:path';
import { startRetention } from '../../src/admin/retention.js';
import type { DemoModule } from '../../src/cli/demo.js';
import { version } from '../../src/cli/version.js';
import { channelFilter } from '../../src/event/channel-filter.js';
import { OperatorError } from '../../src/operator-error.js';
import { migrate } from '../../src/postgres/migrate.js';
import { startRelay } from '../../src/relay.js';
import { EmbeddedPostgresError, startEmbedded } from '../embedded-postgres/embedded.js';
import { createDemo } from './demo.js';

/**
 * @throws OperatorError `demo-refused` where HOST is no address of loopback, WORKERS is set, or the
 * server cannot start
 */
export const startDemo: DemoModule['startDemo'] = async ({ config, logger, onStop }) => {
  const { host, workers, retentionSeconds: keepSeconds } = config;
  if (!isLoopback(host)) {
    throw new OperatorError(
      'demo-refused',
      `The demo is open to all who reach it, so it stays on loopback; HOST=${host} needs DATABASE_URL.`,
    );
  }
  if (workers > 1) throw new OperatorError('demo-refused', 'The demo is one process; WORKERS needs DATABASE_URL.');
  console.log('Starting a PostgreSQL of its own, with its data in .data/ …');
  const server = await startEmbedded({ dataDirectory: path.resolve('.data') }).catch((error: unknown) => {
    if (!(error instanceof EmbeddedPostgresError)) throw error;
    throw new OperatorError('demo-refused', error.message, { cause: error });
  });
  onStop(() => server.stop());
  await migrate(server.url, 'up');
  if (keepSeconds !== undefined) onStop((await startRetention({ url: server.url, keepSeconds, logger })).stop);
  const demo = await createDemo({ ...config, databaseUrl: server.url, version: version() });
  onStop(demo.stop);
  const relay = await startRelay({
    config: { ...config, databaseUrl: server.url, listenDatabaseUrl: server.url, publicChannels: channelFilter(['*']) },
    logger,
    extend: demo,
    ownDatabase: true,
  });
  console.log(`
  outbox-relay ${version()}, demo: all channels are open, on loopback only.

    Page      ${relay.url}/
    Stream    curl -N '${relay.url}/events?channel=orders'
    Publish   psql '${server.url}' \\
                -c "INSERT INTO outbox (channel, data) VALUES ('orders', '{\\"order\\": 1}')"

  For your own database set DATABASE_URL. Ctrl-C stops it.
`);
  return relay;
};

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}
