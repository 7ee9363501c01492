/**
 * The way to the demo, which is in the repository and in no published package: so it is loaded by
 * name, when it is asked for.
 */
import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import type { Config } from '../../config/config.js';
import { OperatorError } from '../../operator-error.js';
import type { Relay } from '../../relay.js';

export interface DemoOptions {
  readonly config: Config;
  readonly logger: Logger;
  /** Called with what stops each part once that is started; the caller calls them, last first. */
  readonly onStop: (stop: () => Promise<void>) => void;
}

/** What packages/demo/start.ts exports. */
export interface DemoModule {
  /** Starts the demo and prints where it is. The caller stops the relay before the rest. */
  startDemo(options: DemoOptions): Promise<Relay>;
}

const MODULE = new URL('../../../packages/demo/start.js', import.meta.url);

/** @throws OperatorError `no-demo` where it is not there */
export async function loadDemo(): Promise<DemoModule> {
  if (existsSync(MODULE)) return (await import(MODULE.href)) as DemoModule;
  throw new OperatorError(
    'no-demo',
    `The demo is not in this package: it is in the repository of outbox-relay. In a clone of that, run:
  npm ci && npm start
To run the relay here, set DATABASE_URL.`,
  );
}
