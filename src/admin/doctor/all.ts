/**
 * All that `doctor` finds: of the database, and of what else a relay relies on with its settings.
 */
import type { NatsLogSettings } from '../../nats/nats-log.js';
import { examine } from './doctor.js';
import type { Result } from './finding.js';
import type { Examination } from './target.js';

export interface WholeExamination extends Examination {
  /** Undefined: new events come from PostgreSQL. */
  readonly nats: NatsLogSettings | undefined;
  readonly tracing: boolean;
}

/** Loads what few relays need only for those. @throws what `examine` throws */
export async function examineAll(
  { nats, tracing, ...examination }: WholeExamination,
  env: Readonly<Record<string, string | undefined>>,
  signal?: AbortSignal,
): Promise<Result[]> {
  const results = await examine(examination, signal);
  if (nats) results.push(await (await import('./stream.js')).examineStream(nats));
  if (tracing) results.push(await (await import('./tracing.js')).examineTracing(env));
  return results;
}
