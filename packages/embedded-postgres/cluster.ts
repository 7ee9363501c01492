/**
 * The data of the embedded PostgreSQL: made once by initdb, then checked at each start.
 *
 * The folder holds `data` (the cluster) and `password` (of its superuser, 0600). A cluster is made
 * under another name and renamed when it is complete, so an interrupted initdb leaves nothing that
 * would be taken for data.
 *
 * PostgreSQL refuses to run as root. Started by root, it runs as the account that owns `data`, or,
 * for new data, as `postgres` or `nobody`. That account may not be able to enter the folders above;
 * it need not: it inherits the open folder as file descriptor 3, and `/proc/self/fd/3` leads there
 * without a look at what lies above. It gets no privilege.
 */
import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chown, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { EmbeddedPostgresError, SERVER_ENVIRONMENT, unlessCode, type Account, type Binaries } from './binaries.js';

const SUPERUSER = 'postgres';

export interface Cluster {
  /** The data directory. */
  readonly path: string;
  readonly password: string;
}

/**
 * Whom to run the server as: undefined for the user of this process, which is whenever that is not
 * root.
 *
 * @throws {EmbeddedPostgresError} `not-permitted`
 */
export async function chooseAccount(folder: string): Promise<Account | undefined> {
  const path = join(folder, 'data');
  const uid = process.getuid?.();
  const found = await stat(path).catch(unlessCode('ENOENT'));
  if (uid !== 0) {
    if (found === undefined || found.uid === uid) return undefined;
    throw new EmbeddedPostgresError(
      'not-permitted',
      `${path} belongs to user ${found.uid}, as after a run as root; PostgreSQL runs only as its owner. ` +
        `Give it to this user (sudo chown -R ${uid} ${folder}), or move ${folder} away to begin anew.`,
    );
  }
  if (process.platform !== 'linux') {
    throw new EmbeddedPostgresError(
      'not-permitted',
      'The embedded PostgreSQL can be started by root on Linux only. Run this as a normal user, or set DATABASE_URL.',
    );
  }
  if (found !== undefined && found.uid !== 0) return { uid: found.uid, gid: found.gid };

  // initdb, unlike the server, wants the account to have a name.
  const accounts = new Map<string, Account>();
  for (const line of (await readFile('/etc/passwd', 'utf8').catch(unlessCode('ENOENT')))?.split('\n') ?? []) {
    const [name, , uid, gid] = line.split(':');
    if (name !== undefined && Number(uid) > 0) accounts.set(name, { uid: Number(uid), gid: Number(gid) });
  }
  const account = accounts.get('postgres') ?? accounts.get('nobody');
  if (account === undefined) {
    throw new EmbeddedPostgresError(
      'not-permitted',
      'PostgreSQL does not run as root, and there is no account `postgres` or `nobody` to run it as. ' +
        'Add one, or run this as a normal user, or set DATABASE_URL.',
    );
  }
  if (found !== undefined) {
    throw new EmbeddedPostgresError(
      'not-permitted',
      `${path} belongs to root, and PostgreSQL does not run as root. Give it to an account ` +
        `(chown -R ${account.uid}:${account.gid} ${path}), or move ${folder} away to begin anew.`,
    );
  }
  return account;
}

/**
 * Makes the cluster if there is none. The folder must be locked.
 *
 * @throws {EmbeddedPostgresError} `other-version`, `not-permitted`, `failed`
 */
