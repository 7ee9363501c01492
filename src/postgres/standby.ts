/**
 * Standbys: a server that may lag behind what was committed must not be asked what a client has
 * missed.
 */
import { OperatorError } from '../operator-error.js';

/** @throws OperatorError `standby` */
export function refuseStandby(row: { readonly standby: boolean } | undefined): void {
  if (!row?.standby) return;
  throw new OperatorError(
    'standby',
    'The database is a standby, which may lag behind. Promote it, or lead the address to the primary.',
  );
}
