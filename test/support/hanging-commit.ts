/**
 * Commits that hang: after the positions have been drawn, in a deferred trigger of the application's.
 */
import type { ExecutionContext } from 'ava';
import pg from 'pg';
import type { TestDatabase } from './database.js';
import { connect } from './sessions.js';

export interface HangingCommit {
  readonly process: number;
  /** Resolves when it is committed. */
  succeed(): Promise<void>;
  /** Resolves when it has been rolled back. */
  fail(): Promise<void>;
}

/** Two rounds, so that it waits after the second of ours. */
const GATES = `
  CREATE TABLE gate (key int, passed bool);
  CREATE FUNCTION pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.passed THEN PERFORM pg_advisory_xact_lock(hashtext('gate'), NEW.key);
    ELSE INSERT INTO gate VALUES (NEW.key, true); END IF;
    RETURN NULL;
  END $$;
  CREATE CONSTRAINT TRIGGER pass_gate AFTER INSERT ON gate DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pass_gate()`;

let gates = 0;

/** Publishes an event to each channel, up to the end of placing. Resolves when the commit hangs. */
export async function hangInCommit(
  t: ExecutionContext,
  db: Pick<TestDatabase, 'url' | 'query'>,
  channels: readonly string[],
): Promise<HangingCommit> {
  gates += 1;
  const key = gates;
  if (!(await exists(db))) await db.query(GATES);
  const [keeper, publisher] = [await connect(t, db.url), await connect(t, db.url)];
  await keeper.query(`SELECT pg_advisory_lock(hashtext('gate'), $1)`, [key]);
  await publisher.query('BEGIN');
  await publisher.query("INSERT INTO outbox (channel, data) SELECT channel, '1' FROM unnest($1::text[]) AS channel", [
    channels,
  ]);
  await publisher.query('INSERT INTO gate VALUES ($1, false)', [key]);
  const { rows } = await publisher.query<{ process: number }>('SELECT pg_backend_pid() AS process');
  const process = rows[0]?.process ?? 0;
  const committed = publisher.query('COMMIT');
  committed.catch(() => undefined);
  for (let hangs = false; !hangs;) {
    const waits = await db.query(`SELECT FROM pg_locks WHERE pid = $1 AND NOT granted`, [process]);
    hangs = waits.rows.length > 0;
  }
  return {
    process,
    async succeed() {
      await keeper.query('SELECT pg_advisory_unlock_all()');
      await committed;
    },
    async fail() {
      await keeper.query('SELECT pg_cancel_backend($1)', [process]);
      await committed.catch((error: unknown) => {
        if (!(error instanceof pg.DatabaseError)) throw error;
      });
    },
  };
}

async function exists(db: Pick<TestDatabase, 'query'>): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>(`SELECT to_regclass('gate') IS NOT NULL AS found`);
  return rows[0]?.found === true;
}
