/**
 * Fate: one fault after another by chance, each kind as often as the others, until the shift ends.
 */
import type { Figure } from './actor.js';
import type { ExposedRelay } from './exposed-relay.js';
import type { FaultLog } from './fault-log.js';
import { randomOf, type Random } from './random.js';
import type { ServerFaultGroup, ServerFaults } from './server-faults.js';
import type { Shift } from './shift.js';

/** Does it and undoes it; resolves with false where it came to nothing. Once the shift is over it only undoes. */
export type Fault = () => unknown;

/** One fault of these groups after the other. What meets relays meets each of them on its own. */
export interface FateOfWorld {
  readonly of: readonly (ServerFaultGroup | 'processes' | 'networks' | PartyGroup)[];
  /** Milliseconds between two. */
  readonly pause: readonly [low: number, high: number];
}

export type PartyGroup = 'feeders' | 'networks of feeders' | 'engine' | 'stores';

/** Somebody whom faults meet, beside the server and relays. */
export interface Party {
  /** Who it is, in the log of faults. */
  readonly where: string;
  readonly faults: Readonly<Partial<Record<PartyGroup, Readonly<Record<string, Fault>>>>>;
  /** Lets everything through again. */
  heal(): void;
  /** Resolves once it works, after `heal`. @throws where it does not. */
  works(): Promise<void>;
  /** What it did that it should not have. */
  readonly complaints: readonly string[];
  readonly figures: () => readonly Figure[];
}

interface FateOptions {
  readonly random: Random;
  readonly shift: Shift;
  readonly log: FaultLog;
  /** Whom it meets. */
  readonly where: string;
  readonly faults: Readonly<Record<string, Fault>>;
  /** Milliseconds between two faults. */
  readonly pause: readonly [low: number, high: number];
}

async function runFate({ random, shift, log, where, faults, pause }: FateOptions): Promise<void> {
  const kinds = Object.keys(faults);
  let deck: string[] = [];
  log.expect(kinds);
  const rest = () => shift.pause(random.integer(...pause));
  for (await rest(); shift.isOn; await rest()) {
    if (deck.length === 0) deck = random.sample(kinds, kinds.length);
    const kind = deck.pop() ?? '';
    const over = log.begin(kind, where);
    over((await faults[kind]?.()) !== false);
  }
}

export interface Exposed {
  readonly seed: number;
  readonly serverFaults: ServerFaults['groups'];
  readonly relays: readonly ExposedRelay[];
  readonly others: readonly Party[];
  readonly shift: Shift;
  readonly log: FaultLog;
}

/** Each resolves when the shift is over and all is undone. */
export function runFates(fates: readonly FateOfWorld[], exposed: Exposed): Promise<void>[] {
  const { seed, serverFaults, relays, others, shift, log } = exposed;
  const awake = { ...serverFaults.awake, 'awake relay killed': () => killAwake(exposed) };
  return fates.flatMap(({ of, pause }, n) => {
    const those = (groups: Partial<Record<string, Readonly<Record<string, Fault>>>>) =>
      Object.assign({}, ...of.map((group) => groups[group])) as Record<string, Fault>;
    const parties = [
      { where: 'server', faults: those({ ...serverFaults, awake }) },
      ...relays.map(({ processFaults, networkFaults }, relay) => ({
        where: `relay ${relay}`,
        faults: those({ processes: processFaults, networks: networkFaults }),
      })),
      ...others.map(({ where, faults }) => ({ where, faults: those(faults) })),
    ];
    return parties
      .filter(({ faults }) => Object.keys(faults).length > 0)
      .map((party) => runFate({ ...party, random: randomOf(seed, `fate ${n}, ${party.where}`), pause, shift, log }));
  });
}

/** Whether one was. */
async function killAwake({ relays }: Exposed): Promise<boolean> {
  for (const relay of relays) {
    if (!(await relay.isAwake())) continue;
    await relay.processFaults['relay killed']?.();
    return true;
  }
  return false;
}
