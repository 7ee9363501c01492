/**
 * Who acts in a world beside its publishers and clients: retention, a redactor, and whoever is hostile.
 */
import type { DroppingClientOptions } from './dropping-client.js';
import type { ExposedRelay } from './exposed-relay.js';
import type { FaultLog } from './fault-log.js';
import type { LastingSessionOptions } from './lasting-session.js';
import type { Random } from './random.js';

/** Somebody who does something for as long as the shift lasts. */
export interface Actor {
  run(stage: Stage): Promise<void>;
  /** Called with each event that a client of the crowd gets. */
  readonly onEvent?: DroppingClientOptions['onEvent'];
  /** Called when all clients have left. */
  readonly end?: () => void;
  /** In words; empty when all is well. */
  readonly complaints: readonly string[];
  readonly figures: () => readonly Figure[];
}

export interface Stage extends Omit<LastingSessionOptions, 'onFailure'> {
  readonly random: Random;
  readonly relays: readonly ExposedRelay[];
  readonly faults: FaultLog;
}

export type Figure = readonly [what: string, count: number];