export async function ensureCluster(
  folder: string,
  binaries: Binaries,
  account: Account | undefined,
): Promise<Cluster> {
  const path = join(folder, 'data');
  // Of an initdb that was interrupted; one that outlived its parent may still be writing, and fails
  // when its files vanish.
  const leftover = { recursive: true, force: true, maxRetries: 5 };
  for (const name of await readdir(folder)) {
    if (name.startsWith('data.') || name.startsWith('password.')) await rm(join(folder, name), leftover);
  }
  if ((await stat(path).catch(unlessCode('ENOENT'))) === undefined)
    await createCluster(folder, path, binaries, account);

  const major = (await readFile(join(path, 'PG_VERSION'), 'utf8').catch(unlessCode('ENOENT')))?.trim();
  if (major === undefined) {
    throw new EmbeddedPostgresError(
      'failed',
      `${path} holds no PostgreSQL data. Move it away; a new one is then made.`,
    );
  }
  if (major !== String(binaries.major)) {
    throw new EmbeddedPostgresError(
      'other-version',
      `${path} was made by PostgreSQL ${major}, and this is PostgreSQL ${binaries.version}, which cannot read it. ` +
        `To keep the data, dump it with PostgreSQL ${major} (pg_dump) and restore it later; then move ${folder} away, ` +
        'and a new one is made.',
    );
  }
  const password = (await readFile(join(folder, 'password'), 'utf8').catch(unlessCode('ENOENT')))?.trim();
  if (password === undefined) {
    throw new EmbeddedPostgresError(
      'failed',
      `The password of the PostgreSQL in ${path} is missing: put the file ${join(folder, 'password')} back, or move ` +
        `${folder} away to begin anew.`,
    );
  }
  return { path, password };
}

/**
 * Where a server started with `stdio: [_, _, _, folder.fd]` finds its data; without an account,
 * simply where it is.
 */
export function dataArgument(path: string, account: Account | undefined): string {
  return account === undefined ? path : '/proc/self/fd/3';
}

/** Deletes what is ours in the folder, and nothing else. */
export async function removeCluster(folder: string): Promise<void> {
  await rm(join(folder, 'data'), { recursive: true, force: true });
  await rm(join(folder, 'password'), { force: true });
}

export function clusterUrl(cluster: Cluster, port: number): string {
  return `postgres://${SUPERUSER}:${cluster.password}@127.0.0.1:${port}/postgres`;
}

async function createCluster(
  folder: string,
  path: string,
  binaries: Binaries,
  account: Account | undefined,
): Promise<void> {
  const key = randomUUID();
  const fresh = join(folder, `data.${key}`);
  const secret = join(folder, `password.${key}`);
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  try {
    await writeFile(secret, `${randomBytes(24).toString('hex')}\n`, { mode: 0o600 });
    // A locale of the system sorts and folds more than ASCII, but not every system has this one.
    for (const locale of ['C.UTF-8', 'C']) {
      await rm(fresh, { recursive: true, force: true });
      await mkdir(fresh, { mode: 0o700 });
      if (account !== undefined) {
        await chown(fresh, account.uid, account.gid);
        await chown(secret, account.uid, account.gid);
      }
      const output = await initdb({ fresh, secret, locale }, binaries, account);
      if (output === undefined) break;
      if (locale === 'C' || !output.includes('invalid locale')) {
        throw new EmbeddedPostgresError('failed', `initdb could not make a PostgreSQL cluster in ${folder}: ${output}`);
      }
    }
    if (account !== undefined) await chown(secret, uid, gid);
    // The data comes last: where there is data, there is its password.
    await rename(secret, join(folder, 'password'));
    await rename(fresh, path);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    await rm(secret, { force: true });
    throw error;
  }
}

/** What initdb complained of; undefined when it succeeded. */
async function initdb(
  { fresh, secret, locale }: { readonly fresh: string; readonly secret: string; readonly locale: string },
  binaries: Binaries,
  account: Account | undefined,
): Promise<string | undefined> {
  const handles = account === undefined ? [] : await Promise.all([open(fresh), open(secret)]);
  try {
    const child = spawn(
      binaries.initdb,
      [
        `--pgdata=${dataArgument(fresh, account)}`,
        `--pwfile=${account === undefined ? secret : '/proc/self/fd/4'}`,
        `--username=${SUPERUSER}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        `--locale=${locale}`,
        '--no-sync',
      ],
      {
        ...account,
        cwd: '/',
        env: SERVER_ENVIRONMENT,
        stdio: ['ignore', 'ignore', 'pipe', ...handles.map(({ fd }) => fd)],
      },
    );
    const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    const [output, [code, signal]] = await Promise.all([
      text(child.stderr as NodeJS.ReadableStream & AsyncIterable<string>),
      ended,
    ]);
    return code === 0 ? undefined : output.trim() || `it ended with ${signal ?? `code ${code}`}`;
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
  }
}
