/**
 * What a relay on NATS needs of others, in tests: servers of NATS with a stream that is set up, and feeders that feed it.
 */
import type { ExecutionContext } from 'ava';
import { runCommand } from './command.js';
import { startExposedFeeder, type ExposedFeeder } from './exposed-feeder.js';
import { startNats, type NatsOptions, type NatsServers } from './nats.js';
import { randomOf } from './random.js';
import { startShift } from './shift.js';

export interface Feeding {
  readonly nats: NatsServers;
  /** What a relay has to know, beside its database. */
  readonly env: { readonly NATS_URL: string; readonly NATS_SECRET: string };
  /** In the order of their databases. */
  readonly feeders: readonly ExposedFeeder[];
  /** What feeders have logged. */
  readonly log: readonly string[];
  /** As an operator does; @throws Error with what the command said, where it failed. */
  setUp(): Promise<void>;
}

export interface FeedingOptions extends NatsOptions {
  /** One feeder for each. */
  readonly databaseUrls: readonly [string, ...string[]];
}

/** Resolves when each feeder is ready. */
export async function startFeeding(
  t: Pick<ExecutionContext, 'teardown'>,
  { databaseUrls, ...options }: FeedingOptions,
): Promise<Feeding> {
  const nats = await startNats(t, options);
  const env = { NATS_URL: nats.url, NATS_SECRET: 'x'.repeat(48) };
  const log: string[] = [];
  const setUp = async () => {
    const args = ['feed', '--setup', '--replicas', String(nats.servers.length)];
    const { code, output } = await runCommand(args, { ...env, DATABASE_URL: databaseUrls[0] });
    if (code !== 0) throw new Error(`feed --setup ended with ${String(code)}:\n${output}`);
  };
  await setUp();
  const feeders: ExposedFeeder[] = [];
  for (const [n, url] of databaseUrls.entries()) {
    const exposure = {
      random: randomOf(n, 'feeder'),
      shift: startShift(),
      signal: new AbortController().signal,
      log: (line: string) => void log.push(line),
    };
    feeders.push(await startExposedFeeder(t, `feeder ${n + 1}`, { ...env, DATABASE_URL: url }, exposure));
  }
  await Promise.all(feeders.map((feeder) => feeder.works()));
  return { nats, env, feeders, log, setUp };
}
