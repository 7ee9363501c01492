/**
 * Standbys: a server that may lag behind what was committed must not be asked what a client has missed.
 */

/** The database is a standby. */
export class StandbyError extends Error {
  override readonly name = 'StandbyError';

  constructor() {
    super(
      'the database is a standby, which may lag behind; waiting until it is promoted, or the address leads to the primary',
    );
  }
}

/** @throws StandbyError */
export function refuseStandby(row: { readonly standby: boolean } | undefined): void {
  if (row?.standby) throw new StandbyError();
}
