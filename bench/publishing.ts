/**
 * Publishing: what our triggers cost a publisher, against a plain trigger that notifies, which is what there is without us, and
 * against no trigger; with PostgreSQL's newest version, and with one that is installed.
 */
import { access, constants, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { startEmbedded } from '../packages/embedded-postgres/embedded.js';
import { openContest, type Contest } from './publish/parties.js';
import { preparePgbench } from './publish/pgbench.js';
import { BULK_ROWS, MANY, measureBulk, measureCrowd, measureWorkload, WORKLOADS, type Pace } from './publish/rates.js';
import { measureAwake, measureFullLoad } from './publish/relay.js';
import type { Result } from './result.js';

export interface PublishingOptions extends Pace {
  /** A folder with the `bin` of another PostgreSQL, which is measured, too. Default: Debian's 15, where it is installed. */
  readonly postgres: string | undefined;
  /** Only what has this in its title. */
  readonly only: string | undefined;
}

const DEBIAN_POSTGRES = '/usr/lib/postgresql/15';

/** Each result as soon as there is one. @throws Error where there is no pgbench. */
export async function* measurePublishing(options: PublishingOptions): AsyncGenerator<Result> {
  const { postgres = DEBIAN_POSTGRES } = options;
  const isThere = await access(path.join(postgres, 'bin', 'postgres'), constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!isThere && options.postgres !== undefined) throw new Error(`There is no PostgreSQL in ${postgres}.`);
  for (const binaries of [undefined, ...(isThere ? [postgres] : [])]) {
    yield* measureServer(binaries, options);
  }
}

async function* measureServer(binaries: string | undefined, options: PublishingOptions): AsyncGenerator<Result> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'outbox-bench-'));
  const pgbench = await preparePgbench(folder);
  const server = await startEmbedded({
    dataDirectory: path.join(folder, 'data'),
    binaries,
    // No checkpoint in somebody's turn.
    settings: { max_connections: '500', max_wal_size: '8GB', checkpoint_timeout: '1h' },
  });
  let contest: Contest | undefined;
  try {
    contest = await openContest(server.url, { version: server.version, pgbench });
    yield* measureAll(contest, options);
  } finally {
    await contest?.stop();
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function* measureAll(contest: Contest, options: PublishingOptions): AsyncGenerator<Result> {
  const parts = new Map<string, (title: string) => Promise<Result[]>>([
    ...WORKLOADS.map((workload) => [workload.title, () => measureWorkload(contest, workload, options)] as const),
    [`${BULK_ROWS} rows in one transaction`, (title) => measureBulk(contest, title, options)],
    [`16 clients beside ${MANY} sessions that LISTEN`, (title) => measureCrowd(contest, title, options)],
    ['insert to client at full load, 16 clients', (title) => measureFullLoad(contest, title)],
    ['a relay that looks by itself, after bursts', (title) => measureAwake(contest, title)],
  ]);
  for (const [title, measure] of parts) {
    if (options.only === undefined || title.includes(options.only)) yield* await measure(title);
  }
}
