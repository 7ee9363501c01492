/**
 * The demo on a relay of its own, over a database of the test's.
 */
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { createDemo } from '../../packages/demo/demo.js';
import { readConfig } from '../../src/config/config.js';
import { startRelay, type Relay } from '../../src/relay.js';
import { createDatabase, type TestDatabase } from './database.js';

export interface DemoRelay {
  readonly database: TestDatabase;
  readonly relay: Relay;
}

/** Both end with the test. */
export async function startDemoRelay(t: ExecutionContext, allowedOrigins: readonly string[] = []): Promise<DemoRelay> {
  const database = await createDatabase(t);
  const demo = await createDemo({ databaseUrl: database.url, version: 'test', allowedOrigins });
  t.teardown(demo.stop);
  const config = readConfig({ DATABASE_URL: database.url, PORT: '0', PUBLIC_CHANNELS: '*', SHUTDOWN_SECONDS: '2' });
  const relay = await startRelay({ config, logger: pino({ level: 'silent' }), extend: demo });
  t.teardown(() => relay.stop());
  return { database, relay };
}
