/**
 * A session with the database that outlives its server: when it is lost another is opened, for as long as the shift lasts.
 *
 * Only that somebody took the server away excuses the loss of a session, and nothing excuses an error of any other kind.
 */
import pg from 'pg';
import type { Shift } from './shift.js';

export interface LastingSessionOptions {
  /** Of the database. */
  readonly url: string;
  readonly shift: Shift;
  /** Whether somebody took the server away since then, in milliseconds of `performance.now`. Default: never. */
  readonly wasAway?: (since: number) => boolean;
  readonly onFailure: (text: string) => void;
}

/** The server was stopped, crashed, or is still starting (PostgreSQL manual, appendix A, class 57). */
const AWAY = new Set(['57P01', '57P02', '57P03']);

const PAUSE_MS = 50;

/** @param work uses the session until it is not open any more, or the shift ends, or it fails. */
export async function lastingSession(
  { url, shift, wasAway = () => false, onFailure }: LastingSessionOptions,
  work: (client: pg.Client, isOpen: () => boolean) => Promise<void>,
): Promise<void> {
  while (shift.isOn) {
    const opened = performance.now();
    let open = true;
    const client = new pg.Client({ connectionString: url, application_name: 'test' });
    client.on('error', () => (open = false));
    client.on('end', () => (open = false));
    try {
      await client.connect();
      await work(client, () => open);
    } catch (error) {
      const code = error instanceof pg.DatabaseError ? error.code : '';
      if (!isLoss(error) || !wasAway(opened)) onFailure(`${code ?? ''} ${String(error)}`.trim());
    } finally {
      await client.end().catch(() => undefined);
    }
    await shift.pause(PAUSE_MS);
  }
}

/** Whether an error is the loss of a session: the server has ended it, or the connection broke. */
export function isLoss(error: unknown): boolean {
  return !(error instanceof pg.DatabaseError) || AWAY.has(error.code ?? '');
}
