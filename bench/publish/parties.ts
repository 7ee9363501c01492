/**
 * The parties that `publish` compares, each with a database of its own on one server, and with who reads there.
 *
 * Ours is read by a relay with one subscriber, and the trigger that notifies by one session that SELECTs each row: where nobody
 * listens, notifying costs less than it ever does in use.
 */
import { median } from '../usage.js';
import { createDatabase } from './databases.js';
import type { Pgbench } from './pgbench.js';
import { CHANNEL, startBareReader, startRelayReader, type Reader, type RelayReader } from './readers.js';

export const PLAIN = 'plain INSERT';
export const UNHEARD = 'NOTIFY, nobody listens';
export const NOTIFY = 'NOTIFY, LISTEN + SELECT';
export const OUTBOX = 'outbox, a relay';
export type Party = typeof PLAIN | typeof UNHEARD | typeof NOTIFY | typeof OUTBOX;

export const DATA = JSON.stringify({ order: 1, status: 'packed', note: 'x'.repeat(250) });
export const INSERT = `INSERT INTO outbox (channel, data) VALUES ('${CHANNEL}', '${DATA}');`;
/** Full load: as much as so many clients publish. */
export const FULL_LOAD = { clients: 16, script: INSERT };

/** All of them, on one server. */
export interface Contest {
  /** Of PostgreSQL, such as '18.4'. */
  readonly version: string;
  readonly pgbench: Pgbench;
  readonly urls: Readonly<Record<Party, string>>;
  readonly bareReader: Reader;
  readonly relay: RelayReader;
  stop(): Promise<void>;
}

export async function openContest(
  serverUrl: string,
  { version, pgbench }: Pick<Contest, 'version' | 'pgbench'>,
): Promise<Contest> {
  const urls = {
    [PLAIN]: await createDatabase(serverUrl, 'bench_plain', 'none'),
    [UNHEARD]: await createDatabase(serverUrl, 'bench_unheard', 'notify'),
    [NOTIFY]: await createDatabase(serverUrl, 'bench_notify', 'notify'),
    [OUTBOX]: await createDatabase(serverUrl, 'bench_outbox', 'outbox'),
  };
  const bareReader = await startBareReader(urls[NOTIFY]);
  const relay = await startRelayReader(urls[OUTBOX]);
  return {
    version,
    pgbench,
    urls,
    bareReader,
    relay,
    async stop() {
      await Promise.all([bareReader.stop(), relay.stop()]);
    },
  };
}

/** Each round in another order, so that nobody always comes after the same. The first round is not counted. */
export async function takeTurns<Party extends string>(
  parties: readonly Party[],
  rounds: number,
  turn: (party: Party) => Promise<number>,
): Promise<Readonly<Record<Party, readonly number[]>>> {
  const figures = Object.fromEntries(parties.map((party) => [party, [] as number[]])) as Record<Party, number[]>;
  for (const party of parties) await turn(party);
  for (let round = 0; round < rounds; round += 1) {
    const from = round % parties.length;
    for (const party of [...parties.slice(from), ...parties.slice(0, from)]) figures[party].push(await turn(party));
  }
  return figures;
}

/** Of turns in the same round, which the same noise has met. */
export function pairedRatio(figures: readonly number[] = [], baseline: readonly number[] = []): number {
  return median(figures.map((figure, round) => figure / (baseline[round] ?? Number.NaN)));
}

/** Waits until what the party has published was read; resolves with the milliseconds that it took. */
export async function catchUp({ bareReader, relay }: Contest, party: Party): Promise<number> {
  const began = performance.now();
  if (party === NOTIFY) await bareReader.caughtUp();
  if (party === OUTBOX) await relay.caughtUp();
  return performance.now() - began;
}
