/**
 * Fate: one fault after another by chance, each kind as often as the others, until the shift ends.
 */
import type { FaultLog } from './fault-log.js';
import type { Random } from './random.js';
import type { Shift } from './shift.js';

/** Does it and undoes it; resolves with false where it came to nothing. Once the shift is over it only undoes. */
export type Fault = () => unknown;

export interface FateOptions {
  readonly random: Random;
  readonly shift: Shift;
  readonly log: FaultLog;
  /** Whom it meets. */
  readonly where: string;
  readonly faults: Readonly<Record<string, Fault>>;
  /** Milliseconds between two faults. */
  readonly pause: readonly [low: number, high: number];
}

export async function runFate({ random, shift, log, where, faults, pause }: FateOptions): Promise<void> {
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
