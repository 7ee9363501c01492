/**
 * Vacuum: whether autovacuum keeps up with a table whose every row is inserted, updated once and deleted, with the storage
 * settings of the migrations and, as the control, without. Each takes its turn with a table that is as full as it stays:
 * publishers add so many rows, as fast as they can, while pruning takes away as many. In the second phase an old
 * transaction keeps vacuum from removing anything, as a report or a forgotten session does; in the third it has ended.
 *
 *     npm run bench -- vacuum [rows] [events] [repeats]
 *
 * Autovacuum looks every second here and not every minute, so that a phase has several of its rounds. A phase has a fixed
 * number of events and not a time: on a busy machine sizes stay comparable, whatever becomes of the rates.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { channelFilter } from '../src/event/channel-filter.js';
import { openDatabase } from '../src/postgres/pool.js';
import { startEmbedded } from '../packages/embedded-postgres/embedded.js';
import { migrate } from '../src/postgres/migrate.js';
import { createPostgresArchive } from '../src/outbox/postgres-archive.js';
import { prune } from '../src/admin/prune.js';

export interface VacuumOptions {
  /** How many rows the table keeps. */
  readonly rows: number;
  /** How many are published, and as many pruned, in a phase. */
  readonly events: number;
  readonly repeats: number;
}

const SETTINGS = ['defaults', 'ours'] as const;
type Settings = (typeof SETTINGS)[number];
const PHASES = ['usual', 'held', 'after'] as const;
type Phase = (typeof PHASES)[number];

interface Figures {
  readonly published: number;
  readonly vacuums: number;
  /** Medians, in milliseconds. */
  readonly batch: number;
  readonly replay: number;
  /** MiB at the end of the phase. */
  readonly table: number;
  readonly indexes: number;
  readonly pending: number;
  readonly floorPages: number;
  /** Rows that autovacuum has still to remove, in thousands. */
  readonly dead: number;
}

const PUBLISHERS = 4;
const CHANNELS = 50;
const MEBIBYTE = 1024 * 1024;
const DATA = JSON.stringify({ order: 1, status: 'packed', note: 'x'.repeat(250) });

