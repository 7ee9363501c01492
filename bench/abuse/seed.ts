/**
 * The database that is attacked: one of its own, with a large table, large compressible events before them all, and a role
 * that may connect and nothing else.
 */
import pg from 'pg';
import { migrate } from '../../src/postgres/migrate.js';
import { LARGE_ROW_BYTES, MIDDLE_ROW_BYTES } from '../../test/support/attacks/by-resume.js';

export interface Seeded {
  readonly databaseUrl: string;
  readonly strangerUrl: string;
}

const NAME = 'abuse';
const STRANGER = { name: 'bench_stranger', password: 'stranger' };
const LARGE_ROWS = 12;
const MIDDLE_ROWS = 400;
/** In one INSERT; what it takes to place them grows with their number. */
const BATCH_ROWS = 100_000;

/** @param rows of the large table, on a thousand channels `c:…`. */
export async function seed(serverUrl: string, rows: number): Promise<Seeded> {
  const server = new pg.Client({ connectionString: serverUrl });
  await server.connect();
  await server.query(`DROP DATABASE IF EXISTS ${NAME} WITH (FORCE)`);
  await server.query(`CREATE DATABASE ${NAME}`);
  await server.query(`DROP ROLE IF EXISTS ${STRANGER.name}`);
  await server.query(`CREATE ROLE ${STRANGER.name} LOGIN PASSWORD '${STRANGER.password}'`);
  await server.end();

  const url = new URL(serverUrl);
  url.pathname = `/${NAME}`;
  const databaseUrl = url.href;
  await migrate(databaseUrl, 'up');
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  for (let n = 0; n < LARGE_ROWS; n += 1) await publishLetters(database, 'large', 1, LARGE_ROW_BYTES);
  await publishLetters(database, 'middle', MIDDLE_ROWS, MIDDLE_ROW_BYTES);
  for (let from = 0; from < rows; from += BATCH_ROWS) {
    await database.query(
      `INSERT INTO outbox (channel, data)
       SELECT 'c:' || n % 1000, jsonb_build_object('n', n, 'note', repeat('x', 30))
       FROM generate_series($1::int, $2::int) AS n`,
      [from, Math.min(from + BATCH_ROWS, rows) - 1],
    );
  }
  await database.query('VACUUM ANALYZE outbox');
  await database.end();
  url.username = STRANGER.name;
  url.password = STRANGER.password;
  return { databaseUrl, strangerUrl: url.href };
}

async function publishLetters(database: pg.Client, channel: string, rows: number, bytes: number): Promise<void> {
  await database.query(
    `INSERT INTO outbox (channel, data) SELECT $1, to_jsonb(repeat('x', $2::int)) FROM generate_series(1, $3::int)`,
    [channel, bytes, rows],
  );
}
