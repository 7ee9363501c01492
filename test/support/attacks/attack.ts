/**
 * What an attack is: a table entry that says what ten attackers do, each in a loop, and what the relay may spend on it.
 *
 * Attackers are paced: what is measured is what the relay lets itself in for, and not who has more of the machine.
 */
import pg from 'pg';
import type { Random } from '../random.js';

export interface Attack {
  /** As it stands in the results. */
  readonly name: string;
  /** Of the relay, beside what all have. @param appUrl of an application that answers slowly what somebody may read. */
  readonly env?: (appUrl: string) => Readonly<Record<string, string>>;
  /** Done once, before anything is measured. */
  readonly prepare?: (scene: Scene) => Promise<void>;
  /** What one attacker does until the signal comes. */
  readonly loop: (scene: Scene, attacker: number) => Promise<void>;
  /** Default: 10. */
  readonly attackers?: number;
  /** For how long, in milliseconds, it keeps everybody from the table by itself: that is not the relay's delay. */
  readonly locksMs?: number;
  /** Its own statements take the CPU of PostgreSQL, from publishers as well: what these wait is not the relay's delay. */
  readonly burdensServer?: boolean;
  /** Its events are deleted when it has been measured: one that stops a relay would stop the next one, too. */
  readonly leaves?: string;
  /** A user whom the application knows comes every now and then, and is measured, too. */
  readonly hasUser?: boolean;
  /** Whether the relay has to answer `/healthz` at once meanwhile. */
  readonly judgesHealth?: boolean;
  /** What the relay's memory may grow by. */
  readonly memory?: MemoryBar;
}

export interface MemoryBar {
  /** `resident`: of the process. `external`: what Node has outside of its heap, such as pages that wait. */
  readonly of: 'resident' | 'external';
  readonly is: string;
  /** @param noted what `prepare` noted. */
  readonly bytes: (noted: Noted) => number;
}

export type Noted = Readonly<Record<string, number>>;

/** What an attacker has to do with. */
export interface Scene {
  readonly url: string;
  readonly metricsUrl: string;
  /** Of a role that may do all, as an application's might. */
  readonly databaseUrl: string;
  /** Of a role that may connect, and nothing else. */
  readonly strangerUrl: string;
  readonly signal: AbortSignal;
  readonly random: Random;
  /** From which the attacker connects, on loopback. */
  readonly address: string;
  /** Counts what came of something: stands in the results. */
  count(outcome: string): void;
  /** Notes a number for the results and for the bars. */
  note(name: string, value: number): void;
  readonly noted: Noted;
}

/** Begins anew every so many milliseconds, or as soon after as the last one is over, until the signal comes. */
export async function every(
  { signal, count }: Pick<Scene, 'signal' | 'count'>,
  milliseconds: number,
  once: () => Promise<unknown>,
): Promise<void> {
  while (!signal.aborted) {
    const began = performance.now();
    try {
      await once();
    } catch (error) {
      if (!isOver(signal)) count(codeOf(error));
    }
    await pause(signal, Math.max(1, milliseconds - (performance.now() - began)));
  }
}

/** Longer is none that Node knows. */
const LONGEST_PAUSE_MS = 2 ** 31 - 1;

/** Resolves after so many milliseconds, or when the signal comes. */
export function pause(signal: AbortSignal, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, signal.aborted ? 0 : Math.min(milliseconds, LONGEST_PAUSE_MS));
    signal.addEventListener('abort', end);
  });
}

/** A session that ends with the attack, whatever it is at. */
export async function withSession(
  signal: AbortSignal,
  url: string,
  use: (client: pg.Client) => Promise<unknown>,
): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'attacker' });
  client.on('error', () => undefined);
  await client.connect();
  const end = () => void client.end().catch(() => undefined);
  // A statement that waits for a lock would keep the session for as long.
  const hurry = setInterval(() => {
    if (signal.aborted)
      (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
  }, 1000);
  try {
    await use(client);
  } finally {
    clearInterval(hurry);
    end();
  }
}

export function codeOf(error: unknown): string {
  if (error instanceof pg.DatabaseError) return error.constraint ?? error.code ?? 'refused by the database';
  return (error as NodeJS.ErrnoException).code ?? String(error).slice(0, 60);
}

function isOver(signal: AbortSignal): boolean {
  return signal.aborted;
}