/** Measures on a server of its own and prints. */
export async function benchVacuum({ rows, events, repeats }: VacuumOptions): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'outbox-bench-'));
  // Commits do not wait for the disk: what is measured is the churn, and here that would be the disk's.
  const settings = {
    autovacuum_naptime: '1s',
    shared_buffers: '256MB',
    max_wal_size: '4GB',
    synchronous_commit: 'off',
  };
  const server = await startEmbedded({ dataDirectory: path.join(folder, 'data'), settings });
  try {
    console.log(
      `PostgreSQL ${server.version}, ${rows} rows kept, ${events} events in a phase; rates per second, ms, MiB`,
    );
    const { mebibytes, rate, batch } = await pruneAll(server.url, rows);
    console.log(`A million rows of ${DATA.length} bytes of data: ${mebibytes.toFixed(0)} MiB with their indexes.`);
    console.log(
      `Pruning alone, pauses included: ${rate.toFixed(0)} rows/s; a batch takes ${batch.toFixed(1)} ms (median).`,
    );
    console.log(head());
    const all: { settings: Settings; phase: Phase; figures: Figures }[] = [];
    for (let repeat = 0; repeat < repeats; repeat += 1) {
      for (const which of repeat % 2 === 0 ? SETTINGS : SETTINGS.toReversed()) {
        for await (const { phase, figures } of turn(server.url, which, rows, events)) {
          all.push({ settings: which, phase, figures });
          console.log(line(which, phase, figures));
        }
      }
    }
    console.log('medians');
    for (const phase of PHASES) {
      for (const which of SETTINGS) {
        const of = all.filter((one) => one.settings === which && one.phase === phase).map(({ figures }) => figures);
        const names = Object.keys(of[0] ?? {}) as (keyof Figures)[];
        const medians = Object.fromEntries(names.map((name) => [name, median(of.map((one) => one[name]))]));
        console.log(line(which, phase, medians as unknown as Figures));
      }
    }
  } finally {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** What a table of so many rows takes, and how fast it is pruned while nothing else happens. */
async function pruneAll(serverUrl: string, rows: number): Promise<{ mebibytes: number; rate: number; batch: number }> {
  const { url, db, drop } = await createDatabase(serverUrl, 'pruned');
  try {
    await fill(db, rows);
    const { rows: sizes } = await db.query<{ bytes: string }>(`SELECT pg_total_relation_size('outbox') AS bytes`);
    const batches: number[] = [];
    const started = performance.now();
    await prune({ url, keepSeconds: 1, onBatch: (_, milliseconds) => void batches.push(milliseconds) });
    const rate = rows / ((performance.now() - started) / 1000);
    return { mebibytes: (Number(sizes[0]?.bytes) / MEBIBYTE / rows) * 1e6, rate, batch: median(batches) };
  } finally {
    await drop();
  }
}

/** All phases with a database of its own. */
async function* turn(
  serverUrl: string,
  which: Settings,
  rows: number,
  events: number,
): AsyncGenerator<{ phase: Phase; figures: Figures }> {
  const { url, db, drop } = await createDatabase(serverUrl, which);
  if (which === 'defaults') await resetSettings(db);
  const began = await fill(db, rows);
  try {
    for (const [index, phase] of PHASES.entries()) {
      // One in the same database and one in another: either would hold vacuum back.
      const old = phase === 'held' ? [await openOld(url), await openOld(serverUrl)] : [];
      yield { phase, figures: await measure(url, db, events, began + index * events) };
      for (const client of old) await client.end();
    }
  } finally {
    await drop();
  }
}

async function createDatabase(serverUrl: string, name: string) {
  const admin = await connect(serverUrl);
  await admin.query(`CREATE DATABASE ${name}`);
  const address = new URL(serverUrl);
  address.pathname = `/${name}`;
  const url = address.href;
  await migrate(url, 'up');
  const db = await connect(url);
  return {
    url,
    db,
    async drop() {
      await db.end();
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.query('CHECKPOINT');
      await admin.end();
    },
  };
}

/** @param oldest when the oldest row that is left was created, in seconds since 1970; each that follows a second later */
async function measure(url: string, db: pg.Client, events: number, oldest: number): Promise<Figures> {
  const started = performance.now();
  const batches: number[] = [];
  const replays: number[] = [];
  let [published, pruned, seconds] = [0, 0, 0];
  const before = await vacuums(db);

  async function publish(): Promise<void> {
    const client = await connect(url);
    while (published < events) {
      published += 1;
      await client.query({
        name: 'insert',
        text: 'INSERT INTO outbox (channel, data) VALUES ($1, $2)',
        values: [`channel:${published % CHANNELS}`, DATA],
      });
    }
    seconds = (performance.now() - started) / 1000;
    await client.end();
  }

  async function pruneOften(): Promise<void> {
    while (pruned < events) {
      // As many as have been published; half a second, lest the clocks' roundings take one more.
      const keepSeconds = Date.now() / 1000 - (oldest + published - 0.5);
      await prune({
        url,
        keepSeconds,
        onBatch(rows, milliseconds) {
          pruned += rows;
          batches.push(milliseconds);
        },
      });
      await delay(500);
    }
  }

  /** A page for a client that was away as long as one can be. */
  async function replayOften(): Promise<void> {
    const log = pino({ level: 'silent' });
    const database = openDatabase({ url, applicationName: 'bench', connections: 1, timeoutSeconds: 60, log });
    const archive = createPostgresArchive(database.db);
    while (published < events) {
      const [lookup] = await archive.lookUpCursors(['0']);
      if (lookup === undefined || lookup.kind === 'unknown') throw new Error('no floor');
      const { position } = lookup.kind === 'expired' ? lookup.floor : lookup;
      const started = performance.now();
      await archive.page(channelFilter(['channel:1', 'channel:2']), position, position + 1_000_000n, 64 * 1024);
      replays.push(performance.now() - started);
      await delay(100);
    }
    await database.close();
  }

  await Promise.all([...Array.from({ length: PUBLISHERS }, publish), pruneOften(), replayOften()]);
  // What the sessions have counted reaches the statistics when they end, or a little later.
  await delay(1500);
  const { rows } = await db.query<Record<'table' | 'indexes' | 'pending' | 'floor_pages' | 'dead', number>>(
    `SELECT pg_table_size('outbox') / 1048576.0::double precision AS "table",
       pg_indexes_size('outbox') / 1048576.0::double precision AS indexes,
       pg_table_size('outbox_pending') / 1048576.0::double precision AS pending,
       pg_relation_size('outbox_floor') / 8192.0::double precision AS floor_pages,
       n_dead_tup / 1000.0::double precision AS dead
     FROM pg_stat_user_tables WHERE relid = 'outbox'::regclass`,
  );
  const [sizes] = rows;
  return {
    published: published / seconds,
    vacuums: (await vacuums(db)) - before,
    batch: median(batches),
    replay: median(replays),
    table: sizes?.table ?? Number.NaN,
    indexes: sizes?.indexes ?? Number.NaN,
    pending: sizes?.pending ?? Number.NaN,
    floorPages: sizes?.floor_pages ?? Number.NaN,
    dead: sizes?.dead ?? Number.NaN,
  };
}

async function vacuums(db: pg.Client): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `SELECT autovacuum_count::integer AS count FROM pg_stat_user_tables WHERE relid = 'outbox'::regclass`,
  );
  return rows[0]?.count ?? 0;
}

