/**
 * Reads that are given up end in the server, through a pooler too; and migrations pass it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { checkAborted, checkLocked } from '../support/abandoned.js';
import { runCommand } from '../support/command.js';
import { BACKEND_LEEWAY_MS, createDatabase } from '../support/database.js';
import { startPgbouncer } from '../support/pgbouncer.js';

/** How often a server is asked for a state of which it gives no signal. */
const POLL_MS = 20;

test('R5: through a pooler reads that wait for a lock never have more of its sessions than HISTORY_CONNECTIONS', async (t) => {
  const database = await createDatabase(t);
  const pooler = await startPgbouncer(t, database.url, { sessions: 20 });
  await checkLocked(t, database, pooler.url);
});

test('through a pooler a read whose signal fires ends in the server and leaves its connection usable', async (t) => {
  const database = await createDatabase(t);
  const pooler = await startPgbouncer(t, database.url, { sessions: 1 });
  await checkAborted(t, database, pooler.url);
});

test('migrations pass a pooler: two at a time, and again, and none leaves a lock behind', async (t) => {
  const database = await createDatabase(t, { template: false });
  const pooler = await startPgbouncer(t, database.url, { sessions: 4 });
  const env = { DATABASE_URL: pooler.url };
  const both = await Promise.all([runCommand(['migrate'], env), runCommand(['migrate'], env)]);
  t.deepEqual(
    both.map(({ code }) => code),
    [0, 0],
    both.map(({ output }) => output).join('\n'),
  );
  t.is(both.filter(({ output }) => output.includes('Nothing to do')).length, 1);
  for (const args of [
    ['migrate', 'status'],
    ['migrate'],
    ['migrate', 'down', '--yes'],
    ['migrate', 'down'],
    ['migrate'],
  ]) {
    const { code, output } = await runCommand(args, env);
    t.is(code, 0, `${args.join(' ')}: ${output}`);
    const locks = async () =>
      (
        await database.query(`SELECT FROM pg_locks WHERE locktype = 'advisory'
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
      ).rowCount;
    // The pooler ends a session's transaction after its client has gone.
    for (const end = Date.now() + BACKEND_LEEWAY_MS; (await locks()) !== 0 && Date.now() < end;) await delay(POLL_MS);
    t.is(await locks(), 0, args.join(' '));
  }
});
