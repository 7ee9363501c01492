/** pgbench, which publishes: many clients in one process, which costs the machine little. */
import { execFile } from 'node:child_process';
import { access, constants, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

export interface Load {
  readonly clients: number;
  readonly seconds: number;
  /** For pgbench. */
  readonly script: string;
  /** Of PostgreSQL, for these sessions. */
  readonly settings?: Readonly<Record<string, string | number>> | undefined;
}

/** That connect in a second of a busy machine: pgbench counts it as time, but not in its rate. */
const CLIENTS_CONNECTED = 32;

/** Has so many clients run the script for so long; resolves with transactions a second. */
export type Pgbench = (url: string, load: Load) => Promise<number>;

/** @throws Error where there is no pgbench. */
export async function preparePgbench(folder: string): Promise<Pgbench> {
  const pgbench = await findPgbench();
  const file = path.join(folder, 'script.sql');
  return async (url, { clients, seconds, script, settings = {} }) => {
    await writeFile(file, `${script}\n`);
    const { stdout } = await promisify(execFile)(
      pgbench,
      // Without -n it would look for tables of its own.
      [
        '-n',
        '-M',
        'prepared',
        '-c',
        String(clients),
        '-j',
        '1',
        '-T',
        String(seconds + Math.floor(clients / CLIENTS_CONNECTED)),
        '-f',
        file,
        url,
      ],
      {
        env: {
          ...process.env,
          PGOPTIONS: Object.entries(settings)
            .map(([name, value]) => `-c ${name}=${value}`)
            .join(' '),
        },
      },
    );
    // Where the disk stood still for so long there is none, and no rate either.
    const rate =
      /^tps = ([\d.]+)/m.exec(stdout)?.[1] ?? /^number of transactions actually processed: (0)$/m.exec(stdout)?.[1];
    if (rate === undefined) throw new Error(`pgbench did not say how many transactions there were:\n${stdout}`);
    return Number(rate);
  };
}

/** In the PATH, or where Debian has it: there it is the program, and in the PATH a script that looks for it. */
async function findPgbench(): Promise<string> {
  const debian = '/usr/lib/postgresql';
  const versions = await readdir(debian).catch(() => []);
  const folders = [
    ...versions.toReversed().map((version) => path.join(debian, version, 'bin')),
    ...(process.env.PATH ?? '').split(path.delimiter),
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
