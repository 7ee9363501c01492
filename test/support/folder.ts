/**
 * Folders for servers of a test's own, in that of the run (run.ts), which deletes it also when a test was cut off.
 */
import { chmod, chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { chooseAccount } from '../../packages/embedded-postgres/cluster.js';
import type { Account } from '../../packages/embedded-postgres/binaries.js';

/** Deleted with the test. */
export async function makeFolder(t: Pick<ExecutionContext, 'teardown'>, name: string): Promise<string> {
  const folder = await mkdtemp(join(process.env['TEST_FOLDER'] ?? tmpdir(), `${name}-`));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Gives a folder to the account that a server is to run as: never root, which PostgreSQL and PgBouncer refuse. */
export async function handOver(folder: string): Promise<Account | undefined> {
  const account = await chooseAccount(folder);
  if (account) await chown(folder, account.uid, account.gid);
  await chmod(folder, 0o700);
  return account;
}
