/**
 * Reads that are given up, by a timeout or because their clients have left, end in the server as well.
 */
import test from 'ava';
import { checkAborted, checkLocked } from './support/abandoned.js';
import { createDatabase } from './support/database.js';

test('R5: reads that wait for a lock never have more sessions of the server than HISTORY_CONNECTIONS', async (t) => {
  const database = await createDatabase(t);
  await checkLocked(t, database, database.url);
});

test('a read whose signal fires ends in the server, rejects with the reason, and leaves its connection usable', async (t) => {
  const database = await createDatabase(t);
  await checkAborted(t, database, database.url);
});
