/**
 * What `outbox-relay demo` runs: a PostgreSQL of its own, migrated, with the demo's page on a relay
 * that is open to all, on loopback only.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { startRetention } from '../../src/admin/retention.js';
import type { DemoModule } from '../../src/cli/serve/demo.js';
import { version } from '../../src/config/version.js';
import { channelFilter } from '../../src/event/channel-filter.js';
import type { ConsoleOptions } from '../../src/config/config.js';
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
  const dataDirectory = path.resolve('.data');
  const isNew = !existsSync(path.join(dataDirectory, 'data'));
  const server = await tell(
    isNew ? 'Making a PostgreSQL of its own, with its data in .data/' : 'Starting its PostgreSQL on the data in .data/',
    startEmbedded({ dataDirectory }),
  ).catch((error: unknown) => {
    if (!(error instanceof EmbeddedPostgresError)) throw error;
    throw new OperatorError('demo-refused', error.message, { cause: error });
  });
  onStop(() => server.stop());
  await tell('Applying the migrations', migrate(server.url, 'up'));
  if (keepSeconds !== undefined) onStop((await startRetention({ url: server.url, keepSeconds, logger })).stop);
  const demo = await createDemo({ ...config, databaseUrl: server.url, version: version() });
  onStop(demo.stop);
  const relay = await startRelay({
    config: {
      ...config,
      databaseUrl: server.url,
      listenDatabaseUrl: server.url,
      publicChannels: channelFilter(['*']),
      console: openConsole(config.console),
    },
    logger,
    extend: demo,
    ownDatabase: true,
  });
  console.log(`
  outbox-relay ${version()}, demo: all channels are open, on loopback only.

    Page      ${relay.url}/
${config.console.isOn === false ? '' : `    Console   ${relay.url}/console\n`}    Stream    curl -N '${relay.url}/events?channel=orders'
    Publish   psql '${server.url}' \\
                -c "INSERT INTO outbox (channel, data) VALUES ('orders', '{\\"order\\": 1}')"

  For your own database set DATABASE_URL. Ctrl-C stops it.
`);
  return relay;
};

/** On unless it is turned off, and open unless it has a password: nobody else reaches it. */
function openConsole({ isOn = true, password }: ConsoleOptions): ConsoleOptions {
  return { isOn, password, isOpen: password === undefined, shows: { data: true, addresses: true } };
}

/** Prints what is under way, at once; then how long it took, from a second on. */
async function tell<T>(what: string, work: Promise<T>): Promise<T> {
  const began = performance.now();
  process.stdout.write(`${what} …`);
  try {
    return await work;
  } finally {
    const seconds = (performance.now() - began) / 1000;
    console.log(seconds < 1 ? '' : ` ${seconds.toFixed(1)} s`);
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}