/** As the tables were made, before any setting. */
async function resetSettings(db: pg.Client): Promise<void> {
  const { rows } = await db.query<{ statement: string }>(
    `SELECT format('ALTER TABLE %s RESET (%s)', c.oid::regclass, string_agg(prefix || split_part(option, '=', 1), ', ')) AS statement
     FROM pg_class c LEFT JOIN pg_class toast ON toast.oid = c.reltoastrelid,
       LATERAL (SELECT '' AS prefix, unnest(c.reloptions) AS option
                UNION ALL SELECT 'toast.', unnest(toast.reloptions)) AS options
     WHERE c.relname IN ('outbox', 'outbox_pending', 'outbox_floor') AND c.relkind = 'r' GROUP BY c.oid`,
  );
  for (const { statement } of rows) await db.query(statement);
}

/**
 * Rows that were created one each second: as a table that has been in use for long, without its past.
 *
 * @returns when the first was, in seconds since 1970
 */
async function fill(db: pg.Client, rows: number): Promise<number> {
  const began = Math.round(Date.now() / 1000) - 2 * rows;
  await db.query('SET session_replication_role = replica');
  await db.query(
    `INSERT INTO outbox (channel, data, created_at, position)
     SELECT 'channel:' || n % ${CHANNELS}, $2::jsonb, to_timestamp($3::double precision + n - 1), n
     FROM generate_series(1, $1::integer) AS n`,
    [rows, DATA, began],
  );
  await db.query(`SELECT setval('outbox_position_seq', $1)`, [rows]);
  await db.query('RESET session_replication_role');
  await db.query('VACUUM (ANALYZE) outbox');
  await db.query('CHECKPOINT');
  return began;
}

/** A transaction with a snapshot and an id of its own, which keeps vacuum from removing what is deleted after. */
async function openOld(url: string): Promise<pg.Client> {
  const client = await connect(url);
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await client.query('SELECT txid_current()');
  return client;
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'bench' });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

const COLUMNS = [
  ['published', 0],
  ['vacuums', 0],
  ['batch', 1],
  ['replay', 2],
  ['table', 1],
  ['indexes', 1],
  ['pending', 2],
  ['floorPages', 0],
  ['dead', 0],
] as const;

function head(): string {
  return `| settings | phase | ${COLUMNS.map(([name]) => name).join(' | ')} |`;
}

function line(which: Settings, phase: Phase, figures: Figures): string {
  return `| ${which} | ${phase} | ${COLUMNS.map(([name, digits]) => figures[name].toFixed(digits)).join(' | ')} |`;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
