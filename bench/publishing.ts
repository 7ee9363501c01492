/**
 * Publishing: what our triggers cost a publisher, against a plain trigger that notifies, which is what there is without us, and
 * against no trigger. Each has a database of its own with the same table, and they take turns in one run, driven by pgbench.
 * Nobody listens: a listener would cost all that notify the same, and bring the ratios nearer to 1.
 */
import { execFile } from 'node:child_process';
import { access, constants, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { migrate } from '../src/postgres/migrate.js';
import type { Result } from './result.js';
import { median } from './usage.js';

export interface PublishingOptions {
  readonly rounds: number;
  /** Of each party's turn. */
  readonly seconds: number;
}

const PARTIES = ['plain INSERT', 'NOTIFY trigger', 'outbox'] as const;
type Party = (typeof PARTIES)[number];
const BASELINE = 'NOTIFY trigger';

const NOTIFY_TRIGGER = `
  CREATE FUNCTION notify_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    PERFORM pg_notify('outbox', NEW.id::text);
    RETURN NULL;
  END $$;
  CREATE TRIGGER notify_inserted AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION notify_inserted()`;

const DATA = JSON.stringify({ order: 1, status: 'packed', note: 'x'.repeat(250) });
const INSERT = `INSERT INTO outbox (channel, data) VALUES ('orders', '${DATA}');`;
const BULK_ROWS = 100_000;
const BULK = `INSERT INTO outbox (channel, data) SELECT 'orders', '${DATA}' FROM generate_series(1, ${BULK_ROWS})`;
/** At most this many turns of so many rows: each takes a second and more. */
const BULK_ROUNDS = 7;

interface Workload {
  readonly title: string;
  readonly clients: number;
  /** For pgbench. */
  readonly script: string;
  readonly least?: number;
}

const WORKLOADS: readonly Workload[] = [
  { title: '1 client, a row in a transaction', clients: 1, script: INSERT },
  { title: '16 clients, a row in a transaction', clients: 16, script: INSERT, least: 0.75 },
  {
    title: '16 clients, a row and then 10 ms of other work in a transaction',
    clients: 16,
    script: `BEGIN;\n${INSERT}\n\\sleep 10 ms\nCOMMIT;`,
    least: 0.97,
  },
  {
    title: '1 client, 10 rows in 10 statements in a transaction',
    clients: 1,
    script: `BEGIN;\n${`${INSERT}\n`.repeat(10)}COMMIT;`,
  },
];
const MOST_BULK = 3;

/** @throws Error where there is no pgbench. */
export async function measurePublishing(
  databaseUrl: string,
  { rounds, seconds }: PublishingOptions,
): Promise<Result[]> {
  const pgbench = await findPgbench();
  const folder = await mkdtemp(path.join(os.tmpdir(), 'outbox-bench-'));
  const urls = await createDatabases(databaseUrl);
  try {
    const results: Result[] = [];
    for (const { title, clients, script, least } of WORKLOADS) {
      const file = path.join(folder, 'script.sql');
      await writeFile(file, `${script}\n`);
      const turn = (party: Party) => transactionsPerSecond(pgbench, urls[party], { file, clients, seconds });
      const rates = await takeTurns(rounds, turn);
      const ratio = median(rates.outbox.map((rate, round) => rate / (rates[BASELINE][round] ?? Number.NaN)));
      results.push({
        part: 'publish',
        title: `Publishing: ${title} (transactions a second, medians of ${rounds} turns)`,
        rows: PARTIES.map((party) => ({ trigger: party, tps: median(rates[party]) })),
        ratio,
        bar: { is: least === undefined ? 'none' : `at least ${least}`, holds: ratio >= (least ?? 0) },
      });
    }
    results.push(await measureBulk(urls));
    return results;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measureBulk(urls: Readonly<Record<Party, string>>): Promise<Result> {
  const times = await takeTurns(BULK_ROUNDS, (party) =>
    withClient(urls[party], async (client) => {
      const began = performance.now();
      await client.query(BULK);
      return (performance.now() - began) / 1000;
    }),
  );
  const ratio = median(times.outbox.map((time, round) => time / (times[BASELINE][round] ?? Number.NaN)));
  return {
    part: 'publish',
    title: `Publishing: ${BULK_ROWS} rows in one transaction (seconds, medians of ${BULK_ROUNDS} turns)`,
    rows: PARTIES.map((party) => ({ trigger: party, seconds: median(times[party]) })),
    ratio,
    bar: { is: `at most ${MOST_BULK}`, holds: ratio <= MOST_BULK },
  };
}

/** Each round in another order, so that nobody always comes after the same. */
async function takeTurns(
  rounds: number,
  turn: (party: Party) => Promise<number>,
): Promise<Record<Party, readonly number[]>> {
  const figures: Record<Party, number[]> = { 'plain INSERT': [], 'NOTIFY trigger': [], outbox: [] };
  for (const party of PARTIES) await turn(party);
  for (let round = 0; round < rounds; round += 1) {
    const from = round % PARTIES.length;
    for (const party of [...PARTIES.slice(from), ...PARTIES.slice(0, from)]) figures[party].push(await turn(party));
  }
  return figures;
}

async function transactionsPerSecond(
  pgbench: string,
  url: string,
  { file, clients, seconds }: { file: string; clients: number; seconds: number },
): Promise<number> {
  // Without -n it would look for tables of its own.
  const options = ['-n', '-M', 'prepared', '-c', String(clients), '-j', '1', '-T', String(seconds), '-f', file, url];
  const { stdout } = await promisify(execFile)(pgbench, options);
  const rate = /^tps = ([\d.]+)/m.exec(stdout)?.[1];
  if (rate === undefined) throw new Error(`pgbench did not say how many transactions there were:\n${stdout}`);
  return Number(rate);
}

/** The same table thrice, as the migrations make it. */
async function createDatabases(databaseUrl: string): Promise<Record<Party, string>> {
  const create = async (name: string) => {
    await withClient(databaseUrl, (client) => client.query(`CREATE DATABASE ${name}`));
    const url = new URL(databaseUrl);
    url.pathname = `/${name}`;
    await migrate(url.href, 'up');
    return url.href;
  };
  const urls = {
    'plain INSERT': await create('bench_plain'),
    'NOTIFY trigger': await create('bench_notify'),
    outbox: await create('bench_outbox'),
  };
  for (const party of ['plain INSERT', 'NOTIFY trigger'] as const) {
    await withClient(urls[party], async (client) => {
      const { rows } = await client.query<{ drop: string }>(
        `SELECT format('DROP TRIGGER %I ON outbox', tgname) AS drop FROM pg_trigger
         WHERE tgrelid = 'outbox'::regclass AND NOT tgisinternal`,
      );
      for (const { drop } of rows) await client.query(drop);
    });
  }
  await withClient(urls['NOTIFY trigger'], (client) => client.query(NOTIFY_TRIGGER));
  return urls;
}

async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

/** In the PATH, or where Debian has it. */
async function findPgbench(): Promise<string> {
  const debian = '/usr/lib/postgresql';
  const versions = await readdir(debian).catch(() => []);
  const folders = [
    ...(process.env.PATH ?? '').split(path.delimiter),
    ...versions.toReversed().map((version) => path.join(debian, version, 'bin')),
  ];
  for (const folder of folders) {
    const file = path.join(folder, 'pgbench');
    const isThere = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return file;
  }
  throw new Error('There is no pgbench. Install it (Debian: apt-get install postgresql), or leave out `publish`.');
}
