/**
 * Standbys: a server that may lag behind what was committed must not be asked what a client has
 * missed.
 */
import { OperatorError } from '../operator-error.js';

/** What is made of an answer, by whether a standby gave it. */
export type StandbyRule = (row: { readonly standby: boolean } | undefined) => void;

/** @throws OperatorError `standby` */
export function refuseStandby(row: { readonly standby: boolean } | undefined): void {
  if (!row?.standby) return;
  throw new OperatorError(
    'standby',
    'The database is a standby, which may lag behind. Promote it, or lead the address to the primary.',
  );
}

/** For databases whose connections prove, before they are asked, what they show: see outbox/proof.ts. */
export const takeStandby: StandbyRule = () => undefined;
