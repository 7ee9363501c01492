/**
 * One process at a time per folder of an embedded PostgreSQL.
 *
 * PostgreSQL has a lock of its own, but it guards the server: it cannot tell a server whose relay
 * was killed, which is to be taken over, from one whose relay is alive, which is to be left alone.
 * So the file `owner` names the process that started the server, by id and by when it began, as ids
 * are used again. Node has no file locks that the kernel lets go of, so a file left by a dead
 * process is recognised and moved out of the way, and the server that it left is ended.
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { link, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { EmbeddedPostgresError, unlessCode } from './binaries.js';

const run = promisify(execFile);

export interface FolderLock {
  release(): Promise<void>;
}

/** @throws {EmbeddedPostgresError} `in-use`, `not-permitted` */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = join(folder, 'owner');
  const mine = JSON.stringify({ pid: process.pid, began: await whenBegan(process.pid), key: randomUUID() });
  const draft = `${path}.${randomUUID()}`;
  try {
    await writeFile(draft, mine);
    // A link appears with its contents or not at all, so nobody reads half an owner.
    while (!(await linked(draft, path))) await removeStale(folder, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') throw error;
    throw new EmbeddedPostgresError(
      'not-permitted',
      `${folder} may not be written by this user (${code}); an earlier run may have been another user's, such as ` +
        'root. Run as that user, or give the folder to this one, or move it away to begin anew.',
      { cause: error },
    );
  } finally {
    await rm(draft, { force: true }).catch(unlessCode('EACCES'));
  }
  return {
    async release() {
      if ((await readOwner(path)) === mine) await rm(path, { force: true });
    },
  };
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    unlessCode('EEXIST')(error);
    return false;
  }
}

async function removeStale(folder: string, path: string): Promise<void> {
  const found = await readOwner(path);
  if (found === undefined) return;
  const owner = parseOwner(found);
  const began = owner && (await whenBegan(owner.pid));
  if (owner !== undefined && began !== undefined && began === owner.began) {
    throw new EmbeddedPostgresError(
      'in-use',
      `The embedded PostgreSQL in ${folder} is in use by process ${owner.pid}. Stop that one first, or use another ` +
        'folder, or let both use one server by DATABASE_URL.',
    );
  }
  // Moved rather than deleted, and looked at again: another process may have replaced the stale
  // file by its own just now.
  const aside = `${path}.${randomUUID()}`;
  await rename(path, aside).catch(unlessCode('ENOENT'));
  const moved = await readOwner(aside);
  if (moved !== undefined && moved !== found) await linked(aside, path);
  await rm(aside, { force: true });
}

async function readOwner(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(unlessCode('ENOENT'));
}

function parseOwner(text: string): { readonly pid: number; readonly began: string | undefined } | undefined {
  try {
    const owner = JSON.parse(text) as { pid: number; began?: string };
    return { pid: owner.pid, began: owner.began };
  } catch {
    return undefined;
  }
}

/**
 * When a process began, in whatever form the system tells it; undefined when there is none, or only
 * its zombie.
 */
async function whenBegan(pid: number): Promise<string | undefined> {
  if (process.platform === 'linux') {
    const status = await readFile(`/proc/${pid}/stat`, 'utf8').catch(unlessCode('ENOENT', 'ESRCH'));
    // The name, in parentheses, may hold anything; the state is the next field, the start time the
    // 20th (proc(5)).
    const fields = status?.slice(status.lastIndexOf(')') + 2).split(' ') ?? [];
    if (fields[0] === undefined || fields[0] === 'Z' || fields[0] === 'X') return undefined;
    return `${(await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()} ${fields[19]}`;
  }
  const { stdout } = await run('ps', ['-o', 'stat=,lstart=', '-p', String(pid)]).catch(() => ({ stdout: '' }));
  const [, state, began] = /^(\S+)\s+(.+)$/m.exec(stdout.trim()) ?? [];
  return state === undefined || state.startsWith('Z') ? undefined : began;
}

/**
 * Ends the server that a killed process has left running on the data; its data is then like that of
 * any crash, or better. The folder must be locked, so that no living process can be its owner.
 */
export async function endOrphan(data: string, log: (line: string) => void): Promise<void> {
  const file = join(data, 'postmaster.pid');
  const pid = Number.parseInt((await readFile(file, 'utf8').catch(unlessCode('ENOENT'))) ?? '', 10);
  if (!Number.isSafeInteger(pid) || !send(pid, 0)) return; // PostgreSQL itself sees that such a file is stale.
  const own = await stat(data);
  const isOurs = async (): Promise<boolean> => {
    const folder = await workingFolder(pid);
    return folder !== undefined && folder.ino === own.ino && folder.dev === own.dev;
  };
  if (!(await isOurs())) {
    // After a restart of a container the same ids come up again. PostgreSQL would take any living
    // process for its own.
    if (process.platform === 'linux') await rm(file, { force: true });
    return;
  }
  log(
    `A PostgreSQL that an earlier run left behind (process ${pid}) is still running on ${data}; it is stopped first.`,
  );
  // Nothing tells of the end of a process that is not a child, so it must be asked for again and
  // again.
  for (const [signal, patienceMs] of [
    ['SIGINT', 30_000],
    ['SIGQUIT', 10_000],
    ['SIGKILL', 10_000],
  ] as const) {
    send(pid, signal);
    for (const end = Date.now() + patienceMs; Date.now() < end;) {
      if (!(await isOurs())) return;
      await delay(20);
    }
  }
  throw new EmbeddedPostgresError('in-use', `Process ${pid} does not let go of ${data}. End it, then try again.`);
}

/** False when there is no such process; the signal 0 only asks (kill(2)). */
function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * A server works in its data directory. Undefined when the process has ended (a zombie has no
 * folder) or is not ours to see.
 */
async function workingFolder(pid: number): Promise<Stats | undefined> {
  if (process.platform === 'linux') return stat(`/proc/${pid}/cwd`).catch(() => undefined);
  const { stdout } = await run('lsof', ['-a', '-p', String(pid), '-d', 'cwd', '-Fn']).catch(() => ({ stdout: '' }));
  const [, path] = /^n(.+)$/m.exec(stdout) ?? [];
  return path === undefined ? undefined : stat(path).catch(() => undefined);
}
